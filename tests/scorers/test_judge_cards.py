"""Protocols as cards: every one is sound, says where its rule comes from, and can be changed with a near miss."""

from __future__ import annotations

import ast
import re

import pytest
from command import ROOT
from pydantic import ValidationError

from rmeval.cards import read_card
from rmeval.errors import UsageError
from rmeval.plugins import JUDGES
from rmeval.protocols import ByStep, Scorer, Shown
from rmeval.scorers.judge import JudgeCard, judge_scorer

OURS = {"pairwise", "pairwise-logprob", "rating", "logprob-rating", "listwise", "listwise-scores", "critic", "verifier"}


def card(name: str) -> JudgeCard:
    return read_card(JUDGES.get(name), JudgeCard)


@pytest.mark.parametrize("name", JUDGES.names())
def test_a_card_makes_a_scorer_and_says_whose_rule_it_is(name):
    read = card(name)
    judge = judge_scorer(read, {})
    assert read.name == name
    assert isinstance(judge, Scorer)
    assert isinstance(judge, Shown)
    assert (isinstance(judge, ByStep) and judge.by_step) == (read.mode == "critic")
    assert judge.arity == {
        "pairwise": "two",
        "pairwise_logprob": "two",
        "listwise": "all",
        "listwise_scores": "all",
    }.get(read.mode, "one")
    if name in OURS:
        assert not read.source
        assert "{nonce}" in read.user
    else:
        for place in read.source.split("; "):
            assert re.fullmatch(r"([\w.-]+/)?[\w.-]+@[0-9a-f]{7}( .+)?", place), place
        assert read.licence
        assert "official" in read.notes


def test_there_is_a_card_for_every_rule():
    official = {
        *(
            "mt-bench-pair",
            "mt-bench-single",
            "rewardbench",
            "rewardbench-ratings",
            "rewardbench2",
            "rewardbench2-ratings",
        ),
        *("arena-hard", "alpacaeval2", "judgebench", "llmbar-vanilla", "llmbar-cot", "llmbar-swap", "wildbench-pair"),
        *("wildbench-score", "pandalm", "prometheus-absolute", "prometheus-relative", "auto-j", "processbench-critic"),
        *("vl-rewardbench", "multimodal-rewardbench"),
    }
    assert official | OURS <= set(JUDGES.names())


def test_an_aggregation_that_a_card_names_is_one_that_is_reported():
    said = ast.get_docstring(ast.parse((ROOT / "rmeval/metrics/judging.py").read_text(encoding="utf-8")))
    named = {read.aggregate for read in map(card, JUDGES.names()) if read.aggregate}
    known = set(re.findall(r"judge:[a-z_]+", said)) | {"swap_mean_logit"}
    assert named <= known


@pytest.mark.fault("F27")
def test_identity_holds_what_changes_an_answer():
    plain = judge_scorer(card("pairwise"), {}).identity()
    changes = [
        {"votes": 3},
        {"seed": 1},
        {"orders": "single"},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"max_tokens": 9},
        {"parse": "last"},
        {"retry": True},
        {"structured": True},
    ]
    found = [judge_scorer(card("pairwise"), change).identity() for change in changes]
    assert all(one != plain for one in found)
    assert plain["protocol"] == "pairwise"
    assert "orders" not in judge_scorer(card("rating"), {}).identity()
    assert judge_scorer(card("pairwise-logprob"), {"floor": 0.1}).identity()["floor"] == 0.1


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("pairwise", {"vote": 3}, r"-a judge.vote: no such argument. Did you mean 'votes'"),
        ("pairwise", {"colour": 3}, r"-a judge.colour: no such argument. Known: .*protocol"),
        ("pairwise", {"votes": 0}, r"-a judge.votes=0: should be greater than or equal to 1"),
        ("pairwise", {"votes": "many"}, r"-a judge.votes=many: should be a valid integer"),
        ("pairwise", {"orders": "boht"}, r"-a judge.orders=boht: should be 'single', 'both', 'all' or 'latin'"),
        ("pairwise", {"temperature": -1}, r"-a judge.temperature=-1: should be greater than or equal to 0"),
        ("pairwise", {"parse": "uniqe"}, r"judge.parse='uniqe': no such parser of verdicts. Did you mean 'unique'"),
        ("rating", {"parse": "mt_bnech"}, r"no such parser of ratings. Did you mean 'mt_bench'"),
        ("pairwise", {"floor": 0.4}, r"`floor` is for modes that read the next token; pairwise writes"),
        ("pairwise-logprob", {"temperature": 1.0}, r"`temperature` is for modes that write; pairwise_logprob reads"),
        ("pairwise-logprob", {"votes": 3}, r"reads the same log-probabilities each time"),
        ("rating", {"orders": "both"}, r"`orders` are for modes that see several responses; rating sees one"),
        ("verifier", {"structured": True}, r"`structured` is for modes that write"),
        ("pairwise", {"mode": "pairwise_logprobs"}, r"-a judge.mode=pairwise_logprobs: no such mode. Did you mean"),
        (
            "mt-bench-pair",
            {"mode": "rating"},
            r"asks for a pairwise. Name a protocol instead: -a judge.protocol=rating",
        ),
        ("llmbar-swap", {"orders": "single"}, r'`synthesise` is for mode = "pairwise" and orders = "both"'),
    ],
)
def test_what_cannot_be_said_is_refused_with_the_reason(name, given, message):
    with pytest.raises(UsageError, match=message):
        judge_scorer(card(name), given)


