"""One row of training data -> checked rows of one kind. A row is an object; fields that are not named are ignored.

    bt     {prompt, chosen, rejected, margin?}     no prompt where both are whole conversations that share it
    bt K   {prompt, responses, ranking}            0-based, best first; or `scores`, where equal ones tie
    orm    {prompt, response, label}               or `completions` with a list of `labels`, `gold` or `rewards`
    prm    {prompt, steps, labels}                 -1 0 +1, true false, or rates; or `mc`: [[right, rollouts], ...]
    value  {prompt, response, reward}              or `token_rewards`
    sft    {messages}                              or {prompt, response}

All of them may have `id` and `group`. A prompt is a text or a list of messages; a response is a text or messages. In a
Harmony response the `final` channel alone counts.

What this module does not know: files, other projects' columns, tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rmeval.errors import near_miss
from rmeval.readers.fields import BadRow, cluster_of, conversation, shared_prompt
from rmeval.readers.fields import response as one_response
from rmeval.training.harmony import final_text
from rmeval.types import Message

LabelScale: TypeAlias = Literal["auto", "binary", "ternary"]
MCRule: TypeAlias = Literal["soft", "any", "threshold"]
Turns: TypeAlias = tuple[dict[str, str], ...]
"""Messages as chat templates take them."""

THRESHOLD = 0.5
"""Rate from which a step counts as right, where rollouts become a hard label."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt with a better and a worse response."""

    id: str
    prompt: Turns
    """The turns before the response."""
    chosen: str
    rejected: str
    margin: float
    """By how much chosen should win, in reward units; 0 where the data do not say."""
    group: str
    """Digest of the prompt, or the row's own `group`: what shares it stays on one side of the split."""
    target: float = 1.0
    """Probability that chosen is the better one; 0.5 for a tie."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One prompt with several responses in order."""

    id: str
    prompt: Turns
    responses: tuple[str, ...]
    levels: tuple[int, ...]
    """Per response its place, 0 for the best; equal places are ties."""
    group: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One response and whether it is right."""

    id: str
    prompt: Turns
    response: str
    label: float
    """1 right, 0 wrong."""
    group: str


@dataclass(frozen=True, slots=True)
class Steps:
    """One response in steps, and a label for each."""

    id: str
    prompt: Turns
    steps: tuple[str, ...]
    labels: tuple[float, ...]
    """Per step -1 wrong, 0 neutral, +1 right; with soft labels the rate of right continuations in [0, 1]; NaN: none."""
    group: str


@dataclass(frozen=True, slots=True)
class Return:
    """One response and what it earned."""

    id: str
    prompt: Turns
    response: str
    reward: float
    """At the end; NaN where `token_rewards` say it."""
    token_rewards: tuple[float, ...]
    """Per token of the response; empty where `reward` says it."""
    group: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation whose assistant is to be imitated; the last turn is the assistant's."""

    id: str
    messages: Turns
    group: str
    """Digest of the turns before the first answer."""


Row: TypeAlias = Comparison | Ranking | Outcome | Steps | Return | Dialogue
"""A row of any kind."""


def comparisons(
    row: Mapping[str, Any],
    fallback: str,
    *,
    margin_field: str | None = "margin",
    margin_from: tuple[str, str] | None = None,
) -> list[Comparison]:
    """The comparison of a row of pairs. Raises `BadRow`, here and below, with what is wrong and no place.

    `margin_from` are two columns whose difference is the margin, such as the scores of chosen and rejected.
    """
    _demand(row, "chosen", "rejected")
    if row.get("prompt") is None:
        prompt, chosen, rejected = shared_prompt(row["chosen"], row["rejected"])
    else:
        prompt = conversation(row["prompt"])
        chosen, rejected = (one_response(row[name], prompt, name) for name in ("chosen", "rejected"))
    margin = 0.0
    if margin_from is not None:
        for name in margin_from:
            if row.get(name) is None:
                raise BadRow(f"no {name!r}, which the margin is made from. {near_miss(name, row)}".rstrip())
        margin = number(row[margin_from[0]], margin_from[0]) - number(row[margin_from[1]], margin_from[1])
    elif margin_field is not None and row.get(margin_field) is not None:
        margin = number(row[margin_field], margin_field)
    name, group = _names(row, fallback, prompt)
    return [Comparison(name, _turns(prompt), _shown(chosen), _shown(rejected), margin, group)]


