"""Malformed rows, odd sizes and numbers at their ends, through the command line; texts of any length, through weights."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from pathlib import Path

import own_rows
import pytest
import tiny
from command import rmeval

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.types import Chat, Message, Request


def written(path: Path, rows: list) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def run(data, *more, model="length"):
    return rmeval("run", model, "--suite", "pairs", "--data", data, "--out", data.parent / "out", "--json", *more)


def samples(data) -> dict[str, dict]:
    # names hold seconds, in which two runs may begin
    path = max((data.parent / "out").rglob("*samples.jsonl.gz"), key=lambda one: one.stat().st_mtime_ns)
    return {row["id"]: row for row in map(json.loads, gzip.open(path, "rt"))}


def found(document) -> dict:
    return {(one["name"], one["subset"]): one for one in document["metrics"]}


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F9")
def test_one_nan_in_a_thousand(tiny_reward_model, tmp_path):
    """The embedding of one rare word is NaN, so that every score but one is sound."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_reward_model, tmp_path / "one-nan"))
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][tiny.tokenizer().convert_tokens_to_ids("39")] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rows = [
        {"id": f"p{i}", "prompt": "what ?", "chosen": f"good {i % 39}", "rejected": f"bad {i % 37}"}
        for i in range(1000)
    ]
    rows[123]["chosen"] = "good 39"
    data = written(tmp_path / "mine.jsonl", rows)
    strict = run(data, model=folder)
    assert strict.code == 3, strict.stderr
    assert "1 score is missing (1 non_finite), more than --max-failed 0" in strict.document["withheld"]
    assert strict.document["headline"]["value"] is None
    missing = {key: row["reasons"] for key, row in samples(data).items() if row.get("reasons")}
    assert missing == {"p123": ["non_finite", None]}
    kept = run(data, "--max-failed", 1, model=folder)
    assert kept.code == 0, kept.stderr
    accuracy = found(kept.document)["accuracy", None]
    assert (accuracy["n"], accuracy["n_missing"]) == (999, 1)
    assert 0 <= accuracy["value"] <= 1


@pytest.mark.fault("F10")
def test_numbers_at_their_ends_compare_and_do_not_overflow(tmp_path):
    scores = [[1e308, -1e308], [-0.0, 0.0], [5e-324, 0.0], [-1e308, 1e308], [1.7976931348623157e308, 1e308]]
    rows = [{"id": f"p{i}", "prompt": f"what {i} ?", "chosen": "good", "rejected": "bad"} for i in range(20)]
    data = written(tmp_path / "mine.jsonl", rows)
    replay = written(tmp_path / "r.jsonl", [{"id": f"p{i}", "scores": scores[i % 5]} for i in range(20)])
    got = run(data, model=f"replay:{replay}")
    assert got.code == 0, got.stderr
    assert got.document["headline"]["value"] == 3 / 5  # minus zero and zero are a tie, which loses
    assert not {"NaN", "Infinity", "1e999"} & set(got.stdout.replace(",", " ").split())
    for command in (["report", "{}", "-o", tmp_path / "out.html"], ["rescore", "{}"], ["probe", "calibration", "{}"]):
        [path] = (tmp_path / "out").rglob("*.json")
        shown = rmeval(*(str(one).format(path) for one in command))
        assert shown.code == 0, shown.stderr
        assert "nan" not in shown.stdout.lower().split()
    pool = rmeval("probe", "best-of-n", path, "-o", tmp_path / "figures")
    assert (pool.code, pool.stdout) == (2, "")
    assert "example 'p0' has a reward beyond 1e+100" in pool.stderr
    for bad in ("1e999", "Infinity", "-Infinity", "NaN"):
        written(replay, [f'{{"id": "p0", "scores": [{bad}, 0]}}'])
        refused = run(data, model=f"replay:{replay}")
        assert refused.code == 2
        assert "r.jsonl line 1" in refused.stderr


# --- rows ------------------------------------------------------------------------------------------------------------

GOOD = {"prompt": "q", "chosen": "a", "rejected": "b"}
BAD = [
    {"prompt": "q", "chosen": "a"},
    {**GOOD, "chosen": 3},
    {**GOOD, "prompt": ""},
    {**GOOD, "rejected": None},
    {**GOOD, "chosen": ["a"]},
    {**GOOD, "id": "twice"},
    '{"prompt": "q", "chosen": "a", "rejected": "\\ud800"}',
    '{"prompt": "q", "prompt": "q", "chosen": "a", "rejected": "b"}',
    '{"prompt": "q", ',
    "[]",
]


