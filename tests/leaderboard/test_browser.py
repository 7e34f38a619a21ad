"""The site in a real browser: nothing hostile runs, nothing leaves the page, and sorting, filtering and choosing work.

Needs the package playwright and a Chromium on the machine: `make test-browser`. Else it is skipped, and says why.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_results import CARD, at, pairs, scored

from rmeval.leaderboard import report
from rmeval.leaderboard.board import build
from rmeval.results import load_result

pytestmark = pytest.mark.browser

RUN = "window.hacked=1"
HOSTILE = (
    f'"><img src=x onerror="{RUN}">',
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"javascript:{RUN}",
    f"{{{{ 7*7 }}}}'><svg onload={RUN}>",
)
WIDE = """width => Array.from(document.querySelectorAll("body *")).filter(e => e.getBoundingClientRect().right > width
    && !e.closest(".scroll") && !e.closest("svg")).slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""
"""What sticks out of a page."""
NAMES = ("plain/strong", "plain/weak", *HOSTILE)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser at hand: none of {', '.join(PROGRAMS)}, and CHROMIUM names none")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Hostile and plain entries on two suites whose cards are hostile too."""
    home = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("toy-pairs", "second"):
            card = home / "cards" / "suites" / name / "card.toml"
            card.parent.mkdir(parents=True)
            hostile = CARD.replace("Toy pairs", "<b onclick=window.hacked=1>Toy</b>").replace(
                "https://example.org/toy", "javascript:window.hacked=1"
            )
            card.write_text(hostile.replace("toy-pairs", name))
        patched.setenv("RMEVAL_PATH", str(home / "cards"))
        for i, name in enumerate(NAMES):
            scored(home / "results", pairs(3.0 - 0.4 * i, seed=i + 1, missing=0.01), model=name, notes=HOSTILE)
            scored(home / "results", pairs(1.0, seed=i + 1), model=name, suite="second")
        limited = scored(home / "results", pairs(), model="limited", complete=False, notes=HOSTILE)
        half = [replace(r, id=f"other/{r.id}") for r in pairs(1.0)]
        scored(home / "results", half, model="elsewhere")
        build([home / "results"], home / "site", built=at(15))
        page = report.html([load_result(limited), load_result(next((home / "results").rglob("toy-pairs/*.json")))])
        (home / "site" / "report.html").write_text(page)
        yield home / "site"


def opened(browser: Any, **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: page.said.append(dialog.message))
    return page


@pytest.mark.fault("F53")
def test_f53_no_hostile_text_runs_and_nothing_is_asked_for_from_elsewhere(browser: Any, site: Path) -> None:
    page = opened(browser)
    found = sorted(site.rglob("*.html"))
    assert len(found) > 2 * len(NAMES)
    for path in found:
        page.goto(path.as_uri())
        assert page.evaluate("window.hacked") is None, path
        assert page.locator("img, iframe, object, form, b[onclick]").count() == 0
        for address in page.evaluate("Array.from(document.links, a => a.protocol)"):
            assert address in ("file:", "https:")
    assert page.said == [], "no policy was broken and no script failed"
    assert {address.partition(":")[0] for address in page.asked} == {"file"}
    page.goto((site / "index.html").as_uri())
    shown = page.locator("table.board").first.inner_text()
    assert all(name in shown for name in NAMES), "the names are shown as they are"


def test_sorting_and_filtering(browser: Any, site: Path) -> None:
    page = opened(browser)
    page.goto((site / "suites" / "toy-pairs.html").as_uri())
    table = page.locator("table.board")
    names = lambda: table.locator("tbody tr:visible .name").all_inner_texts()  # noqa: E731
    listed = names()
    assert listed.index("plain/strong") < listed.index("plain/weak")
    table.locator("th.score .sort").click()
    assert table.locator("th.score").get_attribute("aria-sort") == "descending"
    table.locator("th.score .sort").click()
    assert table.locator("th.score").get_attribute("aria-sort") == "ascending"
    turned = names()
    assert turned.index("plain/weak") < turned.index("plain/strong")
    values = table.locator("tbody tr:visible .value").all_inner_texts()
    numbers = [float(v) for v in values if v != "–"]
    assert numbers == sorted(numbers)
    assert all(v == "–" for v in values[len(numbers) :]), "missing stands last, whichever way"
    page.fill("[data-filter]", "plain")
    assert sorted(names()) == ["plain/strong", "plain/weak"]
    assert page.locator("[data-count]").inner_text().startswith("2 of ")
    page.fill("[data-filter]", "")
    assert len(names()) == len(listed)


