"""The scorer that follows a protocol: its card, with what `-a judge.KEY=VALUE` says laid over it.

What this module does not know: prompts, parsers, engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from rmeval.cards import read_card
from rmeval.errors import UsageError, near_miss
from rmeval.plugins import JUDGES
from rmeval.protocols import Scorer
from rmeval.scorers.judge.card import JudgeCard, Mode
from rmeval.scorers.judge.critic import CriticJudge
from rmeval.scorers.judge.listwise import BestOfJudge, ScoresJudge
from rmeval.scorers.judge.pairwise import NextTokenPairJudge, PairJudge
from rmeval.scorers.judge.rating import NextTokenRatingJudge, RatingJudge
from rmeval.scorers.judge.verifier import VerifierJudge

ASK_AGAIN = (
    "Now give your final answer alone, written exactly in the form that was asked for, with nothing before or after it."
)
"""The further turn of `-a judge.retry=true` where a protocol has none of its own."""
TAKEN = (
    *("mode", "orders", "votes", "seed", "template", "system", "parse", "max_tokens", "temperature", "top_p"),
    *("floor", "retry", "structured"),
)
"""What `-a judge.KEY=VALUE` may say, besides `protocol`."""


def judge_scorer(card: JudgeCard, given: Mapping[str, Any]) -> Scorer:
    """The scorer that follows a protocol, with `-a judge.KEY=VALUE` laid over the card.

    `template` and `system` name files with the text of the user and the system turn, such as an official one that may
    not be shipped; `system=false` puts the system turn into the user turn, for models that have none; `mode` chooses
    another protocol of our own. Raises `UsageError` with the near miss.
    """
    for key in given:
        if key not in TAKEN:
            hint = near_miss(key, TAKEN) or f"Known: {', '.join(sorted(('protocol', *TAKEN)))}."
            raise UsageError(f"-a judge.{key}: no such argument. {hint}")
    changes = dict(given)
    files: dict[str, str] = {}
    if "mode" in changes:
        card = _of_mode(card, str(changes.pop("mode")))
    for key, field in (("template", "user"), ("system", "system")):
        if key in changes and changes[key] is not False:
            path = Path(str(changes.pop(key))).expanduser()
            changes[field], files[field] = _text(path, key), path.name
    if changes.get("system") is False:
        changes |= {"system": "", "user": f"{card.system}\n\n{changes.get('user', card.user)}".strip()}
    if isinstance(changes.get("retry"), bool):
        changes["retry"] = (card.retry or ASK_AGAIN) if changes["retry"] else ""
    return _scorer(_with(card, changes), files)


def _of_mode(card: JudgeCard, mode: str) -> JudgeCard:
    """Our own protocol of another mode."""
    if mode == card.mode:
        return card
    modes = {one.replace("-", "_"): one for one in JUDGES.names() if one.replace("-", "_") in get_args(Mode)}
    if mode not in modes:
        hint = near_miss(mode, modes) or f"Known: {', '.join(modes)}."
        raise UsageError(f"-a judge.mode={mode}: no such mode. {hint}")
    if card.source:
        raise UsageError(
            f"-a judge.mode={mode}: the text of protocol {card.name} asks for a {card.mode}. Name a protocol instead: "
            f"-a judge.protocol={modes[mode]}"
        )
    return read_card(JUDGES.get(modes[mode]), JudgeCard)


def _with(card: JudgeCard, changes: dict[str, Any]) -> JudgeCard:
    """The card with some of its keys replaced, checked as a card is."""
    if not changes:
        return card
    try:
        return JudgeCard.model_validate({**card.model_dump(exclude_unset=True), **changes})
    except ValidationError as fault:
        error = fault.errors()[0]
        said = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if not error["loc"]:
            raise UsageError(f"-a judge, protocol {card.name}: {said}") from None
        raise UsageError(f"-a judge.{error['loc'][0]}={error['input']}: should be {said}") from None


def _text(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"-a judge.{key}={path}: cannot be read: {fault}") from None


def _scorer(card: JudgeCard, files: Mapping[str, str]) -> Scorer:
    kinds: dict[Mode, Callable[[JudgeCard, Mapping[str, str]], Scorer]] = {
        "pairwise": PairJudge,
        "pairwise_logprob": NextTokenPairJudge,
        "listwise": BestOfJudge,
        "listwise_scores": ScoresJudge,
        "rating": RatingJudge,
        "logprob_rating": NextTokenRatingJudge,
        "verifier": VerifierJudge,
        "critic": CriticJudge,
    }
    return kinds[card.mode](card, files)
