"""What cards can say about the headline: repeated sections, other definitions, optional sections, variants, slices."""

from __future__ import annotations

import json

import pytest
from command import rmeval as command

from rmeval.cards import SuiteCard, read_card
from rmeval.errors import UsageError
from rmeval.metrics.evaluate import evaluate
from rmeval.results import with_options
from rmeval.suites import load_suite, suite_from_card
from rmeval.types import Judgement

BASE = {
    "name": "mine",
    "version": 1,
    "title": "Mine",
    "summary": "A suite.",
    "licence": "MIT",
    "reader": "pairs",
    "fields": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "subset": "subset"},
    "layout": [{"name": "file"}],
    "rule": {"name": "accuracy", "ties": "lose"},
    "headline": {"combine": "sections"},
}
SECTIONS = [
    {"name": "Chat", "subsets": ["easy", "hard"], "weights": {"easy": 1, "hard": 3}},
    {"name": "Safety", "subsets": ["refuse"]},
    {"name": "Prior", "subsets": ["old"], "optional": True},
]
LEGACY = {"name": "legacy", "sections": {"Chat": 1, "Safety": 1}, "weights": {"Chat": {"easy": 3, "hard": 1}}}
WITH_PRIOR = {"name": "with prior", "sections": {"Chat": 2, "Safety": 2, "Prior": 1}, "note": "somebody's script"}


def card(**more):
    return SuiteCard.model_validate({**BASE, "section": SECTIONS, **more})


def judgements(slices=(), **right):
    """Per subset, pairs that are right (True) or wrong."""
    return [
        Judgement(
            f"{subset}/{i}", subset, "", f"{subset} {i}", (1.0, 0.0), scores=(float(won), 0.5), slices=tuple(slices)
        )
        for subset, outcomes in right.items()
        for i, won in enumerate(outcomes)
    ]


def values(metrics):
    return {(m.name, m.subset): m.value for m in metrics}


RIGHT = {"easy": [1, 1], "hard": [1, 0], "refuse": [0, 1, 1, 1]}  # 1.0, 0.5 and 0.75


def test_definitions_are_reported_beside_the_headline_and_one_can_take_its_place():
    plan = card(definition=[LEGACY, WITH_PRIOR]).plan()
    rows = judgements(**RIGHT, old=[1, 0, 0, 0])
    chat, legacy = (1 * 1.0 + 3 * 0.5) / 4, (3 * 1.0 + 1 * 0.5) / 4
    prior = (2 * chat + 2 * 0.75 + 1 * 0.25) / 5
    found = values(evaluate(rows, plan))
    assert found["accuracy", None] == pytest.approx((chat + 0.75) / 2)
    assert found["accuracy[legacy]", None] == pytest.approx((legacy + 0.75) / 2)
    assert found["accuracy[with prior]", None] == pytest.approx(prior)
    assert found["accuracy", "Prior"] == 0.25
    swapped = evaluate(rows, with_options(plan, {"definition": "with prior"}))
    assert swapped[0].value == pytest.approx(prior)
    assert "somebody's script" in swapped[0].note
    assert values(swapped)["accuracy[official]", None] == pytest.approx((chat + 0.75) / 2)


def test_sections_are_weighed_as_the_definition_in_force_says():
    """The headline once had the old weights, and the sections beside it the new ones."""
    found = evaluate(judgements(**RIGHT), with_options(card(definition=[LEGACY]).plan(), {"definition": "legacy"}))
    headline, chat = (next(m for m in found if (m.name, m.subset) == ("accuracy", at)) for at in (None, "Chat"))
    assert chat.value == pytest.approx((3 * 1.0 + 1 * 0.5) / 4)
    assert "card says for 'legacy'" in chat.note
    assert headline.value == pytest.approx((chat.value + values(found)["accuracy", "Safety"]) / 2)


