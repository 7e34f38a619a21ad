"""Results, samples and submissions of strangers, and the rows of the reply store."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import fuzz_mutations as mutations
from fuzz_driving import MOST_MESSAGE, REFUSED, Target, attempt
from fuzz_files import folder, written

from rmeval import results, samples, strict_json
from rmeval.environment import describe
from rmeval.errors import LockHeld
from rmeval.leaderboard.probed import read_probes
from rmeval.leaderboard.submission import Declared, Submission, name_fault, open_submission, write_submission
from rmeval.leaderboard.verified import read_verified, said
from rmeval.leaderboard.verify import verify
from rmeval.locks import locked
from rmeval.metrics import calibration
from rmeval.metrics.evaluate import evaluate
from rmeval.metrics.plan import MetricPlan
from rmeval.records import (
    DataRecord,
    EngineRecord,
    Environment,
    ModelRecord,
    ScorerRecord,
    SuiteRecord,
    parse,
)
from rmeval.store import Store
from rmeval.suites import load_suite
from rmeval.types import NAN, Judgement, Reply, Verdict

SHA = "0" * 63 + "1"
WORDS = (
    "schema", "id", "model", "name", "revision", "suite", "version", "metrics", "value", "ci", "n", "headline", "samples",
    "file", "sha256", "rows", "../../x", "/etc/passwd", "CON", "x-samples.jsonl.gz", "grades", "scores", "verdicts", "order",
    "reasons", "truncated", "cluster", "subset", "withheld", "notes", "kind", "judge", "length", "pairs", "shard", SHA,
)  # fmt: skip


def _judgements() -> tuple[Judgement, ...]:
    return (
        Judgement("a", "s", "", "c", (1.0, 0.0), scores=(0.5, 0.25), lengths=(10, 12)),
        Judgement("b", "s", "", "d", (1.0, 0.0), scores=(0.5, NAN), reasons=(None, "truncated"), models=("x", "y")),
        Judgement("c", "t", "", "e", (1.0, 0.0), verdicts=(Verdict((0, 1), "A", None, (0.75, 0.25)),), votes=(0, -1)),
        Judgement("d", "t", "", "f", (1.0, 0.0), ratings=((7.0, 8.0), (3.0, NAN)), comparisons=((0, 1),)),
        Judgement("e", "t", "", "g", (1.0,), ((1, 0),), step_scores=((0.5, 0.25),), n_tokens=(3,), truncated=(False,)),
    )


@cache
def _made() -> tuple[Path, dict[str, Any], tuple[dict[str, Any], ...]]:
    """A sound result of `pairs` in a file, its content, and rows of all kinds."""
    rows = tuple(Judgement(f"p{i}", "even", "", f"c{i}", (1.0, 0.0), scores=(i % 3, 1.0)) for i in range(4))
    card = load_suite("pairs")
    environment = parse(Environment, describe(device="cpu", threads=1, engine={}, argv=["rmeval"]), "environment")
    draft = results.Draft(
        complete=True,
        model=ModelRecord(name="acme/rm", revision="0" * 40, kind="scalar"),
        suite=SuiteRecord(
            name="pairs", version=1, data=DataRecord(source="file:x", sha256=SHA, labels_sha256=None), examples=4
        ),
        scorer=ScorerRecord(name="scalar"),
        engine=EngineRecord(name="transformers"),
        metrics=evaluate(rows, card.plan, replicates=50),
        environment=environment,
    )
    path = results.write(draft, rows, folder() / "sound")
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["metrics"][3:]  # enough to spoil
    content["environment"]["packages"] = {"torch": "2"}
    kinds = gzip.decompress(samples.dump(_judgements())[0]).decode().splitlines()
    return path, content, tuple(map(json.loads, kinds))


# --- records ---------------------------------------------------------------------------------------------------------


def _result_case(draw: random.Random) -> str:
    case = mutations.as_json(mutations.value(draw, _made()[1], WORDS))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.2 else case


def _result(case: str) -> bool:
    value = attempt(strict_json.loads, mutations.as_bytes(case), "x.json")
    if value is REFUSED:
        return False
    found = attempt(results.validate, value, "x.json")
    if found is REFUSED:
        return False
    text = results.to_json(found)
    assert results.validate(json.loads(text), "again") == found, "a result that is written and read is another"
    assert results.path_part(found.model.name) not in ("", ".", "..")
    return True


def _sample_case(draw: random.Random) -> str:
    case = mutations.as_json(mutations.value(draw, draw.choice(_made()[2]), WORDS))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.2 else case


@cache
def _plan() -> MetricPlan:
    return load_suite("pairs").plan


def _sample(case: str) -> bool:
    value = attempt(strict_json.loads, mutations.as_bytes(case), "x.jsonl line 1")
    if value is REFUSED:
        return False
    row = attempt(parse, samples.SampleRow, value, "x.jsonl line 1")
    if row is REFUSED:
        return False
    judgement = samples.to_judgement(row)
    assert samples.to_row(judgement) == samples.to_row(samples.to_judgement(samples.to_row(judgement)))
    if len(case) % 97 == 0:  # takes a hundred times as long as the rest
        attempt(evaluate, (judgement,), _plan())
    return True


_SENT = {
    "schema": 1, "created": "2026-11-22T00:00:00Z", "rmeval": "0.1.0", "result": "x.json", "result_sha256": SHA,
    "declared": {"by": "me", "contact": "me@x.org", "party": "first", "licence": "MIT", "training_data": ["a/b"],
                 "contaminated": None, "notes": "none"},
}  # fmt: skip


def _declared_case(draw: random.Random) -> str:
    case = mutations.as_json(mutations.value(draw, _SENT, WORDS))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.3 else case


def _declared(case: str) -> bool:
    value = attempt(strict_json.loads, mutations.as_bytes(case), "submission.json")
    return value is not REFUSED and attempt(parse, Submission, value, "submission.json") is not REFUSED


# --- whole submissions -----------------------------------------------------------------------------------------------


def _sent_case(draw: random.Random) -> str:
    """Result and rows, either of them spoilt, digests and counts set right again for most."""
    path, content, _ = _made()
    rows = gzip.decompress((path.parent / content["samples"]["file"]).read_bytes()).decode()
    lines = [json.loads(line) for line in rows.splitlines()]
    if draw.random() < 0.6:
        lines = mutations.value(draw, lines, WORDS)
    else:
        content = mutations.value(draw, content, WORDS)
    text = "\n".join(map(mutations.as_json, lines)) if isinstance(lines, list) else mutations.as_json(lines)
    mended = "mended" if draw.random() < 0.9 else "as it is"
    return "\x1e".join((mended, mutations.as_json(content), text))


def _sent(case: str) -> bool:
    mended, content, rows = (*case.split("\x1e"), "", "")[:3]
    packed = gzip.compress(mutations.as_bytes(rows), 1, mtime=0)
    try:
        loaded = strict_json.loads(mutations.as_bytes(content), "x.json")
        held = loaded["samples"] if mended == "mended" else {}
        held |= {"sha256": hashlib.sha256(packed).hexdigest(), "file": "run-samples.jsonl.gz"}
        content = json.dumps(loaded)
    except Exception:  # noqa: BLE001 - then it goes as it is
        pass
    where = folder() / "sent"
    path = written(content, "sent/run.json")
    (where / "run-samples.jsonl.gz").write_bytes(packed)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    written(json.dumps({**_SENT, "result": "run.json", "result_sha256": digest}), "sent/submission.json")
    before, calibration._DRAWS = calibration._DRAWS, 100  # of which most of the time would go into
    try:
        found = verify(where)
    finally:
        calibration._DRAWS = before
    assert found.accepted or all(fault.message for fault in found.faults)
    if not found.accepted:
        return False
    opened = open_submission(where)
    assert not name_fault(opened.view.result.model.name)
    out = folder() / "board"
    there = set(folder().iterdir())
    target = attempt(write_submission, opened.view, out, Declared())
    assert set(folder().iterdir()) <= {*there, out}, "written outside"
    if target is not REFUSED:
        assert target.resolve().is_relative_to(out.resolve())
        for one in target.iterdir():
            one.unlink()
        target.rmdir()
    return True


# --- the store -------------------------------------------------------------------------------------------------------

_REPLY = {
    "values": [[0.5, -1.25], [2.0]], "reason": None, "n_tokens": 12, "truncated": False, "text": "[[A]]", "finish": "stop",
    "attempts": 2, "served": "m", "n_written": 7, "floor": -9.5,
}  # fmt: skip


@cache
def _store() -> tuple[Store, sqlite3.Connection]:
    path = folder() / "store.sqlite"
    store = Store(path)
    return store, sqlite3.connect(path, isolation_level=None)


def _reply_case(draw: random.Random) -> str:
    case = mutations.as_json(mutations.value(draw, _REPLY, (*_REPLY, "template", "shows_prompt")))
    return mutations.text(draw, case, tuple(_REPLY)) if draw.random() < 0.3 else case


def _reply(case: str) -> bool:
    store, db = _store()
    try:
        case.encode()
    except UnicodeEncodeError:
        content: str | bytes = mutations.as_bytes(case)
    else:
        content = case
    db.execute("INSERT OR REPLACE INTO replies VALUES ('k', ?)", (content,))
    found = attempt(store.get, ["k"])
    if found is REFUSED or "k" not in found:
        return False
    reply = found["k"]
    assert isinstance(reply, Reply)
    sound = {name: type(getattr(reply, name)) for name in ("text", "finish", "served")}
    assert set(sound.values()) == {str}, "a text that is none"
    numbers = [reply.n_tokens, reply.attempts, reply.n_written]
    assert all(type(number) is int for number in numbers), "a count that is none"
    assert reply.reason is None or isinstance(reply.reason, str)
    assert all(type(value) is float for row in reply.values for value in row)
    store.put({"k": reply})
    assert repr(store.get(["k"]).get("k", reply)) == repr(reply), "a reply that is kept and read is another"
    return True


_LOCK = {"pid": 2**22 + 1, "host": "elsewhere", "started": 1.5, "run": "this"}


def _lock_case(draw: random.Random) -> str:
    case = mutations.as_json(mutations.value(draw, _LOCK, tuple(_LOCK)))
    return mutations.text(draw, case, tuple(_LOCK)) if draw.random() < 0.3 else case


def _lock(case: str) -> bool:
    path = written(case, "lock/x.lock")

    def hold() -> None:
        with locked(path, "this"):
            pass

    return attempt(hold, refuses=(LockHeld,)) is not REFUSED


_AUDITS = (
    {
        "schema": 1, "model": "acme/rm", "suite": "pairs", "result_sha256": SHA, "samples_sha256": SHA, "examples": 60,
        "seed": 7, "compared": 120, "largest": 1e-6, "tolerance": 1e-4, "beyond": 0, "differs": [], "agrees": True,
        "rmeval": "0.1.0",
    },
)  # fmt: skip
_AUDITS += ({**_AUDITS[0], "largest": None, "differs": ["dtype"], "agrees": False, "beyond": 3},)


def _audits_case(draw: random.Random) -> str:
    lines = [mutations.as_json(mutations.value(draw, one, (*WORDS, *one))) for one in _AUDITS]
    case = "\n".join(line.replace("\n", " ") for line in lines[: draw.choice((1, 1, 2))])
    return mutations.text(draw, case, WORDS) if draw.random() < 0.2 else case


def _audits(case: str) -> bool:
    found = attempt(read_verified, written(case, "verified.jsonl"), None)
    return found is not REFUSED and all(len(said(one)) < MOST_MESSAGE for one in found)


_PROBES = (
    {"probe": "calibration", "result": SHA, "notes": ["a note"], "model": "acme/rm", "suite": "pairs"},
    {"probe": "bon", "results": {"a": SHA, "b": "x"}, "notes": []},
    {"probe": "robustness", "model": "acme/rm", "suite": "pairs"},
)


def _probe_case(draw: random.Random) -> str:
    case = mutations.as_json(mutations.value(draw, draw.choice(_PROBES), ("probe", "results", "notes", "acme/rm", SHA)))
    return mutations.text(draw, case, WORDS) if draw.random() < 0.2 else case


@cache
def _known() -> tuple[Any, ...]:
    return (results.read(_made()[0]),)


def _probe(case: str) -> bool:
    """What a probe left for the page of a result."""
    path = written(case, "probe.json")
    written("<svg/>", "probe.svg")
    return attempt(read_probes, [path], _known()) is not REFUSED


TARGETS = (
    Target("result file", _result_case, _result),
    Target("row of samples", _sample_case, _sample),
    Target("submission.json", _declared_case, _declared),
    Target("submission, verified", _sent_case, _sent),
    Target("stored reply", _reply_case, _reply),
    Target("verified.jsonl", _audits_case, _audits),
    Target("probe of a result", _probe_case, _probe),
    Target("lock file", _lock_case, _lock),
)
