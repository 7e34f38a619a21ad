"""What the standard parser lets through is an error with a place."""

from __future__ import annotations

import gzip

import pytest

from rmeval import strict_json
from rmeval.errors import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        "-Infinity",
        "[1e999]",
        '{"a":1,"a":2}',
        "[" * 200_000,
        "9" * 5000,
        '{"a":',
        "",
        "\ufeff{",
        "[1,]",
    ],
)
@pytest.mark.fault("F51")
def test_refused_with_one_message(text):
    with pytest.raises(UsageError, match=r"^x\.json"):
        strict_json.loads(text, "x.json")


def test_invalid_utf8_names_the_byte():
    with pytest.raises(UsageError, match="not valid UTF-8 at byte 2"):
        strict_json.loads(b'["\xff"]', "x")


@pytest.mark.fault("F11")
def test_bom_crlf_blank_lines_and_gzip_are_harmless(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n'))
    assert list(strict_json.read_lines(path)) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_torn_gzip_is_one_message(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:40])
    with pytest.raises(UsageError, match=r"a\.jsonl\.gz"):
        list(strict_json.read_lines(path))


def test_a_gzip_with_a_bit_turned_is_one_message(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    said = [(n, {"a": 1, "b": "some text"}) for n in (1, 2, 3)]
    sound = gzip.compress(b'{"a": 1, "b": "some text"}\n' * 3, mtime=0)
    for at in range(10, len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 4]) + sound[at + 1 :])
        try:
            assert list(strict_json.read_lines(path)) == said  # some bits say nothing
        except UsageError as fault:
            assert "a.jsonl.gz" in str(fault)  # noqa: PT017 - or this


@pytest.mark.parametrize("text", [b"\n", b"[", b"1\n"])
def test_a_small_gzip_that_unpacks_to_very_much_is_refused_on_the_way(tmp_path, text):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(text * (20 * 2**20 // len(text))))
    with pytest.raises(UsageError, match="larger than 16 MiB when it is unpacked"):
        strict_json.read(path)
    if text == b"\n":
        with pytest.raises(UsageError, match="more than 100000 blank lines"):
            list(strict_json.read_lines(path))


def test_the_line_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 1, "a": 2}\n')
    with pytest.raises(UsageError, match=r"a\.jsonl line 2: key 'a' stands twice"):
        list(strict_json.read_lines(tmp_path / "a.jsonl"))