def test_two_entries_are_chosen(browser: Any, site: Path) -> None:
    page = opened(browser)
    page.goto((site / "pairs" / "toy-pairs.html").as_uri())
    assert page.locator(".duel:visible").count() == 1
    page.select_option("[data-a]", label="plain/weak")
    page.select_option("[data-b]", label="plain/strong")
    shown = page.locator(".duel:visible h2").all_inner_texts()
    assert len(shown) == 1
    assert "plain/strong" in shown[0]
    assert "plain/weak" in shown[0]
    page.locator("table.duels tbody tr").nth(2).locator("td a").nth(4).click()
    assert page.locator(".duel:visible").count() == 1
    page.click("[data-all]")
    assert page.locator(".duel:visible").count() == page.locator(".duel").count() > 1


def test_any_two_of_many_are_compared(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of ten ranked entries holds what any two differ by; the best eight have panels of their own."""
    home = tmp_path_factory.mktemp("crowd")
    (home / "cards" / "suites" / "toy-pairs").mkdir(parents=True)
    (home / "cards" / "suites" / "toy-pairs" / "card.toml").write_text(CARD)
    monkeypatch.setenv("RMEVAL_PATH", str(home / "cards"))
    for i in range(10):
        scored(home / "results", pairs(0.3 + 0.4 * i, seed=i + 1), model=f"m{i}")
    board = build([home / "results"], home / "site", built=at(15))
    entries = board.suites[0].entries
    page = opened(browser)
    page.goto((home / "site" / "pairs" / "toy-pairs.html").as_uri())
    assert page.locator("[data-gap]:visible").count() == 0
    page.select_option("[data-a]", label=entries[9].model)
    page.select_option("[data-b]", label=entries[1].model)
    assert page.locator(".duel:visible").count() == 0
    said = page.locator("[data-gap]").inner_text()
    gap = 100 * ((entries[1].value or 0) - (entries[9].value or 0))
    assert said.startswith(f"{entries[1].model} against {entries[9].model}: ")
    assert f"a difference of +{gap:.1f} points [" in said
    assert said.endswith("the order is known.")
    page.select_option("[data-a]", label=entries[0].model)
    assert page.locator(".duel:visible").count() == 1
    assert page.locator("[data-gap]:visible").count() == 0
    assert page.locator("table.neighbours tbody tr").count() == 9
    assert page.said == []


def test_everything_is_there_without_scripts(browser: Any, site: Path) -> None:
    page = opened(browser, java_script_enabled=False)
    page.goto((site / "pairs" / "toy-pairs.html").as_uri())
    assert page.locator(".duel:visible").count() == page.locator(".duel").count() > 1
    assert not page.locator("[data-picker]").is_visible()
    page.goto((site / "index.html").as_uri())
    assert page.locator("table.board tbody tr:visible").count() > len(NAMES)
    assert page.locator("[data-tools]:visible").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_their_width_and_can_be_read(browser: Any, site: Path, width: int, scheme: str) -> None:
    page = opened(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    entry = next(site.glob("entries/plain__strong/toy-pairs/*.html"))
    for path in (site / "index.html", site / "suites" / "toy-pairs.html", site / "pairs" / "toy-pairs.html", entry):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, page.evaluate(WIDE, width))
        # WCAG's ratio of body text to paper
        ratio = page.evaluate(
            """() => {
            const light = c => { const v = c.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
                .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
                return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
            const s = getComputedStyle(document.body);
            const [a, b] = [light(s.color), light(s.backgroundColor)].sort((x, y) => y - x);
            return (a + .05) / (b + .05); }"""
        )
        assert ratio > 7
