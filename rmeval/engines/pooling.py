"""What servers of reward models are asked and what they answer: plain dicts, no network.

| api        | server           | asked with         | answers                                                |
|------------|------------------|--------------------|--------------------------------------------------------|
| classify   | vLLM `/classify` | lists of token ids | `data[i].probs`: the head's outputs at the last token  |
| pooling    | vLLM `/pooling`  | lists of token ids | `data[i].data`: the head's outputs at every token      |
| get_reward | OpenRLHF         | texts              | `rewards[i]`: a number                                 |

vLLM applies a sigmoid or softmax unless `use_activation` is false.

What this module does not know: how a body travels, requests, scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from rmeval.engines.openai.wire import Unreadable

Api: TypeAlias = Literal["classify", "pooling", "get_reward"]
APIS: tuple[Api, ...] = ("classify", "pooling", "get_reward")

_MOST = 1e300
"""A greater number is none, as Infinity is none."""

Read: TypeAlias = list[list[list[float]]]
"""[texts][places][channels]: one place, or one per token."""


def path(api: Api) -> str:
    """Where it is asked."""
    return f"/{api}"


def body(api: Api, rows: Sequence[Any], *, model: str, activation: bool = False) -> dict[str, Any]:
    """The JSON body that asks about these texts, given as lists of ids, or as texts for `get_reward`.

    >>> body("classify", [[1, 2]], model="rm")
    {'model': 'rm', 'input': [[1, 2]], 'use_activation': False}
    >>> body("get_reward", ["Hi</s>"], model="")
    {'query': ['Hi</s>']}
    """
    if api == "get_reward":
        return {"query": list(rows)}
    asked: dict[str, Any] = {**({"model": model} if model else {}), "input": list(rows), "use_activation": activation}
    return asked if api == "classify" else {**asked, "task": "token_classify", "encoding_format": "float"}


def read(api: Api, answer: object, texts: int) -> Read:
    """The numbers in a decoded answer of status 200. Raises `Unreadable` where it holds none for every text.

    >>> read("classify", {"data": [{"index": 1, "probs": [2.0]}, {"index": 0, "probs": [1.0]}]}, 2)
    [[[1.0]], [[2.0]]]
    >>> read("pooling", {"data": [{"index": 0, "data": [[0.5], [1.5]]}]}, 1)
    [[[0.5], [1.5]]]
    >>> read("get_reward", {"rewards": [0.25, [1.5]]}, 2)
    [[[0.25]], [[1.5]]]
    """
    if not isinstance(answer, Mapping):
        raise Unreadable("the answer is no JSON object")
    if error := answer.get("error"):
        raise Unreadable("an error in an answer of status 200", error=error)
    if api == "get_reward":
        rewards = answer.get("rewards")
        if not isinstance(rewards, list) or len(rewards) != texts:
            raise Unreadable(f"no `rewards` for {texts} texts", again=False)
        return [[_numbers(reward if isinstance(reward, list) else [reward])] for reward in rewards]
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != texts or not all(isinstance(row, Mapping) for row in data):
        raise Unreadable(f"no `data` for {texts} texts", again=False)
    if any("index" in row for row in data):
        numbered = {row["index"]: row for row in data if type(row.get("index")) is int}
        if numbered.keys() != set(range(texts)):
            raise Unreadable(f"`data` does not number {texts} texts from 0: which is about which cannot be known")
        data = [numbered[i] for i in range(texts)]
    return [[_numbers(row.get("probs"))] if api == "classify" else _places(row.get("data")) for row in data]


def activated(values: Sequence[float]) -> list[float]:
    """What vLLM makes of the outputs of a head unless told otherwise: sigmoid of one, softmax of several.

    >>> activated([0.0]), activated([1.0, 1.0])
    ([0.5], [0.5, 0.5])
    """
    if len(values) == 1:
        return [1 / (1 + math.exp(-values[0])) if values[0] > -700 else 0.0]
    powers = [math.exp(value - max(values)) for value in values]
    return [power / math.fsum(powers) for power in powers]


def seem_activated(rows: Sequence[Sequence[float]]) -> bool:
    """Whether outputs look like probabilities, all of them.

    >>> seem_activated([[0.2], [0.9]]), seem_activated([[0.2], [-0.9]]), seem_activated([[0.25, 0.75]])
    (True, False, True)
    """
    within = all(0 <= value <= 1 for row in rows for value in row)
    return within and all(len(row) == 1 or abs(math.fsum(row) - 1) < 1e-3 for row in rows)


def _places(data: object) -> list[list[float]]:
    if isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        return [_numbers(row) for row in data]
    raise Unreadable(
        "one list of numbers per text instead of one per token: the server pools. Start it with --pooler-config "
        '\'{"task": "token_classify"}\'',
        again=False,
    )


def _numbers(values: object) -> list[float]:
    """Numbers; a null stands for one that JSON cannot hold."""
    if not isinstance(values, list) or not all(v is None or type(v) in (int, float) for v in values):
        raise Unreadable("a text without numbers", again=False)
    return [math.nan if v is None or abs(v) > _MOST else float(v) for v in values]