def ranking(row: Mapping[str, Any], fallback: str, *, min_gap: float = 0.0) -> Ranking:
    """The ranking of a row of K responses, or of a pair.

    Scores closer than `min_gap` to the best of a level join that level: ratings of 4 and 3.5 tie at a gap of 1.
    """
    if "responses" not in row and row.get("chosen") is not None:
        [pair] = comparisons(row, fallback, margin_field=None)
        return Ranking(pair.id, pair.prompt, (pair.chosen, pair.rejected), (0, 1), pair.group)
    _demand(row, "prompt", "responses")
    prompt = conversation(row["prompt"])
    responses = _list(row["responses"], "responses")
    if len(responses) < 2:
        raise BadRow(f"'responses' must hold at least 2, found {len(responses)}")
    texts = tuple(_shown(one_response(one, prompt, f"responses[{i}]")) for i, one in enumerate(responses))
    if (row.get("ranking") is None) == (row.get("scores") is None):
        raise BadRow("needs either 'ranking' or 'scores'" + (", has both" if row.get("scores") is not None else ""))
    if row.get("ranking") is not None:
        order = _list(row["ranking"], "ranking")
        if any(isinstance(i, bool) or not isinstance(i, int) for i in order) or sorted(order) != [*range(len(texts))]:
            raise BadRow(
                f"'ranking' must name each of the {len(texts)} responses once, 0-based and best first; found {order}"
            )
        levels = tuple(order.index(i) for i in range(len(texts)))
    else:
        scores = [number(score, f"scores[{i}]") for i, score in enumerate(_list(row["scores"], "scores"))]
        if len(scores) != len(texts):
            raise BadRow(f"{len(texts)} responses and {len(scores)} scores")
        levels = _levels(scores, min_gap)
    name, group = _names(row, fallback, prompt)
    return Ranking(name, _turns(prompt), texts, levels, group)


def _levels(scores: Sequence[float], min_gap: float) -> tuple[int, ...]:
    """0 for the best; a score joins the level above unless it is lower than that level's best, by `min_gap` at least.

    >>> _levels([3.0, 5.0, 4.5, 3.0], 0.0), _levels([3.0, 5.0, 4.5, 3.0], 1.0)
    ((2, 0, 1, 2), (1, 0, 0, 1))
    """
    best, level, levels = math.inf, -1, [0] * len(scores)
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if scores[i] < best and best - scores[i] >= min_gap:
            best, level = scores[i], level + 1
        levels[i] = level
    return tuple(levels)


def outcomes(row: Mapping[str, Any], fallback: str, *, label_scale: LabelScale = "auto") -> list[Outcome]:
    """The labelled response of a row, or all of a row with `completions`; the ternary scale has -1 for 0."""
    if row.get("response") is None and row.get("completions") is not None:
        _demand(row, "prompt")
        prompt = conversation(row["prompt"])
        completions = _list(row["completions"], "completions")
        # in a pool of samples `rewards` are a model's scores and `gold` the truth; a file with rewards alone may mean
        # a verifier's 0 and 1
        truth = next((name for name in ("labels", "gold", "rewards") if row.get(name) is not None), None)
        if truth is None:
            raise BadRow("has 'completions' and none of 'labels', 'gold', 'rewards'")
        labels = [_right(label, f"{truth}[{i}]", label_scale) for i, label in enumerate(_list(row[truth], truth))]
        if len(labels) != len(completions):
            raise BadRow(f"{len(completions)} completions and {len(labels)} {truth}")
        name, group = _names(row, fallback, prompt)
        texts = [_shown(one_response(one, prompt, f"completions[{i}]")) for i, one in enumerate(completions)]
        pairs = enumerate(zip(texts, labels, strict=True))
        return [Outcome(f"{name}/{i}", _turns(prompt), text, label, group) for i, (text, label) in pairs]
    _demand(row, "prompt", "response", "label")
    prompt = conversation(row["prompt"])
    text = _shown(one_response(row["response"], prompt, "response"))
    name, group = _names(row, fallback, prompt)
    return [Outcome(name, _turns(prompt), text, _right(row["label"], "label", label_scale), group)]


