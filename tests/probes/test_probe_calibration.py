"""`rmeval probe calibration`: known numbers through the command, plain loops, and scorers whose calibration is known."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from command import rmeval
from made_results import write

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.probes.calibration import probe_calibration
from rmeval.types import NAN, Judgement, Verdict

MARGINS = (3, 2.5, 1, -0.5, 0.2, 2, -1, 0.8, 1.5, -0.2)
STATED = (0.95, 0.9, 0.8, 0.8, 0.7, 0.6, 0.6, 0.55, 0.52, 0.51)
RIGHT = (1, 1, 1, 0, 1, 1, 0, 0, 1, 0)


def pair(i: int, margin: float, **more) -> Judgement:
    return Judgement(f"e{i}", "s", "", f"p{i}", (1.0, 0.0), scores=(margin, 0.0), **more)


def figures(answer) -> dict[str, dict]:
    return {figure["name"]: figure for figure in answer.document["figures"]}


def test_the_known_temperature_through_the_command(tmp_path):
    made = write(tmp_path, [pair(i, m) for i, m in enumerate(MARGINS)])
    found = figures(rmeval("probe", "calibration", made, "--json"))
    assert found["calibration:temperature"]["value"] == pytest.approx(0.869144, abs=1e-6)
    assert "at T = 1: 0.4824" in found["calibration:nll"]["note"]
    bias = rmeval("probe", "bias", made, "--json").document["curves"]
    assert next(c for c in bias if c["panel"] == "accuracy")["undefined"] == "the texts were not at hand"


def test_the_known_brier_score_through_the_command(tmp_path):
    rows = [
        Judgement(f"e{i}", "s", "", f"p{i}", (float(y),), scores=(p,))
        for i, (p, y) in enumerate(zip(STATED, RIGHT, strict=True))
    ]
    answer = rmeval("probe", "calibration", write(tmp_path, rows), "--json")
    assert figures(answer)["responses:brier"]["value"] == pytest.approx(0.20955)
    # by hand, bins of [0, 1]: (.5, .6] holds five with a mean of .556 and 2 right, and so on
    ece = (5 * abs(2.78 / 5 - 2 / 5) + abs(0.7 - 1) + 2 * abs(0.8 - 0.5) + abs(0.9 - 1) + abs(0.95 - 1)) / 10
    assert figures(answer)["responses:ece"]["value"] == pytest.approx(ece)


def test_the_known_ceilings_through_the_command(tmp_path):
    ten = [pair(i, 1.0, votes=(0,) * k + (1,) * (10 - k)) for i, k in enumerate((10, 8, 6, 5))]
    found = figures(rmeval("probe", "calibration", write(tmp_path / "ten", ten), "--json"))
    assert found["agreement:ceiling"]["value"] == pytest.approx(0.725)
    five = [pair(i, 1.0, votes=(0,) * k + (1,) * (5 - k)) for i, k in enumerate((5, 4, 3))]
    answer = rmeval("probe", "calibration", write(tmp_path / "five", five), "--json")
    assert figures(answer)["agreement:annotators"]["value"] == pytest.approx(2 / 3)
    assert figures(answer)["agreement:scorer"]["value"] == pytest.approx(0.8)
    ceiling = [c for c in answer.document["curves"] if c["panel"] == "noise ceiling"]
    assert {c["name"]: c["points"][0]["value"] for c in ceiling}["scorer"] == pytest.approx(0.8)


def margins_of(n: int, t: float, seed: int = 0) -> list[Judgement]:
    """Pairs whose right response is ahead as often as sigma(margin / t) says."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        size = rng.expovariate(0.5 / t)
        ahead = rng.random() < 1 / (1 + math.exp(-size / t))
        rows.append(pair(i, size if ahead else -size))
    return rows


def test_bins_of_margins_are_shares_with_wilson_bars():
    rows = margins_of(300, 1.0)
    found = probe_calibration(rows)
    points = found.curve("reliability of margins, T = 1", "share right").points
    stated = [1 / (1 + math.exp(-abs(j.scores[0]))) for j in rows]
    assert sum(point.n for point in points) == 300
    for k, point in enumerate(points):
        inside = [i for i, p in enumerate(stated) if 0.5 + 0.05 * k < p <= 0.55 + 0.05 * k]
        right = fmean(rows[i].scores[0] > 0 for i in inside)
        assert (point.n, point.value) == (len(inside), pytest.approx(right))
        assert point.at == pytest.approx(fmean(stated[i] for i in inside), abs=1e-5)
        assert point.ci == pytest.approx(stats.wilson(right, len(inside)))


def test_scores_that_are_too_sure_are_found_and_mended():
    found = probe_calibration(margins_of(600, 3.0))
    t = found.figure("calibration:temperature")
    assert t.ci[0] < 3.0 < t.ci[1]
    errors = {name: found.curve("calibration error", name).points[0].value for name in ("as scored", "fitted T")}
    assert errors["fitted T"] < 0.06 < errors["as scored"]
    # a scorer that says what it means is as far off as luck
    honest = probe_calibration(margins_of(600, 1.0))
    assert honest.curve("calibration error", "as scored").points[0].value < 0.06