def test_a_mode_is_a_protocol_of_our_own():
    judge = judge_scorer(card("pairwise"), {"mode": "pairwise_logprob", "floor": 0.2})
    assert (judge.card.name, judge.card.floor) == ("pairwise-logprob", 0.2)


def test_a_system_turn_can_stand_before_the_user_turn():
    plain, merged = judge_scorer(card("mt-bench-pair"), {}), judge_scorer(card("mt-bench-pair"), {"system": False})
    fields = {field: field for field in merged.user.fields | plain.user.fields | plain.system.fields}
    before, after = plain.messages(fields), merged.messages(fields)
    assert [turn.role for turn in before] == ["system", "user"]
    assert [turn.content for turn in after] == ["\n\n".join(turn.content for turn in before)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": {}}, "Extra inputs"),
        ({"labels": {"A": "C"}}, "means 'C'"),
        ({"labels": {"A": "A"}}, "one for each side"),
        ({"mode": "rating", "labels": {}}, "needs a `scale`"),
        ({"mode": "rating", "labels": {"A": "A"}, "scale": (1, 5)}, "rating has no `labels`"),
        ({"mode": "rating", "labels": {}, "scale": (5, 1)}, "from the lowest to the highest"),
        ({"scale": (1, 5)}, "`scale` is what ratings are given on"),
        ({"mode": "logprob_rating", "scale": (1, 5), "labels": {"6": "6"}}, "no rating from 1 to 5"),
        ({"mode": "logprob_rating", "scale": (1, 5), "labels": {"2": "2", " 2": "2"}}, "at least two ratings"),
        ({"parse_again": "llmbar"}, "`parse_again` reads the answer to `synthesise`"),
        (
            {"mode": "listwise_scores", "scale": (1, 5), "labels": {}, "parse": "unique"},
            "one parser of several numbers",
        ),
    ],
)
def test_an_unsound_card_is_refused(change, message):
    sound = {
        "name": "mine",
        "summary": "s",
        "mode": "pairwise",
        "user": "{prompt}{a}{b}",
        "labels": {"A": "A", "B": "B"},
    }
    JudgeCard.model_validate(sound)
    with pytest.raises(ValidationError, match=message):
        JudgeCard.model_validate({**sound, **change})


def test_a_card_of_ones_own_is_found_and_its_faults_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "judges"
    folder.mkdir()
    text = 'name = "mine"\nsummary = "s"\nmode = "pairwise"\nuser = "{prompt} {a} {c}"\nlabels = { A = "A", B = "B" }\n'
    (folder / "mine.toml").write_text(text)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"protocol mine, user: unknown field \{c\}"):
        judge_scorer(card("mine"), {})
    (folder / "mine.toml").write_text(text.replace("labels", "lables").replace("{c}", "{b}"))
    with pytest.raises(UsageError, match=r"lables: unknown key. Did you mean 'labels'"):
        card("mine")
