"""Every setting either decides what is computed, and then is part of a key, or it does not, and then is in no key.

A new field of a request, an engine, a scorer, a card or a run fails here until it is classified.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import get_args

import pytest

from rmeval import api, results
from rmeval.cards import ScorerCard, SuiteCard
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.models import load_model
from rmeval.plugins import ENGINES, SCORERS
from rmeval.scorers.judge.card import JudgeCard
from rmeval.store import request_key
from rmeval.types import Chat, Mark, Message, Part, Request, Sampling, Special, Text, Turn

pytestmark = pytest.mark.fault("F27")

# --- requests: what a reply is stored under --------------------------------------------------------------------------

PLAIN = Request((Chat((Message("user", "a"), Message("assistant", "b"))),))

REQUEST = {
    "parts": (Text("a"),),
    "at": "next",
    "read": "text",
    "tokens": (Special("A"),),
    "sampling": Sampling(),
    "role": "reference",
}
REQUEST_TRANSPORT = {"group": "another prompt"}

SAMPLING = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.5, "seed": 9, "vote": 9, "schema": "{}"}

PARTS = {  # a value of each kind of part, and what each of its fields may be instead
    Text: (Text("ab"), {"text": "cd", "marks": (1,)}),
    Special: (Special("<a>"), {"text": "<b>", "id": 3, "role": "bos"}),
    Mark: (Mark(), {"ahead": 1}),
    Chat: (Chat((Message("user", "a"),)), {"messages": (Message("user", "b"),), "bos": False}),
    Message: (Message("user", "a"), {"role": "system", "content": "b"}),
    Turn: (Turn("user", (Text("a"),)), {"role": "assistant", "pieces": (Text("b"),)}),
}


def key(request: Request) -> str:
    return request_key(request, "engine")


def names(kind: type) -> set[str]:
    return {one.name for one in fields(kind)}


def test_every_field_of_a_request_is_in_its_key_but_the_prompt_group():
    assert names(Request) == REQUEST.keys() | REQUEST_TRANSPORT.keys()
    keys = [key(PLAIN), *(key(replace(PLAIN, **{name: value})) for name, value in REQUEST.items())]
    assert len(set(keys)) == len(keys)
    assert key(replace(PLAIN, **REQUEST_TRANSPORT)) == key(PLAIN)
    assert request_key(PLAIN, "another engine") != key(PLAIN)


def test_every_field_of_sampling_is_in_the_key():
    assert names(Sampling) == SAMPLING.keys()
    asked = replace(PLAIN, at="next", read="text")
    keys = [key(replace(asked, sampling=replace(Sampling(), **change))) for change in ({}, *_each(SAMPLING))]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_every_field_of_every_part_is_in_the_key(kind):
    plain, changes = PARTS[kind]
    assert names(kind) == changes.keys()
    made = [plain, *(replace(plain, **change) for change in _each(changes))]
    inside = [Chat((one,)) if kind in (Message, Turn) else one for one in made]
    assert len({key(Request((one,))) for one in inside}) == len(inside)


def test_no_kind_of_part_is_forgotten():
    known = {inner for one in get_args(Part) for inner in (get_args(one) or (one,))}
    assert known <= PARTS.keys()


def _each(changes: dict) -> list[dict]:
    return [{name: value} for name, value in changes.items()]


# --- engines ---------------------------------------------------------------------------------------------------------

ENGINE = {"dtype": "bfloat16", "max_length": 64, "truncation": "left", "attention": "eager", "deterministic": True}
ENGINE_TRANSPORT = {"device": "cpu", "batch_tokens": 77, "batch_size": 3, "lint": "warn", "share": False}
"""Sharing what prompts begin with is another numeric path: in half precision it is part of the key, see below."""

WEIGHTS = {"checkpoint", "dtype", "max_length", "truncation"}
BATCHES = {"batch_size", "lint"}
CALLS = {"key_env", "concurrency", "attempts", "timeout", "deadline", "max_wait", "backoff", "give_up"}

OTHER_ENGINES = {  # engine -> (what decides the values, what does not)
    "http": (WEIGHTS | {"base_url", "api", "check"}, BATCHES | CALLS | {"served"}),
    "vllm": (WEIGHTS, BATCHES | {"check", "eager", "memory", "tensor_parallel"}),
    "ray": (WEIGHTS | {"attention"}, BATCHES | {"batch_tokens", "share", "workers", "cpus", "gpus"}),
}


def options(made: object) -> set[str]:
    return set(inspect.signature(made).parameters)


def test_every_option_of_the_transformers_engine_is_classified(tiny_reward_model):
    import torch

    assert options(TransformersEngine) == {"checkpoint"} | ENGINE.keys() | ENGINE_TRANSPORT.keys()

    def fingerprint(**given):
        return TransformersEngine(Checkpoint(str(tiny_reward_model)), **given).fingerprint()

    plain = fingerprint()
    for change in _each(ENGINE):
        assert fingerprint(**change) != plain, change
    torch.use_deterministic_algorithms(False)
    for change in _each(ENGINE_TRANSPORT):
        assert fingerprint(**change) == plain, change
    assert fingerprint(dtype="bfloat16", share=False) != fingerprint(dtype="bfloat16")


def test_every_option_of_every_other_engine_is_classified():
    # those of the openai engine: tests/engines/test_openai_policy.py
    others = set(ENGINES.names()) - {"transformers", "openai"}
    assert others <= OTHER_ENGINES.keys()
    for name in others:
        deciding, transport = OTHER_ENGINES[name]
        assert not deciding & transport
        assert options(ENGINES.get(name)) == deciding | transport, name


# --- scorers ---------------------------------------------------------------------------------------------------------

SCORER = {  # name -> what decides its scores; nothing else can be said to it
    "scalar": {"labels", "label", "exclusive", "negate", "append", "token", "gated"},
    "outcome": {"aggregate", "split"},
    "process": {"labels", "steps", "separator", "neutral", "aggregate", "split"},
    "value": {"aggregate", "split"},
    "implicit": {"mode", "beta", "steps", "link"},
    "pairwise": {"pair", "orders"},
    "ensemble": {"members", "combine", "normalise"},
    "replay": {"path"},
    "random": {"seed"},
    "random-step": {"seed"},
    "position-prior": {"hazard"},
}

PLAIN_SCORERS = {  # two values of each, where nothing but the scorer is needed to make one
    ("random", "seed"): (0, 1),
    ("random-step", "seed"): (0, 1),
    ("position-prior", "hazard"): (0.1, 0.2),
    ("implicit", "beta"): (0.1, 0.2),
    ("value", "aggregate"): ("last", "min"),
    ("outcome", "aggregate"): ("last", "min"),
}


def test_every_option_of_every_scorer_is_classified():
    found = {name: options(SCORERS.get(name)) for name in SCORERS.names()}
    assert {name: said for name, said in found.items() if said} == SCORER


@pytest.mark.parametrize(("name", "option"), PLAIN_SCORERS)
def test_what_decides_scores_is_in_the_identity(name, option):
    made = SCORERS.get(name)
    one, other = (made(**{option: value}).identity() for value in PLAIN_SCORERS[name, option])
    assert one != other


def test_a_replay_is_known_by_its_content(tmp_path):
    said = []
    for i, content in enumerate(("1", "2", "1")):
        path = tmp_path / f"{i}.jsonl"
        path.write_text(f'{{"id": "a", "scores": [{content}, 0]}}\n')
        said.append(load_model(f"replay:{path}").scorer.identity())
    digests = [{k: v for k, v in one.items() if "sha256" in k} for one in said]
    assert digests[0] == digests[2] != digests[1]
    assert digests[0]


# --- cards -----------------------------------------------------------------------------------------------------------

SCORER_CARD = {
    *("model", "revision", "kind", "label", "negate", "append", "token", "head", "steps", "pair", "reference"),
    *("beta", "max_length"),
}
SCORER_CARD_WORDS = {"name", "needs", "licence", "training_data", "notes"}

SUITE_CARD = {  # what is measured: the name and version stand in a result, and the digest of what was read
    *("name", "version", "kind", "embedded", "reader", "options", "fields", "slices", "layouts", "rule", "headline"),
    *("each", "sections", "definitions", "also", "expected", "truncation", "variants", "labels_sha256"),
}
SUITE_CARD_WORDS = {"title", "summary", "homepage", "paper", "licence", "citation", "languages", "published"}

JUDGE_CARD_WORDS = {"name", "summary", "source", "licence", "notes"}
JUDGE_CARD = {  # what a judge is asked is in its requests, how it is read in its identity: tests/scorers/test_judge_cards.py
    *(
        "mode",
        "orders",
        "votes",
        "seed",
        "system",
        "user",
        "item",
        "closing",
        "aliases",
        "labels",
        "constants",
        "parse",
    ),
    *("scale", "thinking", "max_tokens", "temperature", "top_p", "floor", "retry", "synthesise", "parse_again"),
    *("structured", "aggregate"),
}


def test_every_key_of_a_card_is_classified():
    for card, deciding, words in (
        (ScorerCard, SCORER_CARD, SCORER_CARD_WORDS),
        (SuiteCard, SUITE_CARD, SUITE_CARD_WORDS),
        (JudgeCard, JUDGE_CARD, JUDGE_CARD_WORDS),
    ):
        assert not deciding & words
        assert set(card.model_fields) == deciding | words, card.__name__


# --- runs ------------------------------------------------------------------------------------------------------------

RUN = {"data", "limit", "seed", "metric_options", "skip_bad_rows", "shard"}
"""They choose or mark what is measured, and stand in the result under `suite`, `metric_options` or `shard`."""
RUN_TRANSPORT = {"out", "store", "max_failed"}
"""Where things lie, and when aggregates are withheld: no score depends on it."""

COMMAND = {"model", "suite", "scorer", "engine", "arg", "base_url", "data", "limit", "seed", "skip_bad_rows", "shard"}
COMMAND |= {"deterministic"}  # as an option of the engine
COMMAND_TRANSPORT = {"out", "store", "max_failed", "max_cost", "dry_run", "as_json"}


def test_every_setting_of_a_run_is_classified():
    from typer.main import get_command

    from rmeval.cli.app import app

    assert names(api.Settings) == RUN | RUN_TRANSPORT
    command = get_command(app).commands["run"]
    assert {one.name for one in command.params} == COMMAND | COMMAND_TRANSPORT


def test_the_id_of_a_result_follows_what_was_asked_and_nothing_else():
    assert options(results.fingerprint) == {"model", "suite", "scorer", "engine", "metric_options", "shard"}
    # of the model its name, revision and kind; a licence or a list of training data is only said about it
    source = inspect.getsource(results.fingerprint)
    assert all(part in source for part in ("model.name", "model.revision", "model.kind", "suite.model_dump"))
