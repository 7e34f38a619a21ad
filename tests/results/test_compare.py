"""Paired comparisons: the same examples or none, golden numbers, and honest gaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_results import PLAN, pairs, scored, write

from rmeval import stats
from rmeval.compare import Comparison, common_rows, compare, compare_all, pair
from rmeval.errors import UsageError
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.results import load_result
from rmeval.types import NAN, Judgement

FLAT = MetricPlan("accuracy", "rows", (Section("accuracy", (), RuleSpec("accuracy", {"ties": "half"})),))


def run(tmp_path: Path, rows: list[Judgement], name: str, **changes: object) -> object:
    return load_result(scored(tmp_path, rows, model=name, **changes))


def binary(outcomes: str) -> list[Judgement]:
    """One prompt per example; 1 is right, 0 is wrong, = is a tie."""
    scores = {"1": (1.0, 0.0), "0": (0.0, 1.0), "=": (0.0, 0.0)}
    return [Judgement(f"x/{i}", "x", "", f"p{i}", (1.0, 0.0), scores=scores[o]) for i, o in enumerate(outcomes)]


def test_the_paired_example_of_the_literature(tmp_path: Path) -> None:
    a = load_result(write(tmp_path, binary("1101101101"), model="a"))
    b = load_result(write(tmp_path, binary("1001101011"), model="b"))
    found = compare(a, b, FLAT).headline
    assert (found.a, found.b) == (pytest.approx(0.7), pytest.approx(0.6))
    assert found.difference == pytest.approx(0.1)
    assert found.mcnemar_mid_p == pytest.approx(stats.mcnemar_mid_p(2, 1))
    assert found.p == stats.sign_flip([0, 1, 0, 0, 0, 0, 0, 1, -1, 0])
    assert (found.n, found.clusters) == (10, 10)
    # the bootstrap SE of a plain mean is the paired SE times sqrt((n - 1) / n), up to resampling noise
    assert found.resolvable == pytest.approx(stats.minimum_detectable_effect(0.179505 * 0.9**0.5), rel=0.05)


def test_soft_credits_have_no_mcnemar_and_clusters_neither(tmp_path: Path) -> None:
    a, b = binary("11=10110101101"), binary("10110=01101011")
    one = load_result(write(tmp_path, a, model="a"))
    assert compare(one, load_result(write(tmp_path, b, model="b")), FLAT).headline.mcnemar_mid_p is None
    shared = [[replace(row, cluster=row.cluster[:2]) for row in rows] for rows in (binary("1" * 12), binary("10" * 6))]
    left, right = (load_result(write(tmp_path, rows, model=name)) for rows, name in zip(shared, "cd", strict=True))
    found = compare(left, right, FLAT).headline
    assert found.mcnemar_mid_p is None
    assert found.clusters == 10


def test_a_difference_is_found_and_negates_when_swapped(tmp_path: Path) -> None:
    strong, weak = run(tmp_path, pairs(3.0), "strong"), run(tmp_path, pairs(0.5, seed=2), "weak")
    forth, back = compare(strong, weak, PLAN), compare(weak, strong, PLAN)
    assert forth.headline.difference == pytest.approx(-back.headline.difference)
    assert forth.headline.p < 0.001
    assert forth.headline.ci is not None
    low, high = forth.headline.ci
    assert 0 < low < forth.headline.difference < high
    assert forth.headline.a == pytest.approx(strong.headline.value)
    assert [(d.level, d.name) for d in forth.differences] == [
        ("headline", "accuracy"), ("section", "simple"), ("section", "subtle"), ("subset", "easy"), ("subset", "hard"),
    ]  # fmt: skip
    assert forth.differences[1].difference == pytest.approx(forth.differences[3].difference)
    mean = (forth.differences[1].difference + forth.differences[2].difference) / 2
    assert forth.headline.difference == pytest.approx(mean)


@pytest.mark.fault("F63")
def test_missing_scores_leave_both_sides_and_are_counted(tmp_path: Path) -> None:
    whole = pairs(2.0)
    holes = [
        replace(row, scores=(NAN, 0.0), reasons=("truncated", None)) if i % 8 == 0 else row
        for i, row in enumerate(whole)
    ]
    a, b = run(tmp_path, whole, "a"), run(tmp_path, holes[:-4], "b", plan=replace(PLAN, expected={}))
    found = compare(a, b, replace(PLAN, expected={}))
    assert found.overlap.unscored == 20
    assert found.overlap.not_shared == (4, 0)
    assert found.overlap.common == found.headline.n == 160 - 20 - 4
    assert found.headline.difference == 0
    assert found.headline.ci is None
    assert "same on every example" in found.headline.note
    assert found.headline.p == 1


@pytest.mark.fault("F63")
def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    a = run(tmp_path, pairs(), "a")
    b = run(tmp_path, [replace(row, id=f"other/{row.id}") for row in pairs()], "b")
    with pytest.raises(UsageError, match="share no example"):
        compare(a, b, PLAN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grades": (0.0, 1.0)}, "other labels"),
        ({"cluster": "another prompt"}, "another prompt"),
        ({"lengths": (1, 2)}, "another prompt or other candidates"),
    ],
)
@pytest.mark.fault("F63")
def test_equal_ids_over_different_data_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    a = run(tmp_path, pairs(), "a")
    b = run(tmp_path, [replace(pairs()[0], **changes), *pairs()[1:]], "b")
    with pytest.raises(UsageError, match=said):
        compare(a, b, PLAN)


def test_suites_and_versions_are_not_mixed(tmp_path: Path) -> None:
    a = run(tmp_path, pairs(), "a")
    for changes in ({"version": 2}, {"suite": "other"}):
        with pytest.raises(UsageError, match="only results of one suite and version"):
            compare(a, run(tmp_path, pairs(), "b", **changes), PLAN)


def test_a_family_of_pairs_is_adjusted_by_holm(tmp_path: Path) -> None:
    views = [run(tmp_path, pairs(skill, seed=seed), f"m{seed}") for seed, skill in enumerate((2.0, 1.0, 0.5), start=1)]
    found = compare_all(views, PLAN)
    assert [(c.a, c.b) for c in found] == [("m1", "m2"), ("m1", "m3"), ("m2", "m3")]
    raw = [c.headline.p for c in found]
    assert [c.headline.p_adjusted for c in found] == pytest.approx(stats.holm(raw).tolist())
    assert found[0].headline.family == "Holm over 3 pairs"
    with pytest.raises(UsageError, match="at least two"):
        compare_all(views[:1], PLAN)


def test_few_prompts_have_no_interval_but_an_exact_p(tmp_path: Path) -> None:
    a, b = (load_result(write(tmp_path, binary(o), model=o)) for o in ("11111111", "00000000"))
    found = compare(a, b, FLAT).headline
    assert found.ci is None
    assert "only 8 different prompts" in found.note
    assert found.p == 2 / 2**8


def test_two_results_of_one_model_are_told_apart(tmp_path: Path) -> None:
    a, b = run(tmp_path, pairs(), "same", hour=1), run(tmp_path, pairs(seed=3), "same", hour=2)
    found = compare(a, b, PLAN)
    assert found.a != found.b
    assert found.a.startswith("same (")


def test_the_table_has_one_text_row_per_aggregate(tmp_path: Path) -> None:
    found: Comparison = compare(run(tmp_path, pairs(3.0), "a"), run(tmp_path, pairs(0.3, seed=9), "b"), PLAN)
    rows = found.rows()
    assert len(rows) == len(found.differences)
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    assert rows[0]["p"] == "< .001"
    assert rows[0]["a - b"].startswith("+")


def test_weights_and_credits_add_up_to_the_headline(tmp_path: Path) -> None:
    a, b = pairs(2.0), pairs(1.0, seed=4)
    rows, _ = common_rows([a, b], PLAN, ("a", "b"))
    paired = pair(rows, PLAN)
    assert paired.estimates.tolist() == pytest.approx(
        [run(tmp_path, a, "a").headline.value, run(tmp_path, b, "b").headline.value]
    )


def test_where_the_headline_is_undefined_its_parts_are_compared_and_it_is_said(tmp_path: Path) -> None:
    rows = [[row for row in pairs(skill, seed=seed) if row.subset == "easy"] for seed, skill in ((1, 3.0), (2, 0.3))]
    a, b = (load_result(scored(tmp_path, one, model=f"half-{i}")) for i, one in enumerate(rows))
    found = compare(a, b, PLAN)
    assert [(d.level, d.name) for d in found.differences] == [("section", "simple")]
    assert "no examples of hard" in found.notes[0]


def test_score_only_rows_take_the_prompts_of_the_rows_with_texts(tmp_path: Path) -> None:
    whole = pairs(2.0)
    textless = [replace(row, cluster=row.id, lengths=()) for row in pairs(1.0, seed=4)]
    forth, back = (common_rows(both, PLAN, "ab")[0] for both in ([whole, textless], [textless, whole]))
    assert pair(forth, PLAN).n_clusters == pair(back, PLAN).n_clusters == 80
    a, b = run(tmp_path, whole, "a"), run(tmp_path, textless, "b")
    assert compare(a, b, PLAN).headline.ci == compare(a, run(tmp_path, pairs(1.0, seed=4), "c"), PLAN).headline.ci