def _right(value: Any, name: str, scale: LabelScale) -> float:
    wrong = -1 if scale == "ternary" else 0
    if isinstance(value, bool) or (isinstance(value, int | float) and value in {wrong, 1}):
        return float(value > 0)
    more = "; rewards of a model are no truth: give it as 'labels' or 'gold'" if name.startswith("rewards") else ""
    raise BadRow(f"{name!r} must be {wrong} or 1, or true or false, found {value!r}{more}")


def steps(
    row: Mapping[str, Any],
    fallback: str,
    *,
    soft: bool = False,
    label_scale: LabelScale = "auto",
    mc_rule: MCRule = "soft",
) -> Steps:
    """The labelled steps of a row. Integers 0 and 1 are read on `label_scale`: binary makes 0 wrong, else neutral."""
    _demand(row, "prompt", "steps")
    prompt = conversation(row["prompt"])
    texts = _list(row["steps"], "steps")
    if not texts:
        raise BadRow("'steps' is empty")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadRow(f"'steps[{i}]' must be a text, found {text!r}")
    if (row.get("labels") is None) == (row.get("mc") is None):
        raise BadRow("needs either 'labels' or 'mc'" + (", has both" if row.get("mc") is not None else ""))
    source = "labels" if row.get("labels") is not None else "mc"
    given = _list(row[source], source)
    if len(given) != len(texts):
        raise BadRow(f"{len(texts)} steps and {len(given)} {source}")
    if source == "mc":
        labels = [_rollouts(one, f"mc[{i}]", soft, mc_rule) for i, one in enumerate(given)]
    elif soft:
        labels = [_rate(one, f"labels[{i}]") for i, one in enumerate(given)]
    else:
        labels = [_grade(one, f"labels[{i}]", label_scale) for i, one in enumerate(given)]
    name, group = _names(row, fallback, prompt)
    return Steps(name, _turns(prompt), tuple(texts), tuple(labels), group)


def integer_labels(row: Mapping[str, Any]) -> set[int]:
    """The integers among a row's step labels; booleans say right and wrong and are none."""
    given = row.get("labels") or ()
    numbers = [x for x in given if isinstance(x, int | float) and not isinstance(x, bool)] if _is_list(given) else []
    return {int(x) for x in numbers if math.isfinite(x) and x == int(x)}


def _grade(value: Any, name: str, scale: LabelScale) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool):
        return 1.0 if value else -1.0
    allowed = {0, 1} if scale == "binary" else {-1, 0, 1}
    if isinstance(value, int | float) and value in allowed:
        return -1.0 if scale == "binary" and value == 0 else float(value)
    if isinstance(value, float) and 0 < value < 1:
        raise BadRow(f"{name!r} is {value!r}: rates in [0, 1] are trained on with --soft")
    meant = "0 or 1 (--label-scale binary)" if scale == "binary" else "-1, 0 or 1"
    raise BadRow(f"{name!r} must be {meant}, true, false or null, found {value!r}")


def _rate(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value)
    raise BadRow(f"{name!r} must be a rate in [0, 1] (--soft), found {value!r}")


def rollout_counts(value: Any, name: str) -> tuple[int, int]:
    """(right, rollouts) of a step, one rollout at least. Raises `BadRow` for anything else."""
    counts = value if _is_list(value) and len(value) == 2 else None
    if counts is None or any(isinstance(n, bool) or not isinstance(n, int) for n in counts):
        raise BadRow(f"{name!r} must be [right, rollouts], found {value!r}")
    right, rollouts = counts
    if not 0 <= right <= rollouts or not 0 < rollouts <= 10**12:
        raise BadRow(f"{name!r} must be at most as many right ones as rollouts and one rollout at least, found {value}")
    return right, rollouts