@pytest.mark.fault("F11")
def test_bad_rows_are_skipped_counted_and_mark_the_data_when_asked_to(tmp_path):
    sound = [{**GOOD, "id": "twice"}, {**GOOD, "id": "a", "chosen": "c"}, {**GOOD, "id": "b", "rejected": ""}]
    data = written(tmp_path / "mine.jsonl", [sound[0], *BAD, *sound[1:]])
    refused = run(data)
    assert (refused.code, refused.stdout) == (2, "")
    got = run(data, "--skip-bad-rows")
    assert got.code == 0, got.stderr
    [note] = [one for one in got.document["notes"] if "skipped" in one]
    assert note.startswith(f"skipped {len(BAD)} bad rows: ")
    assert "mine.jsonl line 8" in note
    assert note in got.stderr
    assert not got.document["complete"]
    assert got.document["suite"]["examples"] == 3
    clean = run(written(tmp_path / "clean.jsonl", sound), "--skip-bad-rows")
    assert clean.document["complete"]
    assert not [note for note in clean.document["notes"] if "skipped" in note]
    assert clean.document["suite"]["data"]["labels_sha256"] == got.document["suite"]["data"]["labels_sha256"]
    assert clean.document["suite"]["data"]["sha256"] != got.document["suite"]["data"]["sha256"]
    [path] = [one for one in (tmp_path / "out").rglob("*.json") if got.document["id"] in one.read_text()]
    again = rmeval("reproduce", path)
    assert again.code == 0, again.stderr
    only_bad = run(written(tmp_path / "bad.jsonl", BAD), "--skip-bad-rows")
    assert only_bad.code in (0, 2)  # the one with an id of its own is sound where no other has it
    assert "Traceback" not in only_bad.stderr


@pytest.mark.fault("F11")
def test_every_bad_row_has_its_line_and_twenty_are_spelled_out(tmp_path):
    data = written(tmp_path / "mine.jsonl", [GOOD, *({"prompt": "q", "chosen": "a"} for _ in range(30)), GOOD])
    got = run(data)
    assert (got.code, got.stdout) == (2, "")
    lines = got.stderr.splitlines()
    assert lines[1].split(":")[0].strip() == "mine.jsonl line 2"
    assert lines[20].split(":")[0].strip() == "mine.jsonl line 21"
    assert lines[21].strip() == "... and 10 more"


@pytest.mark.fault("F11")
def test_lines_that_are_no_json_and_rows_that_lack_something_are_named_together(tmp_path):
    data = written(tmp_path / "mine.jsonl", [GOOD, {"prompt": "q", "chosen": "a"}, GOOD])
    data.write_bytes(data.read_bytes() + b'{"prompt": "torn\n')
    got = run(data)
    assert (got.code, got.stdout) == (2, "")
    assert "2 malformed rows" in got.stderr
    assert "mine.jsonl line 2: " in got.stderr
    assert "mine.jsonl line 4, column" in got.stderr


@pytest.mark.fault("F11")
def test_odd_rows_that_are_no_fault(tmp_path):
    rows = [
        {**GOOD, "chosen": "same", "rejected": "same"},
        {**GOOD, "chosen": "", "rejected": " "},
        {**GOOD, "chosen": "x" * 3_000_000},
        {**GOOD, "prompt": "\u202e\u200b\x00"},
        {**GOOD, "prompt": "tab\tand\r\nline ends \U0001f600"},
    ]
    data = written(tmp_path / "mine.jsonl", rows)
    content = data.read_bytes()
    data.write_bytes(content.replace(b"\n", b"\r\n"))
    got = run(data)
    assert got.code == 0, got.stderr
    assert got.document["suite"]["examples"] == 5
    assert any("1 of 5 examples cannot be won" in note for note in got.document["notes"])
    data.write_bytes(b"\xef\xbb\xbf" + content)
    assert "byte-order mark" in run(data).stderr


@pytest.mark.fault("F11")
def test_f11_a_byte_order_mark_hides_no_other_fault(tmp_path):
    data = written(tmp_path / "mine.jsonl", [{**GOOD, "id": "a"}, {"id": "b", "prompt": "q", "chosen": "x"}, GOOD])
    data.write_bytes(b"\xef\xbb\xbf" + data.read_bytes() + b"oops\n")
    got = run(data)
    assert got.code == 2
    for said in ("line 1: starts with a byte-order mark", "line 2: no 'rejected'", "line 4, column 1: not valid JSON"):
        assert said in got.stderr
    assert "3 malformed rows" in got.stderr
    left = run(data, "--skip-bad-rows")
    assert left.document["suite"]["examples"] == 1, "a row that is refused is left out, too"


