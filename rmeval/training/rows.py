"""Training data: files -> checked rows of one kind, drawn by problem, split by prompt.

    read_comparisons   bt      read_rankings   bt with K responses      read_outcomes   orm
    read_steps         prm     read_returns    value                    read_dialogues  sft

A source is a file (or several), `hf:NAME` for a data set on the hub, or `arithmetic` for the train side of the embedded
world. What a row may look like is told by `rmeval.training.schemas`; other projects' rows are adapted, and the adapter
is named. A file is used whole or not at all: up to 20 bad rows are named at once, each with its line.

What this module does not know: tokenizers, models, losses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from rmeval import strict_json
from rmeval.errors import UsageError, near_miss
from rmeval.progress import note
from rmeval.readers.fields import BadRow, cluster_of
from rmeval.readers.rows import SUFFIXES, Row, faults_message, read_file
from rmeval.training import schemas
from rmeval.training.adapters import adapt
from rmeval.training.schemas import (
    Comparison,
    Dialogue,
    LabelScale,
    MCRule,
    Outcome,
    Ranking,
    Return,
    Steps,
    Turns,
)
from rmeval.types import Message

__all__ = [
    "EMBEDDED",
    "Comparison",
    "Dialogue",
    "LabelScale",
    "Loaded",
    "MCRule",
    "Outcome",
    "Ranking",
    "Return",
    "Steps",
    "data_digest",
    "load",
    "raw_rows",
    "read_comparisons",
    "read_dialogues",
    "read_outcomes",
    "read_rankings",
    "read_returns",
    "read_steps",
    "split_by_prompt",
]

EMBEDDED = "arithmetic"
_EMBEDDED_PAIRS, _EMBEDDED_PROBLEMS = 10_000, 400

Source = str | Path | Sequence[str | Path]
Ties = Literal["drop", "half"]


class Grouped(Protocol):
    """A row that says which prompt it belongs to."""

    @property
    def group(self) -> str:
        """What is never on both sides of a split."""


R = TypeVar("R", bound=Grouped)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[R]):
    """The rows of a source, before any are drawn."""

    rows: list[R]
    places: list[str]
    """Per row where it stands: `pairs.jsonl line 12`."""
    adapters: tuple[str, ...]
    """Names of the adapters that were needed; empty for rows in our own schema."""


def read_comparisons(
    source: Source,
    *,
    margin_field: str | None = "margin",
    margin_from: tuple[str, str] | None = None,
    ties: Ties = "drop",
    min_gap: float = 0.0,
    from_outcomes: bool = False,
    samples: int | None = None,
    seed: int = 0,
) -> list[Comparison]:
    """All comparisons of a source; a ranking of K responses gives all its pairs, equal ones only with `ties="half"`.

    `margin_from` are two columns whose difference is the margin. Scores, or those two, closer than `min_gap` tie.
    With `from_outcomes` the rows are those of `read_outcomes`, and every right response is better than every wrong
    one to its prompt. `samples` keeps that many prompts, drawn with `seed` and left in file order. Raises
    `UsageError`, here and below, with up to 20 bad rows, each with its line.
    """
    if from_outcomes:
        return _outcome_pairs(read_outcomes(source, samples=samples, seed=seed))
    if _embedded(source):
        from rmeval.arithmetic import training_pairs

        made = training_pairs(samples or _EMBEDDED_PAIRS, seed)
        return [one for pair in made for one in schemas.comparisons(dict(pair), pair["id"])]

    columns: set[str] = set()

    def parse(row: Mapping[str, Any], fallback: str) -> list[Comparison]:
        columns.update(row)
        if row.get("responses") is not None and row.get("chosen") is None:
            return _pairs(schemas.ranking(row, fallback), row.get("scores"), min_gap, ties)
        found = schemas.comparisons(row, fallback, margin_field=margin_field, margin_from=margin_from)
        if margin_from is None or all(abs(one.margin) >= min_gap for one in found):
            return found
        return [replace(one, margin=0.0, target=0.5) for one in found if ties == "half"]

    found = load(source, "bt", parse)
    # rows may lack a margin, but a column that was named, and named wrongly, would be none in silence
    if margin_field not in (None, "margin", *columns) and (near := near_miss(margin_field or "", columns)):
        raise UsageError(f"--margin {margin_field}: no row of {source} has this column. {near}")
    return _drawn(found, samples, seed)


def read_rankings(source: Source, *, min_gap: float = 0.0, samples: int | None = None, seed: int = 0) -> list[Ranking]:
    """All rankings of a source; a row of chosen and rejected is a ranking of two."""
    if _embedded(source):
        return _embedded_rankings(samples, seed)
    return _drawn(load(source, "bt", lambda row, i: [schemas.ranking(row, i, min_gap=min_gap)]), samples, seed)


def read_outcomes(
    source: Source, *, label_scale: LabelScale = "auto", samples: int | None = None, seed: int = 0
) -> list[Outcome]:
    """All labelled responses of a source; a row of several completions gives one each.

    Labels are 0 and 1, or true and false; with the `ternary` scale of step labels -1 and 1.
    """
    if _embedded(source):
        return [
            Outcome(one.id, _asked(one.prompt), "\n\n".join(one.steps), float(one.right), _group(one.prompt))
            for one in _rollouts(samples, seed)
        ]
    return _drawn(load(source, "orm", lambda row, i: schemas.outcomes(row, i, label_scale=label_scale)), samples, seed)


def read_steps(
    source: Source,
    *,
    soft: bool = False,
    label_scale: LabelScale = "auto",
    mc_rule: MCRule = "soft",
    samples: int | None = None,
    seed: int = 0,
) -> list[Steps]:
    """All responses with labelled steps of a source.

    Integers are -1, 0 and 1. A file that holds 0 and never -1 could mean 0 as wrong or as neutral, and is refused until
    `label_scale` says `binary` or `ternary`. With `soft`, labels are rates in [0, 1]; `mc_rule` makes labels of
    rollouts: the rate itself, right if `any` rollout is, or from a rate of one half on (also what hard labels take
    unless told otherwise).
    """
    if _embedded(source):
        return [
            Steps(one.id, _asked(one.prompt), one.steps, _embedded_labels(one.step_labels, soft), _group(one.prompt))
            for one in _rollouts(samples, seed)
        ]

    def parse(row: Mapping[str, Any], fallback: str) -> list[Steps]:
        return [schemas.steps(row, fallback, soft=soft, label_scale=label_scale, mc_rule=mc_rule)]

    return _drawn(load(source, "prm", parse, ambiguous=not soft and label_scale == "auto"), samples, seed)


def read_returns(
    source: Source, *, reward_field: str = "reward", samples: int | None = None, seed: int = 0
) -> list[Return]:
    """All rewarded responses of a source."""
    if _embedded(source):
        return [
            Return(one.id, _asked(one.prompt), "\n\n".join(one.steps), float(one.right), (), _group(one.prompt))
            for one in _rollouts(samples, seed)
        ]
    parse = lambda row, i: [schemas.returns(row, i, reward_field=reward_field)]  # noqa: E731 - as short as it is
    return _drawn(load(source, "value", parse), samples, seed)


def read_dialogues(source: Source, *, samples: int | None = None, seed: int = 0) -> list[Dialogue]:
    """All conversations of a source; of the embedded world, the right solutions."""
    if _embedded(source):
        return [
            Dialogue(
                one.id,
                (*_asked(one.prompt), {"role": "assistant", "content": "\n\n".join(one.steps)}),
                _group(one.prompt),
            )
            for one in _rollouts(samples, seed)
            if one.right
        ]
    return _drawn(load(source, "sft", lambda row, i: [schemas.dialogue(row, i)]), samples, seed)


# --- files -----------------------------------------------------------------------------------------------------------


def load(
    source: Source, kind: str, parse: Callable[[Mapping[str, Any], str], list[R]], *, ambiguous: bool = False
) -> Loaded[R]:
    """All rows of a source, `parse`d one by one; `ambiguous` refuses step labels of which nobody knows the scale."""
    sources = [source] if isinstance(source, str | Path) else list(source)
    found: Loaded[R] = Loaded([], [], ())
    for one in sources:
        part = _load(str(one), kind, parse, ambiguous)
        adapters = tuple(dict.fromkeys((*found.adapters, *part.adapters)))
        found = Loaded(found.rows + part.rows, found.places + part.places, adapters)
    _one_group_per_prompt(found)
    return found


def _load(source: str, kind: str, parse: Callable[[Mapping[str, Any], str], list[R]], ambiguous: bool) -> Loaded[R]:
    raw = list(raw_rows(source))
    if not raw:
        raise UsageError(f"{source}: holds no rows")
    faults: list[str] = []
    adapter, rows = adapt(kind, raw, faults)
    if adapter is not None:
        unused = len(raw) - len(faults) - len({row.place for row in rows})
        more = f"; {unused} of {len(raw)} rows say nothing that it can use" if unused and not adapter.together else ""
        note(f"{source}: rows of another project, read with the adapter `{adapter.name}`{more}")
    if ambiguous and (adapter is None or not adapter.scaled):
        _refuse_ambiguous(source, rows)
    found: list[R] = []
    places: list[str] = []
    for number, row in enumerate(rows):
        try:
            parsed = parse(row.values, str(number))
        except BadRow as fault:
            faults.append(f"{row.place}: {fault}")
        else:
            found += parsed
            places += [row.place] * len(parsed)
    if faults:
        raise UsageError(faults_message(f"{source}: {len(faults)} of {len(raw)} rows cannot be used", faults))
    if not found:
        raise UsageError(f"{source}: none of {len(raw)} rows can be used for {kind}")
    return Loaded(found, places, () if adapter is None else (adapter.name,))


def raw_rows(source: str) -> Iterator[Row]:
    """The rows of one source as they stand there. Raises `UsageError`."""
    if source.startswith("hf:"):
        from rmeval.readers.hub import read_hub

        hub, _, split = source.removeprefix("hf:").partition(":")
        hub, _, revision = hub.partition("@")
        return read_hub(hub, revision or "main", None, split or "train", ())
    path = Path(source).expanduser()
    if not path.is_file():
        near = near_miss(path.name, _neighbours(path))
        raise UsageError(
            f"--data {source}: no such file. {near}{' ' if near else ''}It takes a file with rows "
            f"({', '.join(SUFFIXES)}), hf:NAME for a data set on the hub, or `{EMBEDDED}` for the embedded world"
        )
    return iter(_object_of_lists(path) or read_file(path, path.name))


def _object_of_lists(path: Path) -> list[Row] | None:
    """The rows of a JSON file that is one object of lists of rows; None for any other file."""
    if path.suffix != ".json":
        return None
    with path.open("rb") as handle:
        first = handle.readline(4096).strip()
    # JSONL by the name of .json has a whole object in its first line
    if first != b"{":
        return None
    whole = strict_json.read(path)
    if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in whole.values()):
        raise UsageError(f"{path}: one object, where a list of objects or one object per line is expected")
    return [Row(row, f"{path.name} {key}[{i}]") for key, rows in whole.items() for i, row in enumerate(rows)]


def _neighbours(path: Path) -> list[str]:
    folder = path.parent
    return [EMBEDDED, *(p.name for p in folder.iterdir())] if folder.is_dir() else [EMBEDDED]


def _refuse_ambiguous(source: str, rows: Sequence[Row]) -> None:
    found = [(row.place, schemas.integer_labels(row.values)) for row in rows]
    every: set[int] = set().union(*(labels for _, labels in found))
    if 0 in every and every <= {0, 1}:
        place = next(place for place, labels in found if 0 in labels)
        raise UsageError(
            f"{place}: step label 0, and {source} holds no -1: is 0 wrong or neutral? --label-scale binary reads 0 as "
            "wrong and 1 as right, --label-scale ternary reads 0 as neutral"
        )


def _one_group_per_prompt(loaded: Loaded[R]) -> None:
    """A prompt in two groups could be on both sides of a split."""
    if not any(row.group.startswith("group ") for row in loaded.rows):
        return
    first: dict[str, tuple[str, str]] = {}
    faults = []
    for row, place in zip(loaded.rows, loaded.places, strict=True):
        turns: Turns = getattr(row, "prompt", ()) or getattr(row, "messages", ())
        prompt = cluster_of(tuple(Message(turn["role"], turn["content"]) for turn in turns))
        group, before = first.setdefault(prompt, (row.group, place))
        if group != row.group:
            faults.append(f"{place}: the prompt of {before} again, in another group: a prompt has one group")
    if faults:
        raise UsageError(faults_message(f"{len(faults)} rows would put a prompt on both sides of the split", faults))


def _drawn(loaded: Loaded[R], samples: int | None, seed: int) -> list[R]:
    """The rows of `samples` problems, in their order; a problem is a group, and may have several rows."""
    groups = list(dict.fromkeys(row.group for row in loaded.rows))
    if samples is None or samples >= len(groups):
        return loaded.rows
    kept = {groups[i] for i in random.Random(seed).sample(range(len(groups)), samples)}  # noqa: S311 - must repeat
    return [row for row in loaded.rows if row.group in kept]


# --- pairs out of other rows -----------------------------------------------------------------------------------------


def _pairs(ranking: Ranking, scores: Sequence[float] | None, min_gap: float, ties: Ties) -> list[Comparison]:
    """Every two responses; those with scores closer than `min_gap` tie, whatever stands between them."""
    found = []
    for i, j in combinations(range(len(ranking.levels)), 2):
        close = scores is not None and abs(scores[i] - scores[j]) < min_gap
        tied = close or ranking.levels[i] == ranking.levels[j]
        better, worse = (i, j) if ranking.levels[i] <= ranking.levels[j] else (j, i)
        if not tied or ties == "half":
            name, target = f"{ranking.id}/{better}>{worse}", 0.5 if tied else 1.0
            texts = ranking.responses[better], ranking.responses[worse]
            found.append(Comparison(name, ranking.prompt, *texts, 0.0, ranking.group, target))
    return found


def _outcome_pairs(outcomes: Sequence[Outcome]) -> list[Comparison]:
    prompts: dict[str, list[Outcome]] = {}
    for one in outcomes:
        prompts.setdefault(json.dumps(one.prompt), []).append(one)
    pairs = [
        Comparison(f"{right.id}>{wrong.id}", right.prompt, right.response, wrong.response, 0.0, right.group)
        for same in prompts.values()
        for right in same
        for wrong in same
        if right.label > wrong.label
    ]
    if not pairs:
        raise UsageError("no prompt has a right and a wrong response: there is no pair to train on")
    return pairs


# --- the embedded world ----------------------------------------------------------------------------------------------


def _embedded(source: Source) -> bool:
    """Whether a source is the embedded world, alone: its rows are drawn, not read."""
    only = source if isinstance(source, str | Path) or len(source) != 1 else source[0]
    return only == EMBEDDED and not Path(EMBEDDED).exists()


def _rollouts(samples: int | None, seed: int) -> list[Any]:
    from rmeval.arithmetic.rollouts import rollouts

    return list(rollouts(samples or _EMBEDDED_PROBLEMS, seed))


def _embedded_rankings(samples: int | None, seed: int) -> list[Ranking]:
    problems: dict[str, list[Any]] = {}
    for one in _rollouts(samples, seed):
        problems.setdefault(one.prompt, []).append(one)
    return [
        Ranking(
            same[0].id.rpartition("/")[0],
            _asked(prompt),
            tuple("\n\n".join(one.steps) for one in same),
            tuple(int(not one.right) for one in same),
            _group(prompt),
        )
        for prompt, same in problems.items()
    ]


def _embedded_labels(labels: Sequence[int], soft: bool) -> tuple[float, ...]:
    return tuple(float(label > 0) if soft else float(label) for label in labels)


def _asked(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def _group(text: str) -> str:
    return cluster_of((Message("user", text),))


# --- split and digest ------------------------------------------------------------------------------------------------


def split_by_prompt(rows: Sequence[R], val_ratio: float, seed: int) -> tuple[list[R], list[R]]:
    """(train, validation); a hash of group and seed decides, so that no prompt is on both sides.

    Raises `UsageError` when one side would be empty.
    """
    train = [one for one in rows if not held_out(one.group, val_ratio, seed)]
    validation = [one for one in rows if held_out(one.group, val_ratio, seed)]
    if not train or (val_ratio and not validation):
        raise UsageError(
            f"--val-ratio {val_ratio} leaves {len(train)} rows to train on and {len(validation)} to validate on, "
            f"of {len({one.group for one in rows})} prompts; more data, another ratio or --val-ratio 0"
        )
    return train, validation


def held_out(group: str, val_ratio: float, seed: int) -> bool:
    """Whether a prompt stands on the validation side."""
    return int(hashlib.sha256(f"{seed} {group}".encode()).hexdigest()[:15], 16) / 16**15 < val_ratio


def data_digest(rows: Iterable[Any]) -> str:
    """sha256 over everything that training sees of rows of any kind: all but their ids and groups."""
    digest = hashlib.sha256()
    for one in rows:
        seen = [getattr(one, f.name) for f in dataclasses.fields(one) if f.name not in {"id", "group"}]
        digest.update(json.dumps(seen, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
