"""What others add without touching our code: a package with entry points, and folders of cards."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys

import own_rows
import pytest
from command import rmeval, rmeval_process

from rmeval.scorers.baseline import Length
from rmeval.testing import check_recording, check_scorer, check_suite
from rmeval.types import Example, Score

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-rm"
version = "1.2"

[project.entry-points."rmeval.suites"]
"acme/refunds" = "acme_rm.suites:refunds"
styles = "acme_rm.suites:STYLES"

[project.entry-points."rmeval.scorers"]
acme-vowels = "acme_rm.scorers:Vowels"

[project.entry-points."rmeval.metrics"]
acme-strict = "acme_rm.metrics:strict"
"""

CANARY = """
import os, pathlib
if "ACME_CANARY" in os.environ:
    pathlib.Path(os.environ["ACME_CANARY"]).touch()
"""

SUITES = '''
from pathlib import Path
from rmeval import suite
from rmeval.types import Example

@suite("acme/refunds", version=3, metric="acme-strict", data="hf://datasets/acme/refunds@0123abc/test.jsonl")
def refunds(rows):
    """Answers that were sent against drafts that were not."""
    for row in rows:
        yield Example.pair(row["ticket"], row["question"], row["sent"], row["draft"], row["country"])

STYLES = Path(__file__).parent / "styles"
'''

SCORERS = '''
from rmeval.types import Score

class Vowels:
    """Vowels of the response, each worth the same."""

    name = "acme-vowels"
    arity = "one"

    def __init__(self, worth: float = 1.0):
        self.worth = worth

    def identity(self):
        return {"kind": "acme", "worth": self.worth}

    def score(self, view):
        return Score(self.worth * sum(c in "aeiou" for c in view.candidates[0].text))
        yield []
'''

METRICS = '''
import math
from rmeval.metrics.credit import Credit, Credits, Linear, Option, read_options

def strict(judgements, options):
    """The chosen response must lead by a margin."""
    margin = read_options("acme-strict", options, {"margin": Option(0.0)})["margin"]
    rows = [
        Credit(j.id, j.cluster, j.subset, "strict", float(j.scores[0] - j.scores[1] > margin)) for j in judgements
    ]
    return Credits(tuple(rows), Linear({"strict": 1.0}), f"ahead by more than {margin:g}")
'''

