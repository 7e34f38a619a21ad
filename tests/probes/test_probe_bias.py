"""`rmeval probe bias`: every curve against plain loops and scorers whose bias is known, and the command on real files."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest
from command import rmeval
from made_results import pairs, write

from rmeval.errors import UsageError
from rmeval.metrics import style
from rmeval.metrics.writers import Missed, favours
from rmeval.probes.bias import parts, probe_bias
from rmeval.types import NAN, Judgement, Verdict


def values(found, panel, name):
    return {point.at: point.value for point in found.curve(panel, name).points}


def marked(n: int = 400, *, length: float = 0.0, bold: float = 0.0, seed: int = 0) -> list[Judgement]:
    """Pairs whose scores follow the label, log length and bold spans with known weights."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        lengths = (rng.randint(20, 2000), rng.randint(20, 2000))
        markup = tuple((rng.randint(0, 2), rng.randint(0, 6), rng.randint(0, 6)) for _ in lengths)
        noise = [math.log(1 / rng.random() - 1) / 2 for _ in lengths]
        scores = tuple(
            0.3 * (side == 0) + length * math.log(lengths[side]) + bold * math.log1p(markup[side][2]) + noise[side]
            for side in (0, 1)
        )
        made.append(
            Judgement(f"e{i}", "s", "", f"p{i // 2}", (1.0, 0.0), scores=scores, lengths=lengths, markup=markup)
        )
    return made


def test_parts_hold_every_value_once_in_the_order_of_rank():
    rng = random.Random(3)
    x = [float(rng.randint(0, 30)) for _ in range(500)]
    found = parts(x)
    assert sorted(i for part in found for i in part) == list(range(500))
    for one, following in pairwise(found):
        assert max(x[i] for i in one) < min(x[i] for i in following)
    assert len(found) == 10
    assert len(parts(x[:39])) == 1
    assert parts([]) == []


@pytest.mark.parametrize("far", [1e160, 1.7e308])
def test_scores_whose_squares_are_no_numbers_have_no_mean_and_are_still_compared(far):
    """Warnings are errors here."""
    rows = [replace(j, scores=(far, -far)[:: 1 if i % 4 else -1]) for i, j in enumerate(marked())]
    found = probe_bias(rows)
    assert values(found, "accuracy", "share")["all"] == 0.75
    for side in ("right", "wrong"):
        points = found.curve("score by length", side).points
        assert {point.value for point in points} == {None}
        assert {point.note for point in points} == {"a value lies beyond 1e+150"}


def test_accuracy_by_length_is_the_share_of_wins_in_each_part():
    rows = marked(length=0.8)
    found = probe_bias(rows)
    ratio = [math.log2(j.lengths[0] / j.lengths[1]) for j in rows]
    points = found.curve("accuracy by length", "accuracy").points
    assert len(points) == 10
    for part, point in zip(parts(ratio), points, strict=True):
        assert point.n == len(part)
        assert point.value == pytest.approx(fmean(rows[i].scores[0] > rows[i].scores[1] for i in part))
    assert points[0].value < 0.5 < points[-1].value


def test_several_pairs_of_one_example_count_once_and_ties_half():
    rows = [
        Judgement(f"e{i}", "s", "", f"p{i}", (1.0, 0.0, 0.0), scores=(1.0, 1.0, 0.0), lengths=(10, 10, 10))
        for i in range(12)
    ]
    found = probe_bias(rows)
    point = found.curve("accuracy by length", "accuracy").points[0]
    assert (point.n, point.value) == (12, 0.75)
    assert values(found, "accuracy", "share")["all"] == 0.75


def test_the_pull_is_the_regression_of_the_house():
    rows = marked(length=0.0, bold=1.0)
    found = probe_bias(rows)
    fit = style.preferences(rows).style_fit()
    assert values(found, "pull", "log-odds") == {
        "length alone": pytest.approx(style.preferences(rows).length_fit().features["length"].value),
        "length": pytest.approx(fit.features["length"].value),
        "headings": pytest.approx(fit.features["headings"].value),
        "list items": pytest.approx(fit.features["list_items"].value),
        "bold": pytest.approx(fit.features["bold"].value),
    }
    by_name = {point.at: point for point in found.curve("pull", "log-odds").points}
    assert by_name["bold"].ci[0] > 0
    assert by_name["length"].ci[0] < 0 < by_name["length"].ci[1]
    assert values(found, "accuracy", "share")["equal style"] == pytest.approx(fit.accuracy.value)


def test_scores_by_length_share_the_parts_of_all_responses():
    rows = marked(60)
    found = probe_bias(rows)
    flat = [(j.lengths[s], j.scores[s], s) for j in rows for s in (0, 1)]
    for number, part in enumerate(parts([float(length) for length, _, _ in flat])):
        for side, name in ((0, "right"), (1, "wrong")):
            inside = [flat[i][1] for i in part if flat[i][2] == side]
            point = found.curve("score by length", name).points[number]
            assert (point.n, point.value) == (len(inside), pytest.approx(fmean(inside)))