def test_languages_are_weighed_as_the_definition_in_force_says():
    each = {"name": "language", "values": ["de"]}
    names = ["{language}/a", "{language}/b"]
    sections = [{"name": "{language}/Chat", "subsets": names, "weights": dict(zip(names, (3, 1), strict=True))}]
    old = {"name": "old", "sections": {"de/Chat": 1}, "weights": {"de/Chat": {"de/a": 1, "de/b": 1}}}
    plan = card(each=each, section=sections, definition=[old]).plan()
    rows = judgements(**{"de/a": [1], "de/b": [0]})
    assert values(evaluate(rows, plan))["accuracy", "de"] == 0.75
    assert values(evaluate(rows, with_options(plan, {"definition": "old"})))["accuracy", "de"] == 0.5


def test_an_optional_section_may_be_absent_and_a_definition_that_needs_it_says_so():
    plan = card(definition=[WITH_PRIOR]).plan()
    found = evaluate(judgements(**RIGHT), plan)
    assert found[0].value is not None
    assert ("accuracy", "Prior") not in values(found)
    (lacking,) = [m for m in found if m.name == "accuracy[with prior]"]
    assert lacking.value is None
    assert "no examples of old" in lacking.note


def test_an_unknown_definition_is_refused_with_the_near_miss():
    plan = card(definition=[LEGACY]).plan()
    with pytest.raises(UsageError, match="Did you mean 'legacy'"):
        with_options(plan, {"definition": "legacyy"})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"definition": [{"name": "x", "sections": {"Chatt": 1}}]}, "there is no section 'Chatt'.*'Chat'"),
        ({"definition": [{**LEGACY, "weights": {"Chat": {"easy": 1}}}]}, "must name exactly its subsets"),
        ({"headline": {"combine": "rows"}}, "an optional section needs"),
    ],
)
def test_faults_of_the_tree_are_named(more, message):
    with pytest.raises(ValueError, match=message):
        card(**more)


def test_sections_repeat_for_each_value_and_each_value_has_its_mean():
    each = {"name": "language", "values": ["de", "fr"]}
    sections = [
        {"name": "{language}/Chat", "subsets": ["{language}/a", "{language}/b"], "weights": {"{language}/a": 3, "{language}/b": 1}},
        {"name": "{language}/Safety", "subsets": ["{language}/c"]},
    ]  # fmt: skip
    made = card(each=each, section=sections, expected={"{language}/a": 2, "{language}/b": 0, "{language}/c": 0})
    assert list(made.expected) == ["de/a", "de/b", "de/c", "fr/a", "fr/b", "fr/c"]
    right = {"de/a": [1, 1], "de/b": [0], "de/c": [1, 0], "fr/a": [0, 0], "fr/b": [1], "fr/c": [1, 1]}
    found = values(evaluate(judgements(**right), made.plan()))
    assert found["accuracy", "de"] == pytest.approx((0.75 + 0.5) / 2)
    assert found["accuracy", "fr"] == pytest.approx((0.25 + 1.0) / 2)
    assert found["accuracy", None] == pytest.approx((found["accuracy", "de"] + found["accuracy", "fr"]) / 2)


def test_slices_overlap_and_have_a_number_of_their_own():
    rows = [
        *judgements(["code", "language: de"], easy=[1, 1]),
        *judgements(["code"], hard=[1, 0]),
        *judgements(refuse=[0, 1, 1, 1]),
    ]
    found = values(evaluate(rows, card().plan()))
    assert found["accuracy", "code"] == 0.75
    assert found["accuracy", "language: de"] == 1.0


# --- cards on disk ---

TOML = """
name = "mine"
version = 1
title = "Mine"
summary = "A suite."
licence = "MIT"
reader = "pairs"

[fields]
id = "{subset}/{n}"
prompt = "q"
chosen = "good"
rejected = "bad"
subset = "subset"
cluster = "item"
models = "by{1..2}"

[slices]
code = "is_code"
language = "lang"

[[layout]]
name = "hub"

[[layout.source]]
hub = "acme/first"
splits = ["test"]
columns = { subset = "first" }

[[layout.source]]
hub = "acme/second"
configs = ["de", "fr"]
splits = ["test"]
columns = { subset = "second" }

[rule]
name = "accuracy"
ties = "lose"

[expected]
first = 2
second = 4

[variant.small]
title = "Mine, small"
expected = { first = 1, second = 2 }
rule = { ties = "half" }
"""


