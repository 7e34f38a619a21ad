"""A layout is found by names and by columns, at any depth; what does not fit is said in one message."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from rmeval.cards import SuiteCard, read_card
from rmeval.content import content_folder
from rmeval.errors import UsageError
from rmeval.readers.layouts import _searched, from_hub, from_path

ROW = {"id": 1, "prompt": "q", "chosen": "a", "rejected": "b"}


def card(*layouts, **more) -> SuiteCard:
    fields = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "subset": "subset"}
    return SuiteCard.model_validate(
        {
            "name": "toy",
            "version": 1,
            "title": "Toy",
            "summary": "A toy.",
            "licence": "ours",
            "reader": "pairs",
            "fields": fields,
            "layout": layouts,
            "rule": {"name": "accuracy"},
            **more,
        }
    )


OFFICIAL = {"name": "official", "files": ["sets/*/rows.json"], "path": r"(?P<subset>chat|code)/rows\.json$"}
HUB = {"name": "hub", "hub": "acme/toy", "splits": ["test"], "fields": {"subset": "domain"}}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_parquet(path, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("depth", ["repo", "repo/sets", "repo/sets/chat", "repo/sets/chat/rows.json"])
def test_the_official_layout_is_found_at_any_depth(tmp_path, depth):
    write(tmp_path / "repo/sets/chat/rows.json", [ROW])
    write(tmp_path / "repo/sets/chat/notes.json", [{"unrelated": 1}])
    table = from_path(tmp_path / depth, card(HUB, OFFICIAL))
    assert [row.values["subset"] for row in table.rows] == ["chat"]
    assert table.layout.name == "official"
    assert table.source == f"file:{Path(depth).name}"


def test_files_come_in_the_order_of_the_globs_and_say_where_rows_stand(tmp_path):
    write(tmp_path / "sets/code/rows.json", [ROW])
    write(tmp_path / "sets/chat/rows.json", [ROW])
    ordered = {**OFFICIAL, "files": ["code/rows.json", "chat/rows.json"]}
    table = from_path(tmp_path, card(ordered))
    assert [row.place for row in table.rows] == ["sets/code/rows.json line 1", "sets/chat/rows.json line 1"]


def test_a_snapshot_of_the_hub_reads_its_own_splits_only(tmp_path):
    write_parquet(tmp_path / "data/test-00000-of-00002.parquet", [{**ROW, "domain": "x"}])
    write_parquet(tmp_path / "data/test-00001-of-00002.parquet", [{**ROW, "domain": "y"}])
    write_parquet(tmp_path / "data/raw-00000-of-00001.parquet", [{**ROW, "domain": "z"}])
    table = from_path(tmp_path, card(HUB))
    assert [row.values["domain"] for row in table.rows] == ["x", "y"]
    assert {row.values["_split"] for row in table.rows} == {"test"}


def test_a_bare_file_under_any_name_is_known_by_its_columns(tmp_path):
    path = write(tmp_path / "whatever.jsonl", [{**ROW, "domain": "x"}])
    assert from_path(path, card(OFFICIAL, HUB)).layout.name == "hub"


def test_a_column_of_the_row_wins_over_the_split(tmp_path):
    path = write(tmp_path / "x.jsonl", [{**ROW, "domain": "x", "_split": "mine"}])
    assert from_path(path, card(HUB)).rows[0].values["_split"] == "mine"


def test_parts_of_columns_become_columns_and_values_are_renamed(tmp_path):
    layout = {
        "name": "rows",
        "extract": {"source": "^(?P<subset>[a-z]+)-"},
        "values": {"subset": {"mmlu": "MMLU"}},
    }
    path = write(tmp_path / "x.jsonl", [{**ROW, "source": "mmlu-law"}, {**ROW, "source": "math-hard"}])
    assert [row.values["subset"] for row in from_path(path, card(layout)).rows] == ["MMLU", "math"]


@pytest.mark.parametrize("key", ["extract", "path"])
def test_a_pattern_that_would_search_for_years_is_given_up(tmp_path, key, monkeypatch):
    monkeypatch.setattr("rmeval.readers.layouts.PATTERN_SECONDS", 0.05)
    pattern = "(?P<x>(a|aa)+)$"
    layout = {"name": "rows", "extract": {"source": pattern}} if key == "extract" else {"name": "rows", "path": pattern}
    path = write(tmp_path / ("a" * 60) / "x.jsonl", [{**ROW, "source": "a" * 60 + "b"}])
    with pytest.raises(UsageError, match="was not through with a text of"):
        from_path(path, card({**layout, "files": ["*.jsonl"]}))


def test_patterns_of_our_cards_find_what_the_standard_library_finds():
    draw = random.Random(1)
    patterns = set()
    texts = {"/data/chat_filtered.json", "/a/harmless-base/test.jsonl", "/LLMBar/Adversarial/GPTInst/dataset.json"}
    for file in sorted(content_folder("suites").glob("*/card.toml")):
        layouts = read_card(file, SuiteCard).layouts
        patterns |= {one for layout in layouts for one in (layout.path, *layout.extract.values()) if one}
        columns = {column for layout in layouts for column in layout.extract}
        texts |= {f"/{file.parent.name}/{name}" for layout in layouts for name in layout.files}
        rows = (file.parent / "sample.jsonl").read_text(encoding="utf-8").splitlines() if columns else []
        texts |= {str(json.loads(row).get(column)) for row in rows for column in columns}
    words = [word for pattern in patterns for word in re.findall(r"[\w-]{3,}", pattern)]
    there = sorted(texts)
    texts |= {
        draw.choice(("", "/", "x")) + word + draw.choice(("", "/test.jsonl", ".json", "\n", "_b")) for word in words
    }
    for _ in range(300):
        text, at = draw.choice(there), draw.randrange(20)
        texts.add(text[:at] + draw.choice(("\n", "_", "\u212a", "\u0130", "\ud800", "/", *words)) + text[at:])
    assert len(patterns) >= 12
    found = 0
    for pattern in patterns:
        for text in texts:
            plain = re.search(pattern, text)
            assert _searched(pattern, text) == (plain.groupdict() if plain else None), (pattern, text)
            found += plain is not None
    assert found > 100


def test_neighbouring_rows_are_gathered_into_one_with_lists(tmp_path):
    rows = [
        {"problem": n, "prompt": f"q{n}", "subset": "s", "chosen": c, "rejected": "r"}
        for n, c in [(1, "a"), (1, "b"), (2, "c")]
    ]
    path = write(tmp_path / "x.jsonl", rows)
    first, second = from_path(path, card({"name": "rows", "gather": "problem"})).rows
    assert (first.values["prompt"], first.values["chosen"]) == ("q1", ["a", "b"])
    assert (second.values["chosen"], second.place) == ("c", "x.jsonl line 3")


def test_of_alternatives_the_full_one_is_read_and_named(tmp_path):
    row = {**ROW, "subset": "s"}
    for name, rows in {"a": [row] * 3, "b": [row] * 2, "c": [{"other": 1}] * 2, "d": [row] * 2}.items():
        write(tmp_path / f"{name}_result.jsonl", rows)
    layout = {"name": "results", "files": ["*_result.jsonl"], "alternatives": True}
    table = from_path(tmp_path, card(layout, expected={"s": 2}))
    assert len(table.rows) == 2
    assert table.notes == ("read b_result.jsonl, one of 4 files that each hold the suite",)
    assert from_path(tmp_path / "d_result.jsonl", card(layout)).notes == ()


def test_nothing_fits_says_what_is_there_and_what_each_layout_wants_nearest_first(tmp_path):
    path = write(tmp_path / "mine.jsonl", [{"prompt": "q", "chosen": "a", "domain": "x"}])
    with pytest.raises(UsageError) as caught:
        from_path(path, card(OFFICIAL, HUB))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("mine.jsonl: no layout of suite 'toy' fits")
    assert lines[2].strip() == "columns of mine.jsonl: prompt, chosen, domain"
    assert lines[4].strip() == "hub: columns prompt, chosen, rejected, domain; lacking here: rejected"
    assert lines[5].strip().startswith("official: files sets/*/rows.json with columns")


def test_a_file_without_rows_says_so(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text("\n")
    with pytest.raises(UsageError, match="it holds no rows"):
        from_path(path, card(HUB))


def test_a_missing_path_names_the_near_miss(tmp_path):
    write(tmp_path / "rows.jsonl", [ROW])
    with pytest.raises(UsageError, match="no such file or folder. Did you mean 'rows.jsonl'"):
        from_path(tmp_path / "row.jsonl", card(HUB))


def test_a_folder_without_data_says_so(tmp_path):
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(UsageError, match="holds no file with rows"):
        from_path(tmp_path, card(HUB))


def test_a_suite_that_is_not_on_the_hub_says_where_it_lies():
    with pytest.raises(UsageError, match=r"not on the hub.*github\.com/acme/toy.*--data PATH"):
        from_hub(card({**OFFICIAL, "repository": "acme/toy"}))


def test_the_hub_without_a_network_gives_one_message():
    with pytest.raises(UsageError, match="acme/toy@main, split test") as caught:
        from_hub(card(HUB))
    assert "--data PATH" in str(caught.value)
