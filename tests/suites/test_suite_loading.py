"""Where suites come from, what their digests cover, and how a part of one is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from rmeval.cards import SuiteCard
from rmeval.errors import UsageError
from rmeval.plugins import SUITES
from rmeval.suites import (
    Suite,
    contents_digest,
    describe,
    digest,
    labels_digest,
    load_suite,
    stratified_sample,
    suite,
    suite_names,
)
from rmeval.types import Candidate, Example

CARD = """
name = "toy"
version = 1
title = "Toy"
summary = "A toy."
licence = "ours"
reader = "pairs"
fields = { prompt = "prompt", chosen = "chosen", rejected = "rejected", subset = "subset" }
{more}
[[layout]]
name = "rows"

[rule]
name = "accuracy"

[expected]
x = 2
y = 1
"""
ROWS = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b", "subset": s} for n, s in enumerate("xyx")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A card folder as a user would name it in RMEVAL_PATH, and rows beside it."""
    (tmp_path / "cards/toy").mkdir(parents=True)
    write_card(tmp_path)
    write_rows(tmp_path, ROWS)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    return tmp_path


def write_card(folder, more=""):
    (folder / "cards/toy/card.toml").write_text(CARD.replace("{more}", more))


def write_rows(folder, rows):
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_a_card_folder_is_a_suite(folder):
    assert "toy" in suite_names()
    data = load_suite("toy").load(folder / "rows.jsonl")
    assert (data.source, data.layout, data.revision, data.complete, data.notes) == (
        "file:rows.jsonl",
        "rows",
        None,
        True,
        (),
    )


def test_an_unknown_suite_names_the_near_miss(folder):
    with pytest.raises(UsageError, match="unknown suite 'rm-bnech'. Did you mean 'rm-bench'"):
        load_suite("rm-bnech")


def test_five_faults_of_a_card_are_reported_at_once(folder):
    text = CARD.replace("{more}", 'papr = "x"').replace("version = 1", "version = 0").replace('licence = "ours"\n', "")
    text = text.replace("x = 2", 'x = "many"').replace('name = "rows"', 'name = "rows"\nsplit = "test"')
    (folder / "cards/toy/card.toml").write_text(text)
    with pytest.raises(UsageError, match="5 faults in this card") as caught:
        load_suite("toy")
    for key in (
        "papr: unknown key. Did you mean 'paper'",
        "version",
        "licence: required",
        "expected.x",
        "split: unknown key",
    ):
        assert key in str(caught.value)


def test_a_folder_and_its_card_must_agree_on_the_name(folder):
    path = folder / "cards/toy/card.toml"
    path.write_text(path.read_text().replace('name = "toy"', 'name = "tyo"', 1))
    with pytest.raises(UsageError, match="calls itself 'tyo'"):
        load_suite("toy")


def test_counts_that_differ_are_noted_and_the_data_are_incomplete(folder):
    write_rows(folder, [*ROWS[:1], {**ROWS[0], "subset": "z"}])
    data = load_suite("toy").load(folder / "rows.jsonl")
    assert not data.complete
    assert data.notes == (
        "counts that differ from the full suite: x has 1 of 2",
        "1 of 2 subsets are missing: y",
        "subsets that the full suite does not have: z",
    )


def test_a_count_of_zero_asks_for_the_subset_and_not_for_its_size(folder):
    path = folder / "cards/toy/card.toml"
    path.write_text(path.read_text().replace("x = 2", "x = 0"))
    assert load_suite("toy").load(folder / "rows.jsonl").complete
    write_rows(folder, ROWS[1:2])
    assert load_suite("toy").load(folder / "rows.jsonl").notes == ("1 of 2 subsets are missing: x",)


@pytest.mark.fault("F12")
def test_pinned_labels_refuse_altered_data_and_accept_any_order(folder):
    pin = load_suite("toy").load(folder / "rows.jsonl").labels_sha256
    write_card(folder, f'labels_sha256 = "{pin}"')
    assert load_suite("toy").load(folder / "rows.jsonl").complete
    write_rows(folder, [{**ROWS[0], "prompt": "altered"}, *ROWS[1:]])
    with pytest.raises(UsageError, match="the data were altered"):
        load_suite("toy").load(folder / "rows.jsonl")
    write_rows(folder, ROWS[:2])
    assert not load_suite("toy").load(folder / "rows.jsonl").complete