def _rollouts(value: Any, name: str, soft: bool, rule: MCRule) -> float:
    """The label of [right, rollouts]: hard -1 or +1, soft a rate, of which `any` and `threshold` make 0 or 1.

    >>> [_rollouts([3, 100], "mc", soft, rule) for soft in (True, False) for rule in ("soft", "any", "threshold")]
    [0.03, 1.0, 0.0, -1.0, 1.0, -1.0]
    """
    right, rollouts = rollout_counts(value, name)
    rate: float = right / rollouts
    if soft and rule == "soft":
        return rate
    good = right > 0 if rule == "any" else rate >= THRESHOLD
    return float(good) if soft else 2.0 * good - 1.0


def returns(row: Mapping[str, Any], fallback: str, *, reward_field: str = "reward") -> Return:
    """The rewarded response of a row."""
    _demand(row, "prompt", "response")
    whole, tokens = row.get(reward_field), row.get("token_rewards")
    if (whole is None) == (tokens is None):
        said = f", has both {reward_field!r} and 'token_rewards'" if whole is not None else ""
        near = near_miss(reward_field, row)
        raise BadRow(f"needs either {reward_field!r} or 'token_rewards'{said}" + (f". {near}" if near else ""))
    prompt = conversation(row["prompt"])
    text = _shown(one_response(row["response"], prompt, "response"))
    each = () if tokens is None else _list(tokens, "token_rewards")
    rewards = tuple(number(value, f"token_rewards[{i}]") for i, value in enumerate(each))
    if tokens is not None and not rewards:
        raise BadRow("'token_rewards' is empty")
    name, group = _names(row, fallback, prompt)
    reward = math.nan if whole is None else number(whole, reward_field)
    return Return(name, _turns(prompt), text, reward, rewards, group)


def dialogue(row: Mapping[str, Any], fallback: str) -> Dialogue:
    """The conversation of a row."""
    if row.get("messages") is not None:
        turns = conversation(row["messages"], "messages")
        if turns[-1].role != "assistant":
            raise BadRow(f"'messages' must end with a turn of the assistant, found {turns[-1].role!r}")
    else:
        if row.get("prompt") is None and row.get("response") is None:
            near = near_miss("messages", row)
            raise BadRow(f"no 'messages', and no 'prompt' and 'response'{'. ' + near if near else ''}")
        _demand(row, "prompt", "response")
        prompt = conversation(row["prompt"])
        turns = (*prompt, Message("assistant", one_response(row["response"], prompt, "response")))
    turns = tuple(
        Message(turn.role, _shown(turn.content) if turn.role == "assistant" else turn.content) for turn in turns
    )
    first = next(i for i, turn in enumerate(turns) if turn.role == "assistant")
    name, group = _names(row, fallback, turns[:first] or turns)
    return Dialogue(name, _turns(turns), group)


def number(value: Any, name: str) -> float:
    """A finite number that is no truth value. Raises `BadRow`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise BadRow(f"{name!r} must be a number{' of a size below 1e300' * isinstance(value, float)}, found {value!r}")
    return float(value)


def _shown(text: str) -> str:
    """What of a response is scored: all of it, or the final channel of a Harmony one."""
    try:
        return final_text(text)
    except ValueError as fault:
        raise BadRow(str(fault)) from None


def _demand(row: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if row.get(name) is None:
            near = "It is null" if name in row else near_miss(name, row)
            raise BadRow(f"no {name!r}. {near}" if near else f"no {name!r}; the columns are {', '.join(row) or 'none'}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _list(value: Any, name: str) -> list[Any]:
    if not _is_list(value):
        raise BadRow(f"{name!r} must be a list, found {value!r}"[:200])
    return list(value)


def _names(row: Mapping[str, Any], fallback: str, prompt: tuple[Message, ...]) -> tuple[str, str]:
    """(id, group) of a row."""
    given = row.get("group")
    if given is not None and not isinstance(given, str | int):
        raise BadRow(f"'group' must be a text or a whole number, found {given!r}")
    group = cluster_of(prompt) if given is None else f"group {given}"
    return str(fallback if row.get("id") is None else row["id"]), group


def _turns(prompt: Sequence[Message]) -> Turns:
    return tuple({"role": turn.role, "content": turn.content} for turn in prompt)