def judge(slot: float, n: int = 60, seed: int = 0) -> list[Judgement]:
    """Pairs judged in both orders by a judge that names the first slot with this chance, else the right one."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        orders = ((0, 1), (1, 0))
        said = tuple(Verdict(o, "A" if rng.random() < slot or o[0] == 0 else "B") for o in orders)
        rows.append(Judgement(f"e{i}", "s", "", f"p{i}", (1.0, 0.0), verdicts=said, lengths=(10 + i, 60)))
    return rows


def test_slots_of_a_judge_that_always_names_the_first():
    found = probe_bias(judge(1.0))
    assert values(found, "slots of 2", "named") == {"A": 1.0, "B": 0.0}
    assert values(found, "slots of 2", "holds the right one") == {"A": 0.5, "B": 0.5}
    assert values(found, "slots of 2", "right when it is there") == {"A": 1.0, "B": 0.0}
    assert values(found, "both orders", "share") == {
        "consistency": 0.0, "first slot": 1.0, "second slot": 0.0, "net bias": 1.0,
    }  # fmt: skip
    assert any("POSITION BIAS towards the first slot" in note for note in found.notes)


def test_slots_of_four_and_a_verdict_that_could_not_be_read():
    rows = [
        Judgement("a", "", "", "p", (1.0, 0.0, 0.0, 0.0), verdicts=(Verdict((2, 0, 1, 3), "B"),)),
        Judgement("b", "", "", "q", (1.0, 0.0, 0.0, 0.0), verdicts=(Verdict((0, 1, 2, 3), "C"),)),
        Judgement("c", "", "", "r", (1.0, 0.0, 0.0, 0.0), verdicts=(Verdict((0, 1, 2, 3), None, "unparsed"),)),
    ]
    found = probe_bias(rows)
    assert values(found, "slots of 4", "named") == {"A": 0.0, "B": 0.5, "C": 0.5, "D": 0.0}
    assert values(found, "slots of 4", "right when it is there") == {"A": 0.0, "B": 1.0, "C": None, "D": None}
    assert [point.n_missing for point in found.curve("slots of 4", "named").points] == [1] * 4
    assert found.curve("both orders", "share").undefined == "no pair was shown in both orders"


def test_places_of_the_wrong_ones():
    rows = [
        Judgement("a", "", "", "p", (1.0, 0.0, 0.0), scores=(0.0, 2.0, 1.0)),
        Judgement("b", "", "", "q", (1.0, 0.0, 0.0, 0.0), scores=(9.0, 1.0, 0.0, 1.0)),
        Judgement("c", "", "", "r", (1.0, 0.0, 0.0), scores=(9.0, NAN, 1.0), reasons=(None, "truncated", None)),
    ]
    found = probe_bias(rows)
    assert values(found, "places", "best-scored") == {"1": 0.75, "2": 0.0, "3": 0.5}
    assert values(found, "places", "by chance") == {"1": pytest.approx(5 / 12), "2": pytest.approx(5 / 12), "3": 1 / 3}
    assert found.curve("places", "best-scored").points[0].n_missing == 1


def test_a_scorer_that_prefers_its_own_words():
    rows = []
    for i in range(40):
        mine_right = i % 2 == 0
        models = ("org/Own", "x/other") if mine_right else ("x/other", "org/Own")
        scores = (1.0, 0.0) if mine_right or i % 4 == 1 else (0.0, 1.0)
        rows.append(Judgement(f"e{i}", "", "", f"p{i}", (1.0, 0.0), scores=scores, models=models))
    found = probe_bias(rows, "judge:acme/own@main")
    assert values(found, "writers", "favoured by") == {"org/Own": 0.5, "x/other": -0.5}
    assert "writers: itself: org/Own" in found.notes
    assert "writers: none of these writers has the scorer's own name" in probe_bias(rows, "acme/else").notes


def test_writers_with_few_prompts_are_left_out():
    rows = [Missed("a", "b", 1.0, str(i)) for i in range(9)] + [Missed("b", "a", 1.0, str(i)) for i in range(12)]
    assert favours(rows) == {}


def test_what_is_missing_is_counted_and_without_contrast_there_is_nothing_to_say():
    found = probe_bias(pairs(missing=0.2))
    lost = sum(bool(j.reasons) for j in pairs(missing=0.2))
    assert lost
    assert f"{lost} of 160 examples lack a score and are in no figure" in found.notes
    with pytest.raises(UsageError, match="no example has a right and a wrong response"):
        probe_bias([Judgement("a", "", "", "p", (1.0, 1.0), scores=(0.0, 1.0))])


def test_the_command(tmp_path):
    made = write(tmp_path / "results", marked(120, length=0.5))
    document = rmeval("probe", "bias", made, "--json").document
    assert (document["probe"], document["examples"], document["prompts"]) == ("bias", 120, 60)
    assert {curve["panel"] for curve in document["curves"]} >= {"accuracy by length", "accuracy", "pull", "slots"}
    answer = rmeval("probe", "bias", made, "-o", tmp_path / "figure")
    assert answer.code == 0
    assert "undefined: writers: the suite does not say who wrote the responses" in answer.stdout
    assert {path.name for path in (tmp_path / "figure").iterdir()} == {"bias.json", "bias.svg", "bias.png"}
    assert "log2 (right length / wrong length)" in (tmp_path / "figure" / "bias.svg").read_text()
