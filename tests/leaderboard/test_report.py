"""`rmeval report` and `rmeval leaderboard serve`: one file that needs nothing else, and pages over HTTP on this machine."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from command import PROGRAM, rmeval
from made_results import CARD, pairs, scored

from rmeval.compare import compare
from rmeval.leaderboard import report
from rmeval.leaderboard.serve import HOST, server
from rmeval.results import load_result
from rmeval.suites import load_suite
from rmeval.types import NAN

HOSTILE = 'a|b"><img src=x onerror=alert(1)><script>alert(1)</script>[x](javascript:alert(1))`'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    card = tmp_path / "cards" / "suites" / "toy-pairs" / "card.toml"
    card.parent.mkdir(parents=True)
    card.write_text(CARD)
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    return tmp_path


def test_a_report_is_one_page_and_one_text(folder: Path) -> None:
    a = scored(folder / "results", pairs(3.0), model="acme/strong")
    b = scored(folder / "results", pairs(1.0, seed=2), model="weak")
    got = rmeval("report", a, b, "-o", folder / "out" / "page.html", "--markdown", folder / "card.md")
    assert got.code == 0, got.stderr
    assert got.stdout.splitlines() == [f"page: {folder}/out/page.html", f"markdown: {folder}/card.md"]
    page = (folder / "out" / "page.html").read_text()
    assert "2 scorers on toy-pairs" in page
    assert page.count('class="chart"') == 6
    assert not re.search(r"<script|<link|src=|@import|url\(", page), "nothing is asked for from elsewhere"
    assert re.search(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'", page)
    one = compare(load_result(a), load_result(b), load_suite("toy-pairs").plan)
    assert f"{100 * one.headline.difference:+.1f}" in page
    text = (folder / "card.md").read_text()
    head = load_result(a).headline
    low, high = head.ci or (0, 0)
    assert f"| all | {100 * (head.value or 0):.1f} | {100 * low:.1f} to {100 * high:.1f} | 160 | 0 |" in text
    assert "## acme/strong against weak on toy-pairs" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {9, 7}


def test_probes_of_a_result_land_on_its_page(folder: Path) -> None:
    a = scored(folder / "results", pairs(3.0), model="acme/strong")
    b = scored(folder / "results", pairs(1.0, seed=2), model="weak")
    for name, result in (("bias", a), ("calibration", a), ("best-of-n", b)):
        assert rmeval("probe", name, result, "-o", folder / result.parent.parent.name).code == 0
    page = folder / "page.html"
    got = rmeval("report", a, "-o", page, "--probe", folder / "acme__strong")
    assert got.code == 0, got.stderr
    text = page.read_text()
    assert re.findall("<h2>Probe: (.*?)</h2>", text) == ["bias", "calibration"]
    assert "img-src data:;" in text
    svg = base64.b64encode((folder / "acme__strong" / "bias.svg").read_bytes()).decode()
    assert text.count(f'src="data:image/svg+xml;base64,{svg}"') == 1
    both = rmeval("report", a, b, "-o", page, "--probe", folder / "weak" / "best-of-n.json")
    assert both.code == 0
    assert page.read_text().index("Probe: best-of-n") > page.read_text().index('id="result-2"')
    rmeval("report", a, "-o", page)
    assert "img-src" not in page.read_text()
    for path, said in (
        (folder / "weak", "not of acme/strong on toy-pairs"),
        (folder / "results", "no probes"),
        (a, "names no probe"),
        (folder / "nothing.json", "nothing.json"),
    ):
        wrong = rmeval("report", a, "-o", page, "--probe", path)
        assert (wrong.code, said in wrong.stderr) == (2, True), wrong.stderr
    pool = folder / "pool.jsonl"
    pool.write_text('{"id": "a", "completions": ["x", "y"], "rewards": [1, 2], "gold": [0, 1]}\n')
    assert rmeval("probe", "best-of-n", pool, "-o", folder / "pooled").code == 0
    wrong = rmeval("report", a, "-o", page, "--probe", folder / "pooled")
    assert (wrong.code, "a probe of a pool, of no result, not of" in wrong.stderr) == (2, True)
    (folder / "weak" / "best-of-n.svg").unlink()
    gone = rmeval("report", b, "-o", page, "--probe", folder / "weak")
    assert (gone.code, "is not beside it" in gone.stderr) == (2, True)


def test_an_incomplete_run_says_so(folder: Path) -> None:
    rows = [replace(r, scores=(NAN, NAN), reasons=("refused", "refused")) for r in pairs(1.0)]
    path = scored(folder / "results", rows, model="silent", complete=False, notes=("all refused",))
    view = load_result(path)
    page, text = report.html([view]), report.markdown([view])
    assert "Incomplete" in page
    assert "all refused" in page
    assert "- **incomplete**:" in text
    assert "accuracy: no value." in text
    assert "| all | – |" in text
    assert "nan" not in text.lower()


@pytest.mark.fault("F53")
def test_f53_hostile_texts_are_inert_in_both(folder: Path) -> None:
    path = scored(folder / "results", pairs(1.0), model=HOSTILE, notes=(HOSTILE,))
    held = json.loads(path.read_text())
    held["model"]["kind"] = held["environment"]["rmeval"] = held["engine"]["name"] = HOSTILE
    path.write_text(json.dumps(held))
    other = scored(folder / "results", pairs(2.0, seed=2), model="plain")
    views = [load_result(path), load_result(other)]
    page, text = report.html(views), report.markdown(views)
    assert "<script" not in page
    assert "<img" not in page
    assert "<" not in text
    assert not re.search(r"(?<!\\)[\[\]`]", text), "no link and no code"
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {9, 7}


def test_results_that_cannot_be_paired_are_still_reported(folder: Path) -> None:
    a = scored(folder / "results", pairs(3.0), model="a")
    b = scored(folder / "results", [replace(r, id=f"x{r.id}") for r in pairs(1.0)], model="b")
    page = report.html([load_result(a), load_result(b)])
    assert "Not compared: toy-pairs: " in page
    assert page.count('id="result-') == 2


def test_a_result_named_twice_is_shown_once_and_a_folder_is_called_one(folder: Path) -> None:
    a = scored(folder / "results", pairs(3.0), model="a")
    assert rmeval("report", a, a.parent / "." / a.name, "-o", folder / "r.html").code == 0
    page = (folder / "r.html").read_text()
    assert page.count('id="result-') == 1
    assert " against " not in page.partition("<main")[2].partition("What the scores")[0]
    said = rmeval("report", folder / "results", "-o", folder / "r.html")
    assert said.code == 2
    assert "results: a folder; name a result file in it" in said.stderr


def test_a_difference_without_an_interval_is_printed_without_one(tmp_path: Path) -> None:
    rows = (f'{{"id":"{i}","prompt":"{i}","chosen":"a","rejected":"bb"}}' for i in range(3))
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    for model in ("length", "random"):
        made = rmeval("run", model, "--suite", "pairs", "--data", tmp_path / "pairs.jsonl", "--out", tmp_path / "out")
        assert made.code == 0
    (tmp_path / "board.toml").write_text("least_examples = 1\n")
    given = ("--out", tmp_path / "site", "--submissions", tmp_path / "none", "--board", tmp_path / "board.toml")
    table = rmeval("leaderboard", "build", tmp_path / "out", *given).stdout
    said = re.findall(r"([+-]\d+\.\d)( \[[^]]*\])? p \d", table)
    assert said
    assert all(interval == "" for _, interval in said)


def test_submissions_and_audits_that_are_not_there_are_said(folder: Path) -> None:
    scored(folder / "results", pairs(1.0), model="a")
    given = ("--submissions", folder / "none", "--verified", folder / "none.jsonl")
    built = rmeval("leaderboard", "build", folder / "results", "--out", folder / "site", *given)
    assert built.code == 0
    assert "no such folder; the board is built without submissions" in built.stderr
    assert "none.jsonl: no such file; nothing on the board is `reproduced`" in built.stderr


def test_serve_gives_the_pages_and_nothing_else(folder: Path) -> None:
    scored(folder / "results", pairs(1.0), model="a")
    built = rmeval(
        "leaderboard", "build", folder / "results", "--out", folder / "site", "--submissions", folder / "none"
    )
    assert built.code == 0
    (folder / "secret.txt").write_text("secret")
    with server(folder / "site", 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://{HOST}:{running.server_port}"
        try:
            with urllib.request.urlopen(f"{address}/") as page:
                assert b"rmeval board" in page.read()
            for refused in ("/results/", "/../secret.txt", "/%2e%2e/secret.txt", "/none.html"):
                with pytest.raises(urllib.error.HTTPError) as said:
                    urllib.request.urlopen(address + refused)
                said.value.close()
            taken = rmeval("leaderboard", "serve", folder / "site", "--port", running.server_port)
        finally:
            running.shutdown()
            thread.join()
    assert taken.code == 2
    assert "--port 0 takes a free one" in taken.stderr
    nothing = rmeval("leaderboard", "serve", folder / "nowhere")
    assert nothing.code == 2
    assert "rmeval leaderboard build --out" in nothing.stderr


def test_ctrl_c_ends_the_server_without_a_word(folder: Path) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_text("here")
    running = subprocess.Popen(
        [*PROGRAM, "leaderboard", "serve", folder / "site", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    address = running.stdout.readline().strip()
    with urllib.request.urlopen(address) as page:
        assert page.read() == b"here"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (0, "", "")
