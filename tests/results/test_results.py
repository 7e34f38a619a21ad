"""The result file: what is written can be read, equal runs are equal, and altered or unsound files are refused."""

from __future__ import annotations

import gzip
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import at, draft, pairs, write

from rmeval import environment, results, samples
from rmeval.errors import ResourceError, UsageError
from rmeval.types import NAN, Judgement, Metric, Verdict


def same(a: Judgement, b: Judgement) -> bool:
    """Equality where NaN equals NaN: reprs of floats are exact."""
    return repr(a) == repr(b)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = pairs(missing=0.1, ties=0.1)
    path = write(tmp_path, rows, model="acme/reward-small")
    assert path.parent == tmp_path / "acme__reward-small" / "toy-pairs"
    assert path.name == f"20261121T120000Z-{results.read(path).id[:7]}.json"
    view = results.load_result(path)
    assert len(view.judgements) == len(rows) == view.result.samples.rows
    assert all(same(a, b) for a, b in zip(view.judgements, rows, strict=True))
    assert sum(math.isnan(s) for j in view.judgements for s in j.scores) > 0
    assert view.headline == Metric("accuracy", 0.75, None, (0.7, 0.8), 160, 0)
    raw = json.loads(path.read_text())
    assert raw["schema"] == 1
    assert raw["headline"] == {"name": "accuracy", "value": 0.75, "ci": [0.7, 0.8]}
    assert {p.suffix for p in path.parent.iterdir()} == {".json", ".gz"}, "a temporary file was left behind"


def test_every_kind_of_score_survives_the_samples_file(tmp_path: Path) -> None:
    common = {"subset": "s", "group": "g", "cluster": "c"}
    rows = [
        Judgement("scores", grades=(1.0, 0.0), scores=(1e-17, -2.5e300), **common),
        Judgement("steps", grades=(1.0,), step_grades=((1, 0, -1),), step_scores=((0.1, NAN, 0.3),), **common),
        Judgement(
            "verdicts",
            grades=(1.0, 0.0),
            verdicts=(Verdict((0, 1), "A>>B", None, (0.9, 0.1)), Verdict((1, 0), None, "unparsed")),
            **common,
        ),
        Judgement("ratings", grades=(1.0, 0.0), ratings=((9.0, NAN, 8.0), (4.0, 5.0, 6.0)), **common),
        Judgement("none", grades=(1.0, 0.0), scores=(NAN, NAN), reasons=("not_recorded",) * 2, **common),
        Judgement('quote "\u2028\u00e9', grades=(1.0, 1.0, 0.0), scores=(0.0, 1.0, 2.0), lengths=(3, 0, 5), **common),
    ]
    view = results.load_result(write(tmp_path, rows))
    assert all(same(a, b) for a, b in zip(view.judgements, rows, strict=True))
    first = json.loads(gzip.decompress((view.path.parent / view.result.samples.file).read_bytes()).splitlines()[0])
    assert list(first) == ["id", "subset", "group", "cluster", "grades", "scores"], "empty fields are left out"


def test_equal_runs_are_equal_in_what_is_compared(tmp_path: Path) -> None:
    rows = pairs()
    first = results.read(write(tmp_path / "a", rows, hour=1))
    later = draft(
        counts=draft().counts.model_copy(update={"cached": 320}),
        usage=draft().usage.model_copy(update={"seconds": 99.0}),
        environment=results.current_environment(device="cuda", argv=["other"]),
    )
    second = results.read(results.write(later, rows, tmp_path / "b", created=at(2)))
    assert results.to_dict(first) != results.to_dict(second)
    assert results.compared(first) == results.compared(second)
    assert first.id == second.id
    changed = [replace(rows[0], scores=(9.0, 0.0)), *rows[1:]]
    third = results.read(write(tmp_path / "c", changed))
    assert results.compared(third) != results.compared(first)


def test_the_samples_bytes_depend_on_the_rows_alone() -> None:
    first = samples.dump(pairs())
    time.sleep(0.01)
    assert samples.dump(pairs()) == first
    assert first[0][4:8] == b"\0\0\0\0", "the gzip header carries a time"


def test_two_results_of_one_second_do_not_overwrite_each_other(tmp_path: Path) -> None:
    first, second = write(tmp_path, pairs(seed=1)), write(tmp_path, pairs(seed=2))
    assert first != second
    assert not same(results.load_result(first).judgements[0], results.load_result(second).judgements[0])


