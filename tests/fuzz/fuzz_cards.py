"""Cards of suites, scorers, judges and boards, settings of a training, and `-a key=value`."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import REFUSED, Target, attempt
from fuzz_files import written

from rmeval import arguments
from rmeval.cards import ScorerCard, SuiteCard, read_card
from rmeval.content import content_folder
from rmeval.leaderboard.board import BoardCard
from rmeval.metrics.evaluate import evaluate
from rmeval.scorers.judge import JudgeCard, judge_scorer
from rmeval.suites import suite_from_card
from rmeval.training.config import read_config

SMALL = 2200
"""Bytes of the largest card that cases are made of: a larger one is no other card."""

WORDS = (
    "[fields]", "[[layout]]", "[rule]", "[[section]]", "[each]", "[variant.x]", "values", "name", "version", "reader",
    "pairs", "steps", "best_of_k", "accuracy", "ties", "win", "headline", "sections", "expected", "path", "extract",
    "(?P<a>", "(a+)+$", "*", "{1..999999999}", "{x}", "../..", "/etc/passwd", '"""', "'''", "1979-05-27T07:32:00Z", "inf",
    "weights", "optional", "combine", "rows", "[steps]", "token", "text", "id", "kind", "process", "model", "scale", "mode",
    "labels", "parse", "user", "{prompt}", "{a}", "{b}", "{response}", "{nonce}", "votes", "slices", "gather", "| x", "?",
)  # fmt: skip


@cache
def _sources(pattern: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Our own cards as text and as tables."""
    room, _, glob = pattern.partition("/")
    paths = sorted(path for path in content_folder(room).glob(glob) if path.stat().st_size <= SMALL)
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return tuple((text, tomllib.loads(text)) for text in texts)


def _toml(draw: random.Random, pattern: str) -> str:
    text, table = draw.choice(_sources(pattern))
    if draw.random() < 0.3:
        return mutations.text(draw, text, WORDS)
    case = mutations.as_toml(mutations.value(draw, table, WORDS))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.1 else case


def _suite_card(case: str) -> bool:
    path = written(case, "suite/card.toml")
    suite = attempt(suite_from_card, path)
    if suite is REFUSED:
        return False
    for name in list(suite.card.variants)[:2]:
        attempt(suite.card.variant, name)
    attempt(evaluate, (), suite.plan)
    again = SuiteCard.model_validate(suite.card.model_dump(by_alias=True))
    assert again == suite.card, "a card that is written and read is another"
    return True


def _suite_card_with_rows(case: str) -> bool:
    """A card of a stranger over rows that are there."""
    name, _, card = case.partition("\n")
    if name not in WITH_ROWS:
        return False
    suite = attempt(suite_from_card, written(card, "suite/card.toml"))
    if suite is REFUSED or suite.card.embedded or any(one.sources for one in suite.card.layouts if not one.files):
        return False
    return attempt(suite.load, content_folder("suites") / name / "sample.jsonl") is not REFUSED


WITH_ROWS = ("pairs", "steps", "helpsteer2", "pandalm", "qwen25math-bon", "gsm8k-outcomes", "prm800k-bon", "mr-ben")
"""Suites with short cards and rows."""


def _with_rows_case(draw: random.Random) -> str:
    name = draw.choice(WITH_ROWS)
    return f"{name}\n{_toml(draw, f'suites/{name}/card.toml')}"


def _card(case: str, kind: type[Any]) -> bool:
    card = attempt(read_card, written(case, "card.toml"), kind)
    if card is REFUSED:
        return False
    if kind is JudgeCard:
        return attempt(judge_scorer, card, {}) is not REFUSED
    return True


def _config(case: str) -> bool:
    return attempt(read_config, written(case, "train.toml"), "bt") is not REFUSED


_CONFIG = {
    "lr": 1e-4,
    "epochs": 1,
    "batch_size": 8,
    "max_length": 256,
    "loss": "bradley_terry",
    "seed": 0,
    "lora": True,
}


def _config_case(draw: random.Random) -> str:
    case = mutations.as_toml(mutations.value(draw, _CONFIG, WORDS))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.4 else case


_GIVEN = (
    "engine.batch_size=8", "metric.ties=win", "label=good", "judge.votes=3", 'engine.omit=["seed"]', "engine.price_in=0.5",
    "scorer.negate=true", "judge.scale=[1, 10]", "engine.timeout=1e3", "judge.system=false", "when=1979-05-27",
)  # fmt: skip


def _arguments(case: str) -> bool:
    given = case.split("\x1f")
    found = attempt(arguments.parse, given)
    if found is REFUSED:
        return False
    for scope, values in found.items():
        attempt(partial(arguments.call, _make, scope, values))
    return True


def _make(
    *, batch_size: int = 1, ties: str = "lose", label: str | int | None = None, votes: int = 1, omit: list[str] | None = None,
    price_in: float | None = None, negate: bool = False, scale: tuple[float, float] | None = None, timeout: float = 1.0,
) -> None:  # fmt: skip
    """What takes arguments of all the types that ours take."""


def _arguments_case(draw: random.Random) -> str:
    return "\x1f".join(
        mutations.text(draw, one, (*WORDS, "engine.", "judge.", "=", "[", "{", "nan", "'''"))
        if draw.random() < 0.7
        else one
        for one in draw.choices(_GIVEN, k=draw.choice((1, 1, 2, 4)))
    )


def _of(pattern: str) -> Callable[[random.Random], str]:
    return lambda draw: _toml(draw, pattern)


def _targets() -> tuple[Target, ...]:
    return (
        Target("suite card", _of("suites/*/card.toml"), _suite_card),
        Target("suite card over rows", _with_rows_case, _suite_card_with_rows),
        Target("scorer card", _of("scorers/*.toml"), partial(_card, kind=ScorerCard)),
        Target("judge's protocol", _of("scorers/judges/*.toml"), partial(_card, kind=JudgeCard)),
        Target("board card", _of("leaderboard/board.toml"), partial(_card, kind=BoardCard)),
        Target("training settings", _config_case, _config),
        Target("-a key=value", _arguments_case, _arguments),
    )


TARGETS = _targets()