def test_subsets_stand_beside_the_whole():
    rows = [
        Judgement(j.id + s, s, "", j.cluster, j.grades, scores=j.scores)
        for s, t in (("calm", 1.0), ("loud", 4.0))
        for j in margins_of(200, t)
    ]
    t = {point.at: point for point in probe_calibration(rows).curve("temperature", "T").points}
    assert list(t) == ["all", "calm", "loud"]
    assert t["calm"].ci[1] < t["loud"].ci[0]


def outcomes(n: int = 200, *, lie: float = 0.0, seed: int = 1) -> list[Judgement]:
    """Single responses that come out right as often as their score says, steps and prefixes alike."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        p = rng.random() * 0.98 + 0.01
        right = rng.random() < p
        said = min(0.99, p + lie)
        labels = tuple(int(rng.random() < p) for _ in range(3))
        rows.append(
            Judgement(
                f"e{i}", "s", "", f"p{i}", (float(right),), (labels,), scores=(said,),
                step_scores=((said,) * 3,), prefix_scores=((said,) * 10,),
            )
        )  # fmt: skip
    return rows


def test_outcomes_of_responses_steps_and_prefixes():
    rows = outcomes()
    found = probe_calibration(rows)
    points = found.curve("reliability of responses", "share right").points
    assert sum(point.n for point in points) == 200
    for k, point in enumerate(points):
        inside = [j for j in rows if 0.1 * k < j.scores[0] <= 0.1 * (k + 1)]
        assert (point.n, point.value) == (len(inside), pytest.approx(fmean(j.grades[0] for j in inside)))
    assert sum(point.n for point in found.curve("reliability of steps", "share right").points) == 600
    assert found.curve("reliability after 50% of the tokens", "share right").points == points
    places = found.curve("calibration error of prefixes", "as scored").points
    assert [point.at for point in places] == pytest.approx([k / 10 for k in range(1, 11)])
    assert {point.value for point in places} == {found.figure("responses:ece").value}
    t = found.figure("responses:temperature")
    assert t.ci[0] < 1 < t.ci[1]
    lying = probe_calibration(outcomes(lie=0.3)).curve("calibration error of responses", "as scored").points[0]
    one_in_twenty = found.curve("calibration error of responses", "luck, one in twenty").points[0]
    assert lying.value > one_in_twenty.value > places[0].value


def test_saturated_scores_have_no_temperature_and_rewards_are_no_probabilities():
    rows = [Judgement(f"e{i}", "s", "", f"p{i}", (float(i % 2),), scores=(float(i % 3 > 0),)) for i in range(30)]
    found = probe_calibration(rows)
    assert found.figure("responses:saturated").value == 1.0
    assert found.figure("responses:temperature").value is None
    assert "30 scores are 0 or 1 exactly" in found.figure("responses:temperature").note
    names = {figure.name for figure in probe_calibration([pair(i, m) for i, m in enumerate(MARGINS)]).figures}
    assert not any(name.startswith("responses") for name in names)


def test_missing_scores_are_counted():
    rows = outcomes(60)
    rows[3] = Judgement("e3", "s", "", "p3", (1.0,), scores=(NAN,), reasons=("truncated",))
    found = probe_calibration(rows)
    assert (found.figure("responses:brier").n, found.figure("responses:brier").n_missing) == (59, 1)


def test_verdicts_with_probabilities():
    rows = [
        Judgement(
            f"e{i}", "", "", f"p{i}", (1.0, 0.0),
            verdicts=(Verdict((0, 1), "A", p=(0.8, 0.2)), Verdict((1, 0), "A", p=(0.7, 0.3))),
        )
        for i in range(8)
    ]  # fmt: skip
    points = probe_calibration(rows).curve("reliability of verdicts", "share right").points
    # in the first order the named one is right, in the second the named one is wrong
    assert [(point.at, point.value, point.n) for point in points] == [(0.7, 0.0, 4), (0.8, 1.0, 4)]


def test_nothing_to_calibrate_is_said(tmp_path):
    rows = [Judgement("a", "", "", "p", (1.0, 1.0), scores=(3.0, 4.0))]
    with pytest.raises(UsageError, match="nothing to calibrate"):
        probe_calibration(rows)
    answer = rmeval("probe", "calibration", write(tmp_path, rows))
    assert answer.code == 2
    assert "nothing to calibrate" in answer.stderr


def test_the_figure(tmp_path):
    made = write(tmp_path / "results", outcomes(80))
    answer = rmeval("probe", "calibration", made, "-o", tmp_path / "figure")
    assert answer.code == 0
    assert "responses:temperature" in answer.stdout
    assert {path.name for path in (tmp_path / "figure").iterdir()} == {
        "calibration.json", "calibration.svg", "calibration.png",
    }  # fmt: skip
    drawn = (tmp_path / "figure" / "calibration.svg").read_text()
    assert "reliability of steps" in drawn
    assert "stated" in drawn