def test_the_id_follows_what_was_asked() -> None:
    a = draft()

    def run_id(d: results.Draft) -> str:
        return results.fingerprint(d.model, d.suite, d.scorer, d.engine, d.metric_options)

    others = [
        replace(a, model=a.model.model_copy(update={"revision": "fff"})),
        replace(a, suite=a.suite.model_copy(update={"limit": 10})),
        replace(a, engine=a.engine.model_copy(update={"dtype": "bfloat16"})),
        replace(a, metric_options={"ties": "win"}),
    ]
    assert run_id(a) == run_id(replace(a, complete=False, notes=("x",)))
    assert len({run_id(d) for d in [a, *others]}) == 5


@pytest.mark.parametrize(
    "name",
    ["../../x", "/etc/passwd", "CON", "a/../../b", "..", "x" * 200, "-length", "a b\\c", "<script>alert(1)</script>",
     "replay:../up/file.jsonl", "org/name@main", "~root/x"],
)  # fmt: skip
@pytest.mark.fault("F52")
def test_no_model_name_leaves_the_output_folder(tmp_path: Path, name: str) -> None:
    out = tmp_path / "deep" / "out"
    path = write(out, pairs(prompts=2), model=name)
    assert path.resolve().is_relative_to(out.resolve())
    assert len(path.relative_to(out).parts) == 3
    part = path.relative_to(out).parts[0]
    assert set(part) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert part[0] not in ".-"
    assert len(part) <= 96
    assert results.read(path).model.name == name
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize("name", ["a\x00b", "evil\u202egpj", "zero\u200bwidth", "", "x" * 300, "line\nbreak"])
@pytest.mark.fault("F52")
def test_unprintable_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        draft(model=name)


def altered(path: Path, **changes: object) -> Path:
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 99}, "schema 99 is not known.*A newer rmeval"),
        ({"schema": None}, "no `schema` number"),
        ({"schema": True}, "no `schema` number"),
        ({"compleet": True}, "compleet: unknown key. Did you mean 'complete'"),
        ({"complete": "yes"}, "complete: .*boolean"),
        ({"headline": {"name": "accuracy", "value": 0.9, "ci": None}}, "differs from the first metric"),
        ({"metrics": []}, "metrics: .*at least 1"),
        ({"samples": {"file": "../x-samples.jsonl.gz", "sha256": "0" * 64, "rows": 1}}, "samples.file"),
        ({"counts": {"requests": -1}}, "counts.requests"),
        ({"created": "yesterday"}, "created"),
    ],
)
def test_unsound_result_files_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    path = altered(write(tmp_path, pairs(prompts=2)), **changes)
    with pytest.raises(UsageError, match=said) as error:
        results.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"value": 0.75', '"value": 1e999', "too large"),
        ('"value": 0.75', '"value": NaN', "NaN"),
        ('"value": 0.75', '"value": "0.75"', "headline.value"),
        ('"value": 0.75', '"value": 1' + "0" * 400, "headline.value"),
        ('"complete": true', '"complete": true, "complete": false', "stands twice"),
        ('"notes": []', '"notes": ' + "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('"complete": true', '"complete": true,,', "not valid JSON"),
    ],
)
def test_hostile_json_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = write(tmp_path, pairs(prompts=2))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=said):
        results.read(path)


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as handle:
        handle.truncate(2 * 2**30)
    start = time.monotonic()
    with pytest.raises(UsageError, match="larger than"):
        results.read(path)
    assert time.monotonic() - start < 2


def replaced_samples(path: Path, lines: list[str]) -> Path:
    """The same result over other samples, with a digest that fits, so that the row check itself is met."""
    raw = json.loads(path.read_text())
    content = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
    (path.parent / raw["samples"]["file"]).write_bytes(content)
    import hashlib

    raw["samples"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(raw))
    return path


GOOD = '{"id": "a", "subset": "s", "grades": [1, 0], "scores": [1, 0]}'


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"id": "b", "subset": "s", "grades": [1, 0], "scores": [1, "0"]}', "line 2.*scores.1"),
        ('{"id": "b", "subset": "s", "grades": [1, 0], "scores": [1, true]}', "line 2.*scores.1"),
        ('{"id": "b", "subset": "s", "grades": [1, 0], "scores": [1, null]}', "line 2.*needs its reason"),
        ('{"id": "b", "subset": "s", "grades": [1, 0], "scores": [1, 0, 2]}', "line 2.*counted differently"),
        ('{"id": "b", "subset": "s", "grades": [1, 0]}', "line 2.*nor reasons"),
        ('{"id": "b", "subset": "s", "grades": [1, 0], "scors": [1, 0]}', "line 2.*Did you mean 'scores'"),
        ('{"id": "b", "id": "c", "subset": "s", "grades": [1, 0], "scores": [1, 0]}', "line 2.*stands twice"),
        (
            '{"id": "b", "subset": "s", "grades": [1, 0], "verdicts": [{"order": [0, 0], "verdict": "A"}]}',
            "line 2.*order",
        ),
        (
            '{"id": "b", "subset": "s", "grades": [1, 0], "verdicts": [{"order": [0, 5], "verdict": "A"}]}',
            "line 2.*order",
        ),
        (GOOD, "line 2.*'a' stands in line 1 already"),
        ("", "1 rows, but the result file states 2"),
        (GOOD.replace('"a"', '"b"') + "\n" + GOOD.replace('"a"', '"c"'), "line 3: more rows than the 2"),
    ],
)
def test_unsound_sample_rows_are_refused(tmp_path: Path, bad: str, said: str) -> None:
    rows = [replace(j, id=i) for j, i in zip(pairs(prompts=1, subsets=("s",)), "ab", strict=True)]
    path = replaced_samples(write(tmp_path, rows), [GOOD, bad])
    with pytest.raises(UsageError, match=said):
        results.load_result(path)


