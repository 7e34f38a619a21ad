"""A checkpoint's texts as ids within its limit, for engines that run its weights elsewhere or in another library.

Templates, places, truncation and the checks of texts are those of the transformers engine, so that a score means the
same whoever computes it.

What this module does not know: what runs the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rmeval.engines.encoding import Encoded
from rmeval.engines.transformers import TransformersEngine
from rmeval.engines.writing import Written
from rmeval.errors import UsageError
from rmeval.types import JSON, Finish, Plan, Reply, Request


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A request as ids that are within the limit."""

    encoded: Encoded
    ids: list[int]
    places: tuple[int, ...]
    """What is read, as places among the ids; `NOWHERE` for what was cut off."""

    def reply(self, values: Sequence[Sequence[float]], *, served: str = "") -> Reply:
        """The reply of these values, [places][channels]."""
        n_tokens = len(self.encoded.ids)
        return Reply(tuple(map(tuple, values)), None, n_tokens, len(self.ids) < n_tokens, served=served)

    def without(self, reason: str, *, attempts: int = 1) -> Reply:
        """The reply that says why there are no values."""
        n_tokens = len(self.encoded.ids)
        return Reply(reason=reason, n_tokens=n_tokens, truncated=len(self.ids) < n_tokens, attempts=attempts)


def stated_ends(source: str, revision: str | None) -> tuple[int, ...]:
    """The ids that end a text as `generation_config.json` says; () without one, `UsageError` where they are no ids."""
    from transformers import GenerationConfig

    try:
        said = GenerationConfig.from_pretrained(source, revision=revision).eos_token_id
        return tuple(map(int, said if isinstance(said, list) else () if said is None else (said,)))
    except OSError:  # a checkpoint need not have one
        return ()
    except Exception as fault:  # noqa: BLE001 - what transformers makes of odd values has no common base
        raise UsageError(f"model {source}: generation_config.json cannot be used: {fault}") from None


class Texts(TransformersEngine):
    """The transformers engine without its weights: what it would read, and where."""

    def laid_out(self, requests: Sequence[Request]) -> list[LaidOut]:
        """Requests that the plan has not settled, as ids."""
        found = []
        for request, encoded in zip(requests, self._encoded(requests), strict=True):
            if encoded is None:
                raise ValueError("a request that the plan settled cannot be run")
            ids = self._cut(encoded.ids, self._room(request))
            places = (len(ids) - 1,) if request.at in ("last", "next") else tuple(self._kept_places(encoded))
            found.append(LaidOut(encoded, ids, places))
        return found

    @cached_property
    def stops(self) -> frozenset[int]:
        """The ids that end what a language model writes."""
        said = stated_ends(self.checkpoint.source, self.checkpoint.revision)
        return frozenset(int(t) for t in (*said, self.tokenizer.eos_token_id, self.encoder.turn_end) if t is not None)

    def said(self, row: LaidOut, ids: list[int], finish: Finish) -> Reply:
        """The reply of a language model that wrote these ids after a text."""
        return self._said(row.encoded, row.ids, Written(ids, finish=finish), self.stops)

    def one_by_one(self, requests: Sequence[Request]) -> Plan:
        """The plan in the order of the requests, so that candidates of one prompt follow each other, each by itself."""
        planned = self.plan(requests)
        return replace(planned, batches=tuple((i,) for i in sorted(i for batch in planned.batches for i in batch)))

    def identity(self) -> dict[str, JSON]:
        """What of the fingerprint is about the weights and the texts, and not about what runs them."""
        ours = self.fingerprint()
        return {name: value for name, value in ours.items() if name not in ("engine", "reading", "attention", "layout")}
