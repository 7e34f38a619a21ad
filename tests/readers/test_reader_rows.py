"""Rows: every kind of file gives the same values, and a fault is named with its file and line."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

from rmeval.errors import UsageError
from rmeval.readers.rows import data_files, faults_message, read_file, skipping

ROWS = [
    {"id": "007", "prompt": "What is NA?", "chosen": "None", "rejected": "zwei\nZeilen, ä"},
    {"id": "8", "prompt": "“Hi”", "chosen": "", "rejected": "no"},
]


def values(path):
    return [dict(row.values) for row in read_file(path, path.name)]


def write(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.json.gz", "a.jsonl.gz"])
def test_json_in_all_its_forms_gives_the_same_rows(tmp_path, name):
    text = json.dumps(ROWS, indent=2) if ".json" in name and "l" not in name else "\n".join(map(json.dumps, ROWS))
    content = text.encode()
    path = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    assert values(path) == ROWS


@pytest.mark.fault("F11")
def test_json_lines_under_a_json_name_and_windows_line_ends_are_read(tmp_path):
    assert values(write(tmp_path / "a.json", "\r\n".join(map(json.dumps, ROWS)).encode())) == ROWS


def test_parquet_keeps_lists_and_objects(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"chosen": ["a", "b"], "turns": [{"role": "user", "content": "Hi"}], "n": 3}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == rows


def test_csv_cells_stay_the_text_they_are(tmp_path):
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    assert values(tmp_path / "a.csv") == ROWS


def test_rows_know_the_line_they_start_on(tmp_path):
    pretty = write(tmp_path / "a.json", json.dumps(ROWS, indent=1).encode())
    assert [row.place for row in read_file(pretty, "a.json")] == ["a.json line 2", "a.json line 8"]
    lines = write(tmp_path / "a.jsonl", b'\n{"a": 1}\n\n{"a": 2}\n')
    assert [row.place for row in read_file(lines, "a.jsonl")] == ["a.jsonl line 2", "a.jsonl line 4"]


FAULTS = {
    "duplicate key": (b'{"a": 1, "a": 2}', "'a' stands twice"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "infinity in disguise": (b'{"a": 1e999}', "1e999"),
    "depth": (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    "long integer": (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    "invalid UTF-8": (b'{"a": "\xff"}', "UTF-8"),
    "half a surrogate pair": (b'{"a": "\\ud800"}', "surrogate"),
    "no JSON": (b'{"a": }', "not valid JSON"),
    "no object": (b"[1]", "object is expected"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("form", ["lines", "list"])
@pytest.mark.fault("F11")
def test_a_fault_names_file_and_line(tmp_path, fault, form):
    bad, says = FAULTS[fault]
    good = b'{"a": 0}'
    content = (
        good + b"\n" + good + b"\n" + bad if form == "lines" else b"[" + good + b",\n" + good + b",\n" + bad + b"]"
    )
    path = write(tmp_path / "rows.json", content)
    with pytest.raises(UsageError, match="rows.json line 3") as caught:
        read_file(path, "rows.json")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"a": 1} {"a": 2}]', "comma"),
        (b'[{"a": 1},]', "not valid JSON"),
        (b'[{"a": 1}', "comma or the end"),
        (b'[{"a": 1}]\n[]', "line 2: not valid JSON: something follows"),
        (b"\xef\xbb\xbf[]", "byte-order mark"),
    ],
)
def test_broken_lists_are_refused(tmp_path, content, says):
    with pytest.raises(UsageError, match=r"rows\.json line \d") as caught:
        read_file(write(tmp_path / "rows.json", content), "rows.json")
    assert says in str(caught.value)


@pytest.mark.fault("F11")
def test_all_bad_lines_are_named_at_once_and_the_rest_counted(tmp_path):
    path = write(tmp_path / "rows.jsonl", b'{"a": 1}\n' + b"oops\n" * 25)
    with pytest.raises(UsageError, match="25 bad lines") as caught:
        read_file(path, "rows.jsonl")
    message = str(caught.value)
    assert "line 2," in message
    assert "line 21," in message
    assert "line 22," not in message
    assert message.endswith("... and 5 more")


@pytest.mark.parametrize("line", [b"1\n", b"oops\n", b'{"a": "\\ud800"}\n'])
def test_what_has_no_end_of_bad_lines_is_given_up(tmp_path, line):
    path = write(tmp_path / "rows.jsonl", b'{"a": 1}\n' + line * 11_000)
    with pytest.raises(UsageError, match="more than 10000 bad rows: no file of rows"), skipping():
        read_file(path, "rows.jsonl")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.csv"])
def test_files_that_are_not_what_they_are_called_give_one_line(tmp_path, name):
    with pytest.raises(UsageError, match=name) as caught:
        read_file(write(tmp_path / name, b"\x00\xff" * 40), name)
    assert "\n" not in str(caught.value)


def test_csv_rows_of_another_width_are_named(tmp_path):
    path = write(tmp_path / "a.csv", b'id,prompt\n1,"two\nlines"\n2\n\n3,a,b\n')
    with pytest.raises(UsageError, match="2 bad rows") as caught:
        read_file(path, "a.csv")
    assert "a.csv row 2: 1 cells for 2 columns" in str(caught.value)
    assert "a.csv row 3: 3 cells for 2 columns" in str(caught.value)
    with skipping() as skipped:
        assert [dict(row.values) for row in read_file(path, "a.csv")] == [{"id": "1", "prompt": "two\nlines"}]
    assert len(skipped) == 2


@pytest.mark.parametrize("end", [b'"a', b'"a"b,c'])
def test_csv_quotes_that_do_not_close_are_refused(tmp_path, end):
    with pytest.raises(UsageError, match=r"a\.csv line 2"):
        read_file(write(tmp_path / "a.csv", b"id,prompt\n" + end), "a.csv")


def test_a_column_twice_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["id", "id"]), tmp_path / "a.parquet")
    write(tmp_path / "a.csv", b"id,id\na,b\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(UsageError, match="a column name stands twice"):
            read_file(tmp_path / name, name)


@pytest.mark.parametrize(("text", "rows", "said"), [("a", 10**6, "says it holds 1000000 rows"), ("a" * 2**20, 200, "of rows in")])  # fmt: skip
def test_a_small_parquet_that_unpacks_to_very_much_is_refused(tmp_path, text, rows, said):
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    pq.write_table(pa.table({"prompt": column.cast(pa.string())}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(UsageError, match=said):
        read_file(tmp_path / "a.parquet", "a.parquet")


def test_unknown_endings_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"\.parquet"):
        read_file(write(tmp_path / "rows.xlsx", b"x"), "rows.xlsx")


def test_folders_list_data_files_only_and_nothing_hidden(tmp_path):
    for name in ["b.jsonl", "data/a.parquet", "README.md", ".cache/c.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [file.relative_to(tmp_path).as_posix() for file in data_files(tmp_path)] == ["b.jsonl", "data/a.parquet"]


def test_few_faults_are_not_cut():
    assert faults_message("head", ["a", "b"]) == "head\n  a\n  b"
