"""Submissions: what is sent is recomputed, what is wrong is refused with its code, and nothing lands where it should not."""

import gzip
import hashlib
import json
import os
import random
import shutil
import tracemalloc
import zipfile
from pathlib import Path
from time import monotonic

import pytest
from command import rmeval

from rmeval.leaderboard.audit import audit
from rmeval.leaderboard.board import build
from rmeval.leaderboard.submission import FILE, name_fault, open_submission
from rmeval.leaderboard.verify import verify
from rmeval.results import load_result


@pytest.fixture(scope="session")
def run_once(tmp_path_factory):
    """Two baselines on the embedded suite, as a person gets them."""
    out = tmp_path_factory.mktemp("runs")
    for model in ("random", "length"):
        assert rmeval("run", model, "--suite", "arithmetic", "--out", out).code == 0
    return out


@pytest.fixture
def result(run_once, tmp_path):
    """The random baseline's result file, in a folder of its own."""
    shutil.copytree(run_once / "random", tmp_path / "run")
    [found] = (tmp_path / "run").rglob("*.json")
    return found


@pytest.fixture(scope="session")
def sent_once(run_once, tmp_path_factory):
    """The random baseline's submission."""
    into = tmp_path_factory.mktemp("sent")
    [result] = (run_once / "random").rglob("*.json")
    made = rmeval("submit", result, "--by", "us", "--contact", "us@example.org", "--submissions", into)
    assert made.code == 0, made.stderr
    return into


@pytest.fixture
def sent(sent_once, tmp_path):
    """It, in a folder of its own."""
    shutil.copytree(sent_once, tmp_path / "subs")
    return tmp_path / "subs" / "random" / "arithmetic"


def forge(result: Path, change, *, rows=None) -> Path:
    """The result with something else in it, its samples' digest set right again."""
    content = json.loads(result.read_text())
    samples = result.parent / content["samples"]["file"]
    if rows is not None:
        lines = [json.loads(line) for line in gzip.decompress(samples.read_bytes()).decode().splitlines()]
        lines = rows(lines)
        text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        samples.write_bytes(gzip.compress(text.encode(), mtime=0))
        content["samples"] |= {"sha256": hashlib.sha256(samples.read_bytes()).hexdigest(), "rows": len(lines)}
    change(content)
    result.write_text(json.dumps(content))
    return result


def nothing(_):
    pass


def codes(found):
    return {fault.code for fault in found.faults}


def one(name, subset):
    """The place of a metric in a result file."""
    return lambda content: next(
        i for i, m in enumerate(content["metrics"]) if (m["name"], m["subset"]) == (name, subset)
    )


def named(sent: Path, name: str, folder: str) -> Path:
    """The submission again under another name, in a folder of the sender's choice."""
    there = shutil.copytree(sent, sent.parent.parent / folder / "arithmetic")
    held = json.loads((there / FILE).read_text())
    pinned = {"name": name, "kind": "scalar", "revision": "a" * 40}
    forge(there / held["result"], lambda c: c["model"].update(pinned))
    held["result_sha256"] = hashlib.sha256((there / held["result"]).read_bytes()).hexdigest()
    (there / FILE).write_text(json.dumps(held))
    return there


# --- what is sound ---------------------------------------------------------------------------------------------------


def test_a_submission_is_recomputed_and_says_how_to_send_it(sent, result):
    said = rmeval("verify", sent)
    assert said.code == 0
    assert "random on arithmetic: recomputed" in said.stdout
    opened = open_submission(sent)
    assert opened.submission.declared.by == "us"
    held, made = (json.loads(path.read_text()) for path in (opened.view.path, result))
    *command, place = made["environment"].pop("command")
    assert Path(place).is_absolute()
    assert held["environment"].pop("command") == [*command, Path(place).name]
    assert held == made
    again = rmeval("submit", result, "--by", "others", "--submissions", sent.parent.parent)
    assert "git add" in again.stdout
    assert open_submission(sent).submission.declared.by == "others"


def test_scoring_again_reproduces_it(sent):
    said = rmeval("verify", sent, "--reproduce", 40, "--json").document
    assert said["level"] == "reproduced"
    assert any("largest difference 0" in note for note in said["notes"])