ROWS = [
    {"ticket": "t1", "question": "Where is it?", "sent": "aeiou", "draft": "a", "country": "at"},
    {"ticket": "t2", "question": "Where was it?", "sent": "ae", "draft": "a", "country": "at"},
    {"ticket": "t3", "question": "Why?", "sent": "xyz", "draft": "aaa", "country": "be"},
    {"ticket": "t4", "question": "When?", "sent": "oo", "draft": "xyz", "country": "be"},
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder for PYTHONPATH into which the package was installed as pip installs packages."""
    source = tmp_path_factory.mktemp("acme-rm")
    package = source / "acme_rm"
    package.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    for name, text in {"__init__": CANARY, "suites": SUITES, "scorers": SCORERS, "metrics": METRICS}.items():
        (package / f"{name}.py").write_text(text)
    cards = own_rows.styles_suite(tmp_path_factory.mktemp("cards"))
    (cards / "suites" / "styles").rename(package / "styles")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", target, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def refunds(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_listing_names_what_the_package_adds_and_imports_none_of_it(site, tmp_path):
    canary = tmp_path / "imported"
    got = rmeval_process("list", "--json", PYTHONPATH=site, ACME_CANARY=canary)
    assert (got.code, got.stderr) == (0, "")
    found = {one["name"]: one["from"] for entries in got.document.values() for one in entries}
    for name in ("acme/refunds", "styles", "acme-vowels", "acme-strict"):
        assert found[name] == "package acme-rm 1.2"
    assert found["rm-bench"] == "built in"
    assert not canary.exists()
    assert rmeval_process("show", "acme-vowels", PYTHONPATH=site, ACME_CANARY=canary).code == 0
    assert canary.exists()  # the canary sings when the package is asked for


def test_suite_scorer_and_metric_of_a_package_run(site, refunds, tmp_path):
    run = ("run", "acme-vowels", "--suite", "acme/refunds", "--data", refunds, "--json")
    got = rmeval_process(*run, cwd=tmp_path, PYTHONPATH=site)
    assert got.code == 0, got.stderr
    assert got.document["headline"] == {"name": "acme-strict", "value": 0.75, "ci": got.document["headline"]["ci"]}
    assert got.document["metrics"][0]["note"].startswith("ahead by more than 0")
    assert got.document["suite"]["version"] == 3
    assert got.document["scorer"] == {"name": "acme-vowels", "kind": "acme", "worth": 1.0}
    [path] = (tmp_path / "results/acme-vowels/acme__refunds").glob("*.json")
    rescored = rmeval_process("rescore", path, "-a", "metric.margin=1.5", "--json", PYTHONPATH=site)
    assert rescored.document["headline"]["value"] == 0.5
    halved = rmeval_process(*run, "-a", "metric.margin=1.5", "-a", "worth=0.5", cwd=tmp_path, PYTHONPATH=site)
    assert halved.document["headline"]["value"] == 0.25


def test_a_card_that_a_package_ships_runs(site, tmp_path):
    data = own_rows.style_matrix(tmp_path / "rows.json", 20)
    got = rmeval_process("run", "length", "--suite", "styles", "--data", data, "--json", cwd=tmp_path, PYTHONPATH=site)
    assert got.code == 0, got.stderr
    assert got.document["metrics"][0]["n"] == 20


def test_without_plugins_they_are_unknown(site):
    got = rmeval_process("show", "acme/refunds", "--no-plugins", PYTHONPATH=site)
    assert got.code == 2
    assert "unknown suite 'acme/refunds'" in got.stderr


def test_a_name_that_two_sides_claim_names_both(site, tmp_path):
    made = tmp_path / "other_rm-0.1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: other-rm\nVersion: 0.1\n")
    (made / "entry_points.txt").write_text("[rmeval.scorers]\nacme-vowels = other:Vowels\n")
    got = rmeval_process("list", PYTHONPATH=f"{site}:{tmp_path}")
    assert (got.code, got.stdout) == (2, "")
    assert "two scorers are called 'acme-vowels'" in got.stderr
    assert "package acme-rm 1.2" in got.stderr
    assert "package other-rm 0.1" in got.stderr


def test_a_name_of_ours_cannot_be_taken_over(tmp_path):
    made = tmp_path / "other_rm-0.1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: other-rm\nVersion: 0.1\n")
    (made / "entry_points.txt").write_text("[rmeval.suites]\nrm-bench = other:suite\n")
    got = rmeval_process("run", "length", "--suite", "rm-bench", PYTHONPATH=tmp_path)
    assert got.code == 2
    assert "suites/rm-bench/card.toml" in got.stderr
    assert "package other-rm 0.1" in got.stderr


def test_a_package_that_cannot_be_imported_is_named(tmp_path):
    made = tmp_path / "other_rm-0.1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: other-rm\nVersion: 0.1\n")
    (made / "entry_points.txt").write_text("[rmeval.scorers]\nother = other_rm_that_is_gone:Scorer\n")
    assert rmeval_process("list", PYTHONPATH=tmp_path).code == 0
    got = rmeval_process("run", "other", "--suite", "arithmetic", PYTHONPATH=tmp_path)
    assert got.code == 2
    assert "scorer 'other' from package other-rm 0.1 cannot be loaded" in got.stderr


# --- cards alone -----------------------------------------------------------------------------------------------------


def test_a_folder_with_a_card_is_a_suite(tmp_path, monkeypatch):
    monkeypatch.setenv("RMEVAL_PATH", str(own_rows.styles_suite(tmp_path / "cards")))
    monkeypatch.chdir(tmp_path)
    data = own_rows.style_matrix(tmp_path / "rows.json", 20)
    assert "styles" in rmeval("list", "suites").stdout
    assert rmeval("check", "styles").code == 0
    got = rmeval("run", "length", "--suite", "styles", "--data", data, "--json")
    assert (got.code, got.document["headline"]["name"]) == (0, "accuracy")
    check_suite("styles", data)


def test_a_card_for_a_checkpoint_gives_it_a_name(tmp_path, monkeypatch, tiny_reward_model):
    cards = tmp_path / "cards" / "scorers"
    cards.mkdir(parents=True)
    text = f'name = "house-rm"\nmodel = "{tiny_reward_model}"\nnegate = {{}}\nlicence = "ours"\n'
    (cards / "house-rm.toml").write_text(text.format("true"))
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    monkeypatch.chdir(tmp_path)
    data = own_rows.pairs(tmp_path / "mine.jsonl", 8)
    named = rmeval("run", "house-rm", "--suite", "pairs", "--data", data, "--json").document
    plain = rmeval("run", tiny_reward_model, "--suite", "pairs", "--data", data, "--json").document
    assert (named["model"]["name"], named["model"]["licence"]) == ("house-rm", "ours")
    assert named["scorer"]["negate"]
    assert named["headline"]["value"] == 1 - plain["headline"]["value"]
    assert rmeval("show", "house-rm", "--json").document["name"] == "house-rm"


# --- the checks for authors ------------------------------------------------------------------------------------------


def test_the_suite_and_the_scorer_of_the_package_pass_the_checks(site, refunds, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    from acme_rm.scorers import Vowels

    check_scorer(Vowels())
    check_suite("acme/refunds", refunds)
    check_suite("styles", site / "acme_rm/styles/sample.jsonl")


class Broken(Length):
    """A scorer with one fault."""

    name = "broken"

    def __init__(self, fault):
        self.fault = fault
        self.calls = itertools.count()
        self.seen = []

    def identity(self):
        return {"worth": math.nan} if self.fault == "identity" else {}

    def score(self, view):
        self.seen.append(view.id)
        if self.fault == "not repeatable":
            return Score(float(next(self.calls)))
        if self.fault == "no reason":
            return Score(math.nan)
        if self.fault == "needless reason":
            return Score(1.0, reason="refused")
        if self.fault == "infinite":
            return Score(math.inf)
        return Score(1.0)
        yield []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("not repeatable", "the first time"),
        ("no reason", "nan with reason None"),
        ("needless reason", "1.0 with reason 'refused'"),
        ("infinite", "inf with reason None"),
    ],
)
def test_a_broken_scorer_fails_with_what_to_mend(fault, said):
    with pytest.raises(AssertionError, match=said):
        check_scorer(Broken(fault))


def test_other_faults_of_a_scorer():
    with pytest.raises(AssertionError, match="identity.. is not plain JSON"):
        check_scorer(Broken("identity"))
    two = Broken("none")
    two.arity = "two"
    with pytest.raises(AssertionError, match="arity"):
        check_scorer(two)
    with pytest.raises(AssertionError, match="a scorer has name, arity"):
        check_scorer(object())


def test_a_broken_suite_fails_with_what_to_mend(refunds):
    from rmeval import suite

    drawn = itertools.count()

    def made(read):
        return suite("acme/broken", version=1, metric="accuracy", data="hf://datasets/a/b@1/x.jsonl")(read)

    @made
    def twice(rows):
        """Every row under one id."""
        for row in rows:
            yield Example.pair("same", row["question"], row["sent"], row["draft"])

    @made
    def restless(rows):
        """Other texts each time."""
        for row in rows:
            yield Example.pair(row["ticket"], row["question"], f"{row['sent']} {next(drawn)}", row["draft"])

    with pytest.raises(AssertionError, match="ids are not unique"):
        check_suite(twice, refunds)
    with pytest.raises(AssertionError, match="loading twice differs"):
        check_suite(restless, refunds)


def test_a_recording_that_knows_nothing_of_the_suite(tmp_path):
    from rmeval.scorers.replay import Replay

    data = own_rows.pairs(tmp_path / "mine.jsonl", 4)
    (tmp_path / "r.jsonl").write_text('{"id": "p0", "scores": [1, 0]}\n')
    (tmp_path / "s.jsonl").write_text('{"id": "q0", "scores": [1, 0]}\n')
    check_recording(Replay(tmp_path / "r.jsonl"), "pairs", data)
    with pytest.raises(AssertionError, match="knows none"):
        check_recording(Replay(tmp_path / "s.jsonl"), "pairs", data)