@pytest.mark.fault("F12")
def test_pinned_contents_refuse_one_altered_byte_of_any_text_and_accept_any_order(folder):
    rows = folder / "rows.jsonl"
    write_rows(folder, [{**row, "id": f"r{i}"} for i, row in enumerate(ROWS)])
    card = folder / "cards/toy/card.toml"
    card.write_text(card.read_text().replace("{ prompt", '{ id = "id", prompt'))
    pin = contents_digest(load_suite("toy").load(rows).examples)
    pinned = card.read_text().replace('name = "rows"', f'name = "rows"\ncontents_sha256 = "{pin}"')
    card.write_text(pinned + '\n[variant.other]\noptions = {}\nfields = { subset = "{id}" }\nexpected = {}\n')
    whole = rows.read_text()
    assert load_suite("toy").load(rows).complete
    rows.write_text("\n".join(reversed(whole.splitlines())))
    assert load_suite("toy").load(rows).complete
    for old in ('"q1"', '"a"', '"b"'):
        rows.write_text(whole.replace(old, f'{old[:-1]} "', 1))
        with pytest.raises(UsageError, match=r"toy.*texts differ.*contents_sha256.*altered"):
            load_suite("toy").load(rows)
    rows.write_text("\n".join(whole.splitlines()[:2]))
    assert not load_suite("toy").load(rows).complete
    rows.write_text(whole)
    assert load_suite("toy:other").load(rows).complete  # other examples by the same layout: the pin is not theirs


@pytest.mark.fault("F13")
def test_a_suite_without_examples_is_an_error(folder):
    (folder / "rows.jsonl").write_text("")
    with pytest.raises(UsageError, match="no rows"):
        load_suite("toy").load(folder / "rows.jsonl")


def test_a_generated_suite_takes_no_data(folder):
    made = replace(load_suite("toy"), card=load_suite("toy").card.model_copy(update={"embedded": True}))
    with pytest.raises(UsageError, match="takes no --data"):
        made.load(folder / "rows.jsonl")


def test_a_generated_suite_says_its_seed():
    def reader(rows, card, layout, seed):
        assert not list(rows)
        yield Example.pair("one", f"seed {seed}", "a", "b")

    card = SuiteCard.model_validate({**BASE, "embedded": True})
    data = Suite("made", card, card.plan(), reader).load(seed=7)
    assert (data.source, data.layout, data.examples[0].prompt[0].content) == ("generated:seed=7", "", "seed 7")


BASE = {
    "name": "made",
    "version": 1,
    "title": "Made",
    "summary": "",
    "licence": "ours",
    "reader": "made",
    "rule": {"name": "accuracy"},
}