# --- F49, F50, F57: claims, ids, digests -----------------------------------------------------------------------------


@pytest.mark.fault("F49")
def test_f49_a_claim_that_is_off_is_rejected_with_both_numbers(result):
    def change(content):
        content["metrics"][0]["value"] += 1e-3
        content["headline"]["value"] += 1e-3

    before = json.loads(result.read_text())["headline"]["value"]
    said = rmeval("verify", forge(result, change))
    assert said.code == 2
    assert f"{before:.9g}" in said.stdout
    assert f"{before + 1e-3:.9g}" in said.stdout
    assert "claim" in said.stdout


@pytest.mark.fault("F49")
def test_a_claim_about_an_interval_or_a_count_is_checked_too(result):
    def narrower(content):
        metric = next(m for m in content["metrics"][1:] if m["ci"] and m["value"])
        metric["ci"] = [metric["value"], metric["value"]]

    assert codes(verify(forge(result, narrower))) == {"claim"}


@pytest.mark.fault("F49")
def test_the_headline_is_the_suites_and_no_other_metric_of_it(result):
    def another(content):
        content["metrics"].insert(0, content["metrics"].pop(one("accuracy", "pairs")(content)))
        content["headline"] = {key: content["metrics"][0][key] for key in ("name", "value", "ci")}

    found = verify(forge(result, another))
    assert codes(found) == {"claim"}
    assert found.faults[0].message == "its headline is accuracy of pairs, the suite's is accuracy"


@pytest.mark.fault("F49")
@pytest.mark.parametrize(("key", "value"), [("higher_is_better", False), ("unit", "number")])
def test_how_a_number_is_read_is_a_claim_too(result, key, value):
    """The board takes the direction of its order from it: one sender turned a whole suite upside down."""
    found = verify(forge(result, lambda content: content["metrics"][0].update({key: value})))
    assert codes(found) == {"claim"}
    assert f"accuracy: states {key} {value}, the suite has" in found.faults[0].message


def test_no_sender_writes_the_rule_of_a_suite(run_once, tmp_path):
    shutil.copytree(run_once, tmp_path / "runs")
    for file in (tmp_path / "runs").rglob("*.json"):
        forge(file, lambda content: content["metrics"][0].update(note="mine is the rule; interval: none"))
    made = rmeval(
        "leaderboard", "build", tmp_path / "runs", "--out", tmp_path / "site", "--submissions", tmp_path / "none"
    )
    assert made.code == 0
    assert "rule: " in made.stdout
    assert "ine is the rule" not in made.stdout


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"errors": 3}, "states 3 errors, its samples have 0"),
        ({"truncated": 1}, "states 1 truncated, its samples have 0"),
        ({"cached": 7}, "states 7 stored replies to 0 requests"),
    ],
)
def test_the_counts_follow_from_the_samples_too(result, counts, said):
    forge(result, lambda content: content["counts"].update(counts))
    [fault] = verify(result).faults
    assert (fault.code, said in fault.message) == ("claim", True)


@pytest.mark.parametrize("created", ["2099-01-01T00:00:00Z", "2026-13-41T00:00:00Z"])
def test_what_was_made_in_the_future_is_rejected_and_stands_for_nothing(sent, result, created, tmp_path):
    out = ("--out", tmp_path / "site", "--submissions", sent.parent.parent)
    before = [e["created"] for s in built(result.parent, *out)["suites"] for e in s["entries"]]
    declared = json.loads((sent / FILE).read_text())
    (sent / FILE).write_text(json.dumps({**declared, "created": created}))
    [fault] = verify(sent).faults
    assert fault.code == "claim"
    assert created in fault.message
    (sent / FILE).write_text(json.dumps(declared))
    late = Path(shutil.copytree(result.parent, tmp_path / "late"), result.name)
    forge(late, lambda content: content.update(created=created))
    assert codes(verify(late)) == {"claim"}
    board = built(tmp_path, *out)  # the newest stands for its model, and this is no newer one
    assert [e["created"] for s in board["suites"] for e in s["entries"]] == before
    assert created in json.dumps(board["excluded"])


def built(*arguments):
    got = rmeval("leaderboard", "build", *arguments, "--json")
    assert got.code == 0, got.stderr
    return got.document