@pytest.mark.fault("F12")
def test_one_altered_byte_has_another_digest(tmp_path, monkeypatch):
    rows = [{**GOOD, "id": f"p{i}", "prompt": f"what {i} ?", "chosen": "good", "rejected": "bad"} for i in range(12)]
    data = written(tmp_path / "mine.jsonl", rows)
    before = run(data).document["suite"]["data"]
    own_rows.card_folder(tmp_path / "cards", "pinned", labels_sha256=f'"{before["labels_sha256"]}"')
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))

    def pinned():
        return rmeval("run", "length", "--suite", "pinned", "--data", data, "--out", tmp_path / "out", "--json")

    # the name of the suite stands in its subset, so the digest of `pairs` is not the one of `pinned`
    assert pinned().code == 2
    mine = rmeval("show", "pinned", "--data", data, "--examples", "--json")
    assert mine.code == 2
    response = data.read_bytes()
    data.write_bytes(response.replace(b"bad", b"sad", 1))
    altered = run(data).document["suite"]["data"]
    assert altered["sha256"] != before["sha256"]
    assert altered["labels_sha256"] == before["labels_sha256"]
    data.write_bytes(response.replace(b"what 3", b"what 4", 1))
    assert run(data).document["suite"]["data"]["labels_sha256"] != before["labels_sha256"]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F13")
def test_no_rows_one_row_and_a_subset_without_rows(tmp_path):
    empty = run(written(tmp_path / "empty.jsonl", []))
    assert (empty.code, empty.stdout) == (2, "")
    assert "no layout of suite 'pairs' fits: empty.jsonl holds no rows" in empty.stderr
    one = run(written(tmp_path / "one.jsonl", [{**GOOD, "chosen": "longer"}]))
    assert one.code == 0, one.stderr
    accuracy = found(one.document)["accuracy", None]
    assert (accuracy["value"], accuracy["ci"], accuracy["n"]) == (1.0, None, 1)
    assert "nan" not in one.stdout.lower()


@pytest.mark.fault("F13")
def test_a_subset_without_rows_is_undefined(tmp_path, monkeypatch):
    folder = own_rows.styles_suite(tmp_path / "cards")
    card = next((tmp_path / "cards").rglob("card.toml"))
    assert folder is None or card.is_file()
    lines = card.read_text()
    card.write_text(lines + "\n[expected]\nstyles = 20\nabsent = 5\n" if "[expected]" not in lines else lines)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    data = own_rows.style_matrix(tmp_path / "rows.json", 20)
    got = rmeval("run", "length", "--suite", "styles", "--data", data, "--out", tmp_path / "out", "--json")
    assert got.code == 0, got.stderr
    assert "subsets are missing: absent" in " ".join(got.document["notes"])
    assert not got.document["complete"]
    assert "NaN" not in got.stdout


def request(text: str, question: str = "what ?") -> Request:
    return Request((Chat((Message("user", question), Message("assistant", text))),))


@pytest.mark.fault("F14")
def test_responses_of_no_one_and_a_hundred_thousand_tokens(tiny_reward_model, tmp_path):
    rows = [
        {**GOOD, "id": "empty", "chosen": "", "rejected": "bad"},
        {**GOOD, "id": "blank", "chosen": "  \n\t ", "rejected": "bad"},
        {**GOOD, "id": "one", "chosen": "good", "rejected": "bad"},
        {**GOOD, "id": "long", "chosen": "good bad " * 50_000, "rejected": "bad"},
    ]
    data = written(tmp_path / "mine.jsonl", rows)
    got = run(data, model=tiny_reward_model)
    assert got.code == 3, got.stderr
    assert "1 score is missing (1 truncated)" in got.document["withheld"]
    held = samples(data)
    assert held["long"]["reasons"] == ["truncated", None]
    assert held["long"]["truncated"] == [True, False]
    assert held["long"]["n_tokens"][0] > 100_000
    for key in ("empty", "blank", "one"):
        assert not any(held[key].get("reasons") or ())
        assert all(math.isfinite(score) for score in held[key]["scores"])
    assert held["empty"]["lengths"] == [0, 3]
    assert "truncated: a text is over the limit in 1 of 4 examples: long" in got.document["notes"]
    assert "empty_completion: a response is empty in 1 of 4 examples: empty" in got.document["notes"]
    skipped = run(data, "-a", "engine.truncation=skip", model=tiny_reward_model)
    assert skipped.code == 0, skipped.stderr  # it was to be left out, and what is left of the suite is not the suite
    assert (skipped.document["complete"], skipped.document["withheld"]) == (False, "")
    assert (skipped.document["counts"]["errors"], skipped.document["metrics"][0]["n_missing"]) == (0, 1)
    assert samples(data)["long"]["reasons"] == ["skipped", None]
    for side in ("left", "right", "middle"):
        cut = run(data, "-a", f"engine.truncation={side}", model=tiny_reward_model)
        assert cut.code == 0, cut.stderr  # a cut that was asked for by name is no failure, and it is counted
        assert cut.document["counts"]["truncated"] == 1
        assert (cut.document["text"]["side"], cut.document["text"]["over"]) == (side, 1 / 8)
        assert samples(data)["long"]["truncated"] == [True, False]
        assert math.isfinite(samples(data)["long"]["scores"][0])