def test_altered_or_missing_samples_are_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, pairs(prompts=2))
    beside = path.parent / results.read(path).samples.file
    beside.write_bytes(samples.dump(pairs(prompts=2, seed=5))[0])
    with pytest.raises(UsageError, match="altered"):
        results.load_result(path)
    beside.unlink()
    with pytest.raises(UsageError, match="missing; keep both files together"):
        results.load_result(path)


@pytest.mark.parametrize(
    "bad",
    [
        Judgement("x", "s", "", "c", (1.0, 0.0), scores=(1.0, NAN)),
        Judgement("x", "s", "", "c", (1.0, 0.0), scores=(1.0, math.inf)),
        Judgement("x", "s", "", "c", (1.0, 0.0), scores=(1.0,)),
        Judgement("x", "s", "", "c", (1.0, 0.0)),
    ],
)
def test_a_judgement_that_could_not_be_read_back_is_not_written(tmp_path: Path, bad: Judgement) -> None:
    with pytest.raises(ValueError, match="'x' cannot be written"):
        write(tmp_path, [bad])
    assert list(tmp_path.iterdir()) == []


def test_old_schemas_are_migrated_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = json.loads(write(tmp_path, pairs(prompts=2)).read_text())
    old = raw | {"schema": 0, "finished": raw["complete"]}
    del old["complete"]

    def from_0(content: dict[str, object]) -> dict[str, object]:
        content = dict(content)
        return {"complete": content.pop("finished"), **content}

    monkeypatch.setitem(results.MIGRATIONS, 0, from_0)
    assert results.to_dict(results.validate(old, "old.json")) == raw


@pytest.mark.fault("F22")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="disk is full"):
        write(tmp_path, pairs(prompts=2))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_pandas_has_a_row_per_example_and_candidate(tmp_path: Path) -> None:
    rows = pairs(prompts=5, missing=0.3)
    frame = results.load_result(write(tmp_path, rows)).to_pandas()
    assert len(frame) == 2 * len(rows)
    assert list(frame.columns[:7]) == ["id", "subset", "group", "cluster", "candidate", "grade", "score"]
    assert frame["score"].isna().sum() == sum(math.isnan(s) for j in rows for s in j.scores) > 0
    chosen = frame[frame["candidate"] == 0]
    assert (chosen["grade"] == 1).all()
    assert list(chosen["length"]) == [j.lengths[0] for j in rows]


def test_published_schemas_fit_what_is_written(tmp_path: Path) -> None:
    schema = results.json_schema("result")
    raw = json.loads(write(tmp_path, pairs(prompts=2)).read_text())
    assert set(raw) == set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert "reward" not in results.json_schema("samples")["properties"]
    assert {"id", "subset"} <= set(results.json_schema("samples")["required"])
    assert "reader" in results.json_schema("suite")["properties"]
    assert "model" in results.json_schema("scorer")["properties"]
    with pytest.raises(UsageError, match="Did you mean 'result'"):
        results.json_schema("reslt")


def test_secrets_do_not_reach_the_command_line_record() -> None:
    environ = {"OPENAI_API_KEY": "topsecretvalue", "PATH": "/usr/bin:/bin", "HF_TOKEN": "hf_abcdefghijklmnop"}
    said = environment.without_secrets(
        ["rmeval", "run", "m", "--api-key=abc", "--token", "abc", "-a", "judge.api_key=abc", "-a", "max_tokens=512",
         "-a", "x=topsecretvalue", "sk-abcdefghijklmnop", "--base-url", "https://u:pw@host/v1", "--limit", "5"],
        environ,
    )  # fmt: skip
    text = " ".join(said)
    assert not any(secret in text for secret in ("abc", "topsecret", "pw@"))
    assert "max_tokens=512" in said
    assert said[-2:] == ["--limit", "5"]
    assert "https://[hidden]@host/v1" in said