def test_a_claim_that_nobody_can_compute_is_no_claim(result):
    def more(content):
        content["metrics"].append({**content["metrics"][-1], "name": "vibes"})

    assert "vibes is not a metric" in verify(forge(result, more)).faults[0].message


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (lambda lines: lines[:-1], "ids"),
        (lambda lines: [{**lines[0], "id": "mine"}, *lines[1:]], "labels"),
        (lambda lines: [*lines[:-1], {**lines[-1], "id": lines[0]["id"]}], "unreadable"),
        (lambda lines: [{**lines[0], "grades": lines[0]["grades"][::-1]}, *lines[1:]], "labels"),
        (lambda lines: [{**lines[0], "scores": lines[0]["scores"][:-1]}, *lines[1:]], "unreadable"),
        (lambda lines: [{**lines[0], "subset": "elsewhere"}, *lines[1:]], "ids"),
        (lambda lines: [{**lines[0], "slices": ["the hard ones"]}, *lines[1:]], "labels"),
    ],
    ids=["missing", "extra", "twice", "grades", "count", "subset", "slices"],
)
@pytest.mark.fault("F50")
def test_f50_samples_that_are_not_the_suites_are_rejected(result, rows, code):
    found = verify(forge(result, lambda c: c["suite"]["data"].update(labels_sha256=None), rows=rows))
    assert codes(found) == {code}, found.faults


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c["suite"]["data"].update(labels_sha256="0" * 64), "labels"),
        (lambda c: c["suite"]["data"].update(sha256="0" * 64), "suite"),
        (lambda c: c["suite"].update(version=99), "suite"),
        (lambda c: c["suite"].update(name="no-such-suite"), "suite"),
        (lambda c: c.update(schema=99), "unreadable"),
        (lambda c: c["model"].update(kind="scalar", revision=None), "unpinned"),
        (lambda c: c["model"].update(kind="scalar", revision="main"), "unpinned"),
        (lambda c: c["model"].update(kind="scalar", revision="a" * 40 + "\n"), "unpinned"),
        (lambda c: c["model"].update(kind="scalar, made again by the maintainers"), "name"),
        (lambda c: c["environment"].update(rmeval=""), "name"),
        (lambda c: c.update(created=c["created"].replace("2", "\u0662")), "unreadable"),
        (lambda c: c["model"].update(name="acme/rm", kind="baseline"), "unpinned"),
        (lambda c: c["model"].update(name="acme/rm", kind="magic"), "unpinned"),
        (lambda c: c["suite"].update(limit=10), "incomplete"),
        (lambda c: c.update(complete=False), "incomplete"),
        (lambda c: c.update(metric_options={"ties": "win"}), "definition"),
    ],
)
@pytest.mark.fault("F57")
def test_f57_what_is_not_the_official_whole_is_rejected_with_its_code(result, change, code):
    assert code in codes(verify(forge(result, change)))


def test_a_checkpoint_on_disk_is_pinned_by_the_digest_of_its_files(result):
    revision = "sha256:" + "ab" * 32
    assert verify(forge(result, lambda c: c["model"].update(kind="scalar", revision=revision))).accepted


# --- F51, F52, F54, F55: hostile content -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "x", "subset": "s", "grades": [1, 0], "scores": ["1", "0"]}',
        '{"id": "x", "subset": "s", "grades": [1, 0], "scores": [NaN, 0]}',
        '{"id": "x", "subset": "s", "grades": [1, 0], "scores": [Infinity, 0]}',
        '{"id": "x", "subset": "s", "grades": [1, 0], "scores": [1e999, 0]}',
        '{"id": "x", "subset": "s", "grades": [1, 0], "scores": [' + "9" * 400 + ", 0]}",
        '{"id": "x", "subset": "s", "grades": [1, 0], "scores": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"id": "x", "id": "y", "subset": "s", "grades": [1, 0], "scores": [1, 0]}',
    ],
    ids=["strings", "nan", "infinity", "1e999", "digits", "nested", "twice"],
)
@pytest.mark.fault("F51")
def test_f51_hostile_rows_are_rejected_at_once(result, line):
    forge(result, nothing, rows=lambda lines: [line, *lines[1:]])
    tracemalloc.start()
    start = monotonic()
    found = verify(result)
    spent, (_, most) = monotonic() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert codes(found) == {"unreadable"}
    assert spent < 2
    assert most < 300 * 2**20