@pytest.mark.fault("F15")
def test_the_limit_itself_is_within_the_limit(tiny_reward_model):
    [n] = TransformersEngine(Checkpoint(str(tiny_reward_model))).plan([request("good " * 10)]).tokens
    requests = [request("good " * k) for k in (9, 10, 11)]
    for truncation, reasons in (
        ("error", [None, None, "truncated"]),
        *((side, [None] * 3) for side in ("left", "right", "middle")),
        ("skip", [None, None, "skipped"]),
    ):
        engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), max_length=n, truncation=truncation)
        planned = engine.plan(requests)
        replies = dict(planned.settled)
        for batch in planned.batches:
            replies |= dict(zip(batch, engine.run([requests[i] for i in batch]), strict=True))
        assert [replies[i].truncated for i in range(3)] == [False, False, True]
        assert [replies[i].reason for i in range(3)] == reasons


@pytest.mark.fault("F15")
@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
def test_a_limit_beyond_a_table_of_places_is_refused(tmp_path, kind):
    folder = tiny.classifier(tmp_path / kind, kind=kind)
    data = written(tmp_path / "mine.jsonl", [{**GOOD, "chosen": "good " * 400}])
    more = ("-a", "engine.max_length=300", "-a", "engine.truncation=left", "-a", "engine.lint=warn")
    got = run(data, *more, model=folder)
    if kind == "llama":  # whose angles go on
        assert got.code == 0, got.stderr
    else:
        assert (got.code, got.stdout) == (2, "")
        assert f"-a engine.max_length=300: {kind} knows 256 places" in got.stderr
        assert run(data, *more, "-a", "engine.max_length=256", model=folder).code == 0


@pytest.mark.fault("F16", "F17", "F18")
@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
def test_no_neighbour_padding_or_batch_size_moves_a_score(tmp_path, pad):
    import random

    template = tiny.CHATML + "</s>"
    folders = {}
    for side in ("left", "right"):
        tok = tiny.tokenizer(pad=pad, template=template)
        tok.padding_side = side
        folders[side] = tiny.classifier(tmp_path / side, tok=tok)
    draw = random.Random(0)
    texts = [" ".join(draw.choices([*tiny.WORDS, "</s>"], k=draw.randint(1, 12))) for _ in range(33)]
    requests = [request(text, question="what is </s> ?") for text in texts]
    long = request(" ".join(draw.choices(tiny.WORDS, k=150)))

    def scores(engine, asked):
        plan = engine.plan(asked)
        values = {}
        for batch in plan.batches:
            values |= dict(zip(batch, (r.values[0][0] for r in engine.run([asked[i] for i in batch])), strict=True))
        values |= {i: values[first] for i, first in plan.twins.items()}
        return [values[i] for i in range(len(asked))]

    alone = scores(TransformersEngine(Checkpoint(str(folders["right"])), batch_size=1), requests)
    assert len(set(alone)) > 25
    order = draw.sample(range(33), 33)
    for folder in folders.values():
        engine = TransformersEngine(Checkpoint(str(folder)), max_length=256)
        for size in (1, 2, 7, 32):
            engine.batch_size = size
            shuffled = scores(engine, [requests[i] for i in order])
            beside = scores(engine, [long, *requests])[1:] if size > 1 else alone
            for other in (scores(engine, requests), beside, [shuffled[order.index(i)] for i in range(33)]):
                assert max(abs(a - b) for a, b in zip(alone, other, strict=True)) <= 1e-4
                pairs = list(zip(alone[:16], alone[16:32], other[:16], other[16:32], strict=True))
                assert all((a > b) == (c > d) for a, b, c, d in pairs if a != b)
