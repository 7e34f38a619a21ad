"""What is written is read as it was: rows, cards, replays, samples, submissions' names, whatever they hold."""

from __future__ import annotations

import json
import math

import fuzz_mutations
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval import arguments, samples, strict_json, strict_toml
from rmeval.cards import SuiteCard
from rmeval.errors import UsageError
from rmeval.leaderboard.submission import name_fault
from rmeval.readers.preference import pairs
from rmeval.readers.process import steps
from rmeval.readers.rows import Row
from rmeval.results import path_part
from rmeval.scorers.replay import Replay
from rmeval.suites import labels_digest, load_suite
from rmeval.types import NAN, Judgement

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
SAID = TEXTS.filter(str.strip)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FINITE | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(PLAIN)
def test_json_is_read_as_it_was_written(value):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False).encode(), fuzz_mutations.as_json(value)):
        assert strict_json.loads(text, "x") == value


@settings(max_examples=60)
@given(st.dictionaries(TEXTS, st.booleans() | st.integers(-(2**60), 2**60) | FINITE | TEXTS, max_size=4))
def test_toml_is_read_as_json_would_be(table):
    text = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in table.items())
    assert strict_toml.loads(text, "x") == table


def _toml(value):
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@settings(max_examples=40)
@given(st.integers(1, 300), st.sampled_from(["[]", '{"a":1}']))
def test_what_is_nested_is_read_to_one_depth_and_no_further(depth, kind):
    text = kind[0] * depth + kind[-1] * depth if kind == "[]" else '{"a":' * depth + "0" + "}" * depth
    if depth <= strict_json.MAX_DEPTH + 1:
        assert strict_json.loads(text, "x") is not None
    else:
        with pytest.raises(UsageError, match="nested too deeply"):
            strict_json.loads(text, "x")


@given(st.integers(-(2**60), 2**60) | FINITE | st.booleans())
def test_an_argument_is_the_value_that_is_written(value):
    text = json.dumps(value)
    assert arguments.parse([f"metric.x={text}"])["metric"]["x"] == value


@settings(max_examples=40)
@given(st.lists(st.tuples(SAID, TEXTS, TEXTS), min_size=1, max_size=5), st.randoms())
def test_pairs_come_out_as_they_went_in_in_any_order(rows, random):
    card = load_suite("pairs").card
    made = [Row({"id": str(i), "prompt": p, "chosen": c, "rejected": r}, "x") for i, (p, c, r) in enumerate(rows)]
    found = list(pairs(made, card, card.layouts[0], 0))
    assert [(e.prompt[0].content, e.candidates[0].body, e.candidates[1].body) for e in found] == rows
    random.shuffle(made)
    turned = list(pairs(made, card, card.layouts[0], 0))
    digests = [labels_digest((e.id, e.subset, e.cluster, e.labels.grades) for e in these) for these in (found, turned)]
    assert digests[0] == digests[1]


@settings(max_examples=40)
@given(SAID, st.lists(TEXTS, min_size=1, max_size=6), st.data())
def test_the_ways_to_say_which_step_is_wrong_say_the_same(prompt, parts, data):
    card = load_suite("steps").card
    first = data.draw(st.integers(-1, len(parts) - 1))
    labels = [None if 0 <= first < i else i != first for i in range(len(parts))]
    ways = [{"label": first}, {"labels": labels}]
    read = [
        list(steps([Row({"prompt": prompt, "steps": parts, **way}, "x")], card, card.layouts[0], 0)) for way in ways
    ]
    assert read[0] == read[1]
    assert read[0][0].candidates[0].steps == tuple(parts)
    assert read[0][0].labels.grades == (float(first == -1),)


@settings(max_examples=40)
@given(st.dictionaries(SAID, st.lists(st.none() | FINITE, min_size=1, max_size=3), min_size=1, max_size=4))
def test_a_replay_holds_what_was_recorded(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "replayed.jsonl"
    path.write_text("".join(json.dumps({"id": i, "scores": scores}) + "\n" for i, scores in rows.items()))
    held = Replay(path)
    for name, scores in rows.items():
        found = held.recorded(name, len(scores))
        assert [None if math.isnan(value) else value for value in found.scores] == scores
        with pytest.raises(UsageError):
            held.recorded(name, len(scores) + 1)


@settings(max_examples=40)
@given(st.lists(st.none() | FINITE, min_size=1, max_size=4), TEXTS, st.data())
def test_samples_hold_what_was_scored(tmp_path_factory, scores, subset, data):
    grades = tuple(data.draw(FINITE) for _ in scores)
    reasons = tuple("truncated" if score is None else None for score in scores)
    given_ = Judgement(
        "a", subset, "", "c", grades, scores=tuple(NAN if s is None else s for s in scores),
        reasons=reasons if None in scores else (),
    )  # fmt: skip
    content, rows = samples.dump([given_])
    path = tmp_path_factory.getbasetemp() / "x-samples.jsonl.gz"
    path.write_bytes(content)
    [found] = samples.load(path, rows)
    assert repr(found) == repr(given_)  # NaN is not equal to itself
    assert samples.dump([found])[0] == content


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9._/ -]{0,30}", fullmatch=True))
def test_a_name_that_may_stand_on_a_board_is_one_folder_there(name):
    part = path_part(name)
    assert part not in ("", ".", "..")
    assert not set('/\\\0<>:"|?*') & set(part)
    assert part.isascii()
    assert len(part) <= 100
    if not name_fault(name):
        assert len(part.strip("._ -")) > 0


@settings(max_examples=40)
@given(SAID, TEXTS, st.sampled_from(["lose", "win", "half"]), st.dictionaries(SAID, st.integers(0, 9), max_size=3))
def test_a_card_is_read_as_it_was_written(title, summary, ties, expected):
    given_ = {
        "name": "mine", "version": 1, "title": title, "summary": summary, "licence": "MIT", "reader": "pairs",
        "rule": {"name": "accuracy", "ties": ties}, "expected": expected,
    }  # fmt: skip
    card = SuiteCard.model_validate(strict_toml.loads(fuzz_mutations.as_toml(given_).replace("\x7f", "\\u007f"), "x"))
    assert (card.title, card.summary, card.expected) == (title, summary, expected)
    assert card.plan().sections[0].rule.options == {"ties": ties}