@pytest.mark.fault("F51")
def test_f51_a_samples_file_that_grows_without_end_is_not_read(result):
    content = json.loads(result.read_text())
    samples = result.parent / content["samples"]["file"]
    samples.write_bytes(gzip.compress(b"[" * 200_000_000, compresslevel=1, mtime=0))
    content["samples"]["sha256"] = hashlib.sha256(samples.read_bytes()).hexdigest()
    result.write_text(json.dumps(content))
    tracemalloc.start()
    found = verify(result)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert codes(found) == {"unreadable"}
    assert most < 300 * 2**20


@pytest.mark.fault("F51")
def test_f51_more_samples_than_the_suite_could_have_are_not_read(result):
    """Four million of them fit into the size that a folder may have, and take all memory once they are rows."""
    forge(
        result, lambda c: c["samples"].update(rows=4_000_000), rows=lambda lines: [*lines[:-1], "none of these is read"]
    )
    [fault] = verify(result).faults
    assert (fault.code, "states 4,000,000 samples" in fault.message) == ("unreadable", True)


@pytest.mark.fault("F51")
def test_f51_bytes_that_are_no_text_are_rejected(result):
    result.write_bytes(result.read_bytes().replace(b'"arithmetic"', b'"arith\xff"'))
    assert codes(verify(result)) == {"unreadable"}


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/x",
        "CON",
        "a\x00b",
        "a\u202eb",
        "rand\u200bom",
        "x" * 10_000,
        "-rf",
        "a//b",
        "nul.txt",
        "a\\b",
        "random ",
        "a  b",
        "a/b.",
    ],
)
@pytest.mark.fault("F52")
def test_f52_names_that_are_no_names_are_rejected_and_nothing_is_written(result, tmp_path, name):
    before = {p for p in tmp_path.rglob("*") if p != result}
    forge(result, lambda c: c["model"].update(name=name))
    assert name_fault(name)
    said = rmeval("submit", result, "--submissions", tmp_path / "subs")
    assert said.code == 2
    assert {p for p in tmp_path.rglob("*") if p != result} == before
    assert "\x00" not in said.stdout + said.stderr
    assert "\u202e" not in said.stdout + said.stderr


@pytest.mark.fault("F52")
def test_no_submission_takes_the_page_and_files_of_another_model(sent, tmp_path):
    """acme/rm and acme__rm are two names with one place for files, whose own names are their sender's choice."""
    named(sent, "acme/rm", "acme__rm")
    named(sent, "acme__rm", "aaa")
    named(sent, "random_", "zzz")
    own = forge(shutil.copytree(sent, tmp_path / "own") / next(sent.glob("*[0-9a-f].json")).name,
                lambda c: c["model"].update(name="random:", kind="scalar"))  # fmt: skip
    board = build([own], tmp_path / "site", submissions=sent.parent.parent)
    assert {entry.model for entry in board.suites[0].entries} == {"random", "random:", "acme/rm"}
    refused = {one.model: one.why for one in board.excluded}
    assert "acme/rm on arithmetic has a submission in another folder already" in refused["acme__rm"]
    assert "would lie where those of random: lie" in refused["random_"]


@pytest.mark.fault("F54")
def test_f54_links_folders_and_archives_are_refused(sent, tmp_path):
    [file] = sent.glob("*-samples.jsonl.gz")
    kept = file.read_bytes()
    for put in (
        lambda: file.symlink_to("/etc/hostname"),
        lambda: os.link(tmp_path / "other", file),
        lambda: os.mkfifo(file),
        file.mkdir,
    ):
        (tmp_path / "other").write_bytes(kept)
        file.unlink()
        put()
        found = verify(sent)
        assert codes(found) == {"unreadable"}
        assert "plain file" in found.faults[0].message or "hard link" in found.faults[0].message
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        file.write_bytes(kept)
    assert verify(sent).accepted
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../x", b"0" * 10_000_000)
    found = verify(tmp_path / "bomb.zip")
    assert "archives are not accepted" in found.faults[0].message
    (sent / "more.txt").write_text("x")
    assert "4 files" in verify(sent).faults[0].message