PLUGIN = """
from pathlib import Path
from rmeval.suites import suite
from rmeval.types import Example

@suite("acme/refunds", version=3, metric="accuracy", data="hf://datasets/acme/refunds@0123abc/test.parquet", ties="half")
def refunds(rows):
    "Replies that were sent against drafts."
    for row in rows:
        yield Example.pair(row["ticket"], row["question"], row["sent"], row["draft"], subset=row["country"])

def folder():
    return Path(__file__).parent / "toy"

number = 7
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that declares suites as entry points."""
    site = tmp_path / "site"
    (site / "toy").mkdir(parents=True)
    (site / "toy/card.toml").write_text(CARD.replace("{more}", ""))
    (site / "acme_replies.py").write_text(PLUGIN)
    info = site / "acme_rm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rm\nVersion: 1.0\n")
    points = ["acme/refunds = acme_replies:refunds", "toy = acme_replies:folder", "seven = acme_replies:number"]
    (info / "entry_points.txt").write_text("[rmeval.suites]\n" + "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(str(site))
    yield tmp_path
    sys.modules.pop("acme_replies", None)  # each test imports its own


def test_entry_points_give_code_suites_and_card_folders(package):
    assert {"acme/refunds", "toy"} <= set(suite_names())
    assert "acme_replies" not in sys.modules, "listing imports no plugin"
    made = load_suite("acme/refunds")
    assert (made.card.version, made.card.summary, made.card.licence) == (
        3,
        "Replies that were sent against drafts.",
        "unknown",
    )
    assert made.plan.sections[0].rule.options == {"ties": "half"}
    rows = [{"ticket": "t1", "question": "q", "sent": "a", "draft": "b", "country": "de"}]
    write_rows(package, rows)
    data = made.load(package / "rows.jsonl")
    (one,) = data.examples
    assert (one.id, one.subset, one.labels.grades, len(one.cluster)) == ("t1", "de", (1.0, 0.0), 16)
    write_rows(package, ROWS)
    assert load_suite("toy").load(package / "rows.jsonl").complete


def test_an_entry_point_of_another_kind_is_refused(package):
    with pytest.raises(UsageError, match="'seven' from package acme-rm 1.0 is a int"):
        load_suite("seven")


def test_two_suites_of_one_name_are_a_collision(package, folder):
    with pytest.raises(UsageError, match="two suites are called 'toy'"):
        load_suite("toy")


def test_suite_refuses_an_address_it_cannot_read():
    with pytest.raises(UsageError, match="expected hf://datasets/"):
        suite("acme/x", version=1, metric="accuracy", data="s3://bucket/x.parquet")


def pair(key: str, subset: str = "x", **more) -> Example:
    return replace(Example.pair(key, "q", "a", "b", subset), **more)


@pytest.mark.fault("F12")
def test_the_digest_covers_all_that_a_scorer_sees_and_the_labels_digest_only_labels():
    base = pair("one")
    text = replace(base, candidates=(Candidate("a"), Candidate("B")))
    label = replace(base, labels=replace(base.labels, grades=(0.0, 1.0)))
    assert digest([base]) != digest([text])
    assert digest([base]) != digest([label])

    def of(one):
        return labels_digest([(one.id, one.subset, one.cluster, one.labels.grades)])

    assert of(base) == of(text)
    assert len({of(base), of(label), of(replace(base, id="two")), of(replace(base, cluster="c"))}) == 4


def test_describe_lists_candidates_and_steps():
    data = load_suite("rewardmath").load(SUITES.get("rewardmath").parent / "sample.jsonl")
    assert describe(data)[0] == {
        "id": "rewardmath/0",
        "subset": "rewardmath",
        "group": "",
        "candidates": 10,
        "steps": [2] * 10,
    }


EXAMPLES = [
    pair(f"{subset}/{n}", subset) for subset, size in [("big", 60), ("mid", 30), ("one", 1)] for n in range(size)
]


@pytest.mark.parametrize("limit", [3, 10, 40, 91, 500, 0.1, 0.5])
def test_a_sample_keeps_proportions_order_and_every_subset(limit):
    drawn = stratified_sample(EXAMPLES, limit, seed=1)
    wanted = min(91, round(91 * limit) if limit < 1 else limit)
    assert len(drawn) == wanted
    assert {one.subset for one in drawn} == {"big", "mid", "one"}
    assert [one.id for one in drawn] == [one.id for one in EXAMPLES if one in drawn]
    assert abs(sum(one.subset == "big" for one in drawn) - wanted * 60 / 91) <= 1


def test_a_sample_depends_on_the_seed_and_grows_with_the_limit():
    small, large = ([one.id for one in stratified_sample(EXAMPLES, limit, seed=1)] for limit in (10, 40))
    assert set(small) <= set(large)
    assert small == [one.id for one in stratified_sample(reversed(EXAMPLES), 10, seed=1)][::-1]
    assert small != [one.id for one in stratified_sample(EXAMPLES, 10, seed=2)]


def test_a_sample_smaller_than_the_number_of_subsets_is_not_padded():
    assert len(stratified_sample(EXAMPLES, 1, seed=0)) == 1
    with pytest.raises(UsageError, match="--limit"):
        stratified_sample(EXAMPLES, 0, seed=0)


def test_naming_suites_imports_nothing_heavy():
    code = (
        "import sys; from rmeval.suites import suite_names; suite_names();"
        "print(sorted({'torch','transformers','datasets','pandas','numpy','scipy','pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