def row(n, **more):
    base = {"n": n, "q": f"q{n}", "good": f"good {n}", "bad": f"bad {n}", "item": f"item {n}"}
    return {**base, "is_code": n % 2 == 0, "lang": "de", "by1": "model a", "by2": "model b", **more}


@pytest.fixture
def suites(tmp_path, monkeypatch):
    folder = tmp_path / "suites" / "mine"
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(TOML, encoding="utf-8")
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path))
    return folder


def write_snapshot(folder, first, second):
    """Files as snapshots of the two hub data sets hold them."""
    from datasets import Dataset

    for place, rows in (("first/data", first), ("second/de", second[0]), ("second/fr", second[1])):
        (folder / place).mkdir(parents=True)
        Dataset.from_list(rows).to_parquet(folder / place / "test-00000-of-00001.parquet")


def test_a_layout_reads_several_data_sets_and_configs_from_snapshots(suites, tmp_path):
    write_snapshot(tmp_path / "data", [row(0), row(1)], ([row(0), row(1)], [row(2), row(3)]))
    data = suite_from_card(suites).load(tmp_path / "data")
    assert [one.id for one in data.examples] == ["first/0", "first/1", "second/0", "second/1", "second/2", "second/3"]
    assert data.complete, data.notes
    assert {one.cluster for one in data.examples} == {f"item {n}" for n in range(4)}
    assert data.examples[0].slices == ("code", "language: de")
    assert [c.tags["model"] for c in data.examples[0].candidates] == ["model a", "model b"]


def test_a_variant_is_the_card_with_some_keys_changed(suites, tmp_path):
    write_snapshot(tmp_path / "data", [row(0)], ([row(0)], [row(2)]))
    plain = load_suite("mine").load(tmp_path / "data")
    assert not plain.complete
    assert "counts of the variant mine:small" in plain.notes[-1]
    small = load_suite("mine:small")
    assert (small.card.title, small.card.rule.spec().options, small.card.summary) == (
        "Mine, small",
        {"ties": "half"},
        "A suite.",
    )
    data = small.load(tmp_path / "data")
    assert data.complete
    assert data.labels_sha256 == plain.labels_sha256


def test_show_names_definitions_and_variants(suites):
    shown = command("show", "reward-bench").stdout
    assert "also as accuracy[legacy weights]: upstream before 2024-09-10" in shown
    assert "variant reward-bench:with-prior-sets" in shown
    assert "variant mine:small: Mine, small" in command("show", "mine").stdout


def test_an_unknown_variant_is_refused_with_the_near_miss(suites):
    with pytest.raises(UsageError, match="no variant 'smal'.*'small'"):
        load_suite("mine:smal")


def test_a_variant_runs_and_its_result_can_be_scored_again(suites, tmp_path):
    write_snapshot(tmp_path / "data", [row(0)], ([row(0)], [row(2)]))
    ran = command(
        "run", "constant", "--suite", "mine:small", "--data", tmp_path / "data", "--out", tmp_path / "r", "--json"
    )
    assert ran.code == 0, ran.stderr
    assert ran.document["suite"]["name"] == "mine:small"
    assert ran.document["headline"]["value"] == 0.5
    (result,) = (tmp_path / "r").rglob("*Z-???????.json")
    again = command("rescore", result, "-a", "metric.ties=lose", "--json")
    assert again.code == 0, again.stderr
    assert again.document["headline"]["value"] == 0.0


def test_unwinnable_rows_are_named(suites, tmp_path):
    write_snapshot(tmp_path / "data", [row(0, bad="good 0"), row(1)], ([row(0), row(1)], [row(2), row(3)]))
    notes = load_suite("mine").load(tmp_path / "data").notes
    assert notes == ("1 of 6 examples cannot be won, first/0: the right response is also a wrong one",)


def test_a_card_reads_back_as_it_was_written(suites):
    made = read_card(suites / "card.toml", SuiteCard)
    again = SuiteCard.model_validate(json.loads(made.model_dump_json(by_alias=True, exclude_unset=True)))
    assert again == made