@pytest.mark.fault("F55")
def test_f55_of_two_results_of_one_model_the_first_stays(sent, result, tmp_path):
    other = forge(result, lambda c: c.update(id="f" * 64))
    said = rmeval("submit", other, "--submissions", tmp_path / "subs")
    assert said.code == 2
    assert "holds another result of random on arithmetic" in said.stderr
    assert open_submission(sent).view.result.id != "f" * 64
    assert not list((tmp_path / "subs").rglob("*.tmp"))


def test_a_folder_of_submissions_is_a_folder_of_results_too(sent, tmp_path):
    built = rmeval(
        "leaderboard", "build", sent, "--out", tmp_path / "site", "--submissions", tmp_path / "none", "--json"
    ).document
    assert [entry["model"] for entry in built["suites"][0]["entries"]] == ["random"]
    assert built["excluded"] == []


@pytest.mark.fault("F55")
def test_the_same_run_made_twice_leaves_the_submission_whole(sent, result, tmp_path):
    """It has the same id, other bytes and another file name: the one that is there stays, and is not pointed past."""
    again = rmeval("run", "random", "--suite", "arithmetic", "--out", tmp_path / "again")
    assert again.code == 0
    [second] = (tmp_path / "again").rglob("*.json")
    forge(second, lambda content: content.update(created="2026-11-01T00:00:00Z"))
    second = second.rename(second.with_name("renamed.json"))
    assert load_result(second).result.id == load_result(result).result.id
    said = rmeval("submit", second, "--submissions", sent.parent.parent)
    assert said.code == 2
    assert "holds another result of random on arithmetic" in said.stderr
    assert verify(sent).accepted
    # the very bytes under another name are the same result: only what is declared is written again
    same = result.rename(result.with_name("mine.json"))
    assert rmeval("submit", same, "--by", "others", "--submissions", sent.parent.parent).code == 0
    assert verify(sent).accepted
    assert open_submission(sent).submission.declared.by == "others"


def test_a_result_that_was_altered_after_it_was_sent_is_found(sent):
    [result] = (p for p in sent.glob("*.json") if p.name != FILE)
    result.write_text(result.read_text().replace('"licence": ""', '"licence": "x"'))
    assert "altered" in verify(sent).faults[0].message


# --- F56: what a reader should look at -------------------------------------------------------------------------------


def flags(result, others=(), *, rows):
    forge(result, nothing, rows=rows)
    return " ".join(verify(result, others).flags)


def with_scores(of):
    return lambda lines: [{**line, "scores": of(line)} for line in lines]


@pytest.mark.fault("F56")
def test_f56_constant_gold_and_length_are_flagged(run_once, result):
    assert "constant" in flags(result, rows=with_scores(lambda line: [1.0] * len(line["grades"])))
    assert "gold echo" in flags(result, rows=with_scores(lambda line: line["grades"]))
    noise = random.Random(0)
    assert "perfect" in flags(result, rows=with_scores(lambda line: [g + noise.random() / 2 for g in line["grades"]]))
    assert "follows length" in flags(result, rows=with_scores(lambda line: [float(n) for n in line["lengths"]]))
    assert "saturated" in flags(
        result, rows=with_scores(lambda line: [noise.choice([0.0, 1.0, 1.0, 0.5]) for _ in line["grades"]])
    )


@pytest.mark.fault("F56")
def test_f56_scores_of_another_entry_are_found_up_to_scale_and_shift(run_once, result):
    [other] = (run_once / "length").rglob("*.json")
    copied = with_scores(lambda line: [3 - 0.5 * n for n in line["lengths"]])
    affine = with_scores(lambda line: [3 + 0.5 * n for n in line["lengths"]])
    assert "copied: the same scores as length" in flags(result, [load_result(other)], rows=affine)
    assert "copied" not in flags(result, [load_result(other)], rows=copied)


def test_scores_that_cannot_be_found_again_are_not_reproduced(result, monkeypatch):
    view = load_result(result)
    found = audit(view, 30)
    assert found.agrees
    assert found.largest == 0
    other = audit(view, 30, model="length")
    assert not other.agrees
    assert other.decisions > 0
