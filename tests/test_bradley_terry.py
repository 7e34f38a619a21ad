"""Ratings: the golden numbers of the statistics specification, section B10, and what must not get a rating."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval import bradley_terry as bt
from rmeval.likelihood import NotIdentifiable

QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)

# the example of Wikipedia's article on the model: (winner, loser, times)
WIKIPEDIA = [("A", "B", 2), ("B", "A", 3), ("A", "D", 1), ("D", "A", 4), ("B", "C", 5), ("C", "B", 3), ("C", "D", 1), ("D", "C", 3)]  # fmt: skip


def wikipedia(**more):
    winners, losers, times = zip(*WIKIPEDIA, strict=True)
    return bt.fit(winners, losers, [1] * len(winners), weights=times, **more)


def test_b10_wikipedia_golden():
    found = wikipedia()
    assert found.players == ("A", "B", "C", "D")
    assert found.theta == pytest.approx([-0.446545, 0.042403, -0.415803, 0.819946], abs=1e-6)
    assert np.exp(found.theta) == pytest.approx([0.639835, 1.043314, 0.659810, 2.270377], abs=2e-6)
    assert found.elo() == pytest.approx([922.427, 1007.366, 927.768, 1142.439], abs=6e-4)
    assert found.log_likelihood == pytest.approx(-13.428450, abs=1e-6)
    relative = [found.difference(p, "A") for p in "BCD"]
    assert [d for d, _ in relative] == pytest.approx([0.488948, 0.030742, 1.266491], abs=1e-6)
    assert [se for _, se in relative] == pytest.approx([0.817, 0.948, 0.908], abs=6e-4)
    assert found.tie_parameter is None


def test_b10_two_players_golden():
    found = bt.fit(["A", "B"], ["B", "A"], [1, 1], weights=[30, 10])
    assert found.difference("A", "B") == pytest.approx((1.098612, 0.365148), abs=1e-6)
    assert [bt.ELO * x for x in found.difference("A", "B")] == pytest.approx([190.85, 63.43], abs=0.005)
    assert found.standard_errors() == pytest.approx([0.18257, 0.18257], abs=1e-5)
    low, high = found.interval("A")
    assert (low + high) / 2 == pytest.approx(found.theta[0])
    assert (high - low) / 2 == pytest.approx(1.959964 * 0.182574, abs=1e-5)


@pytest.mark.parametrize(
    ("ties", "difference", "parameter"),
    [
        ("half", math.log(2), None),
        ("davidson", math.log(3), 4 / math.sqrt(12)),
        ("rao-kupper", math.log(math.sqrt(5)), math.sqrt(5)),
    ],
)
def test_b10_ties_golden(ties, difference, parameter):
    # A wins 6, B wins 2, 4 ties
    found = bt.fit(["A", "B", "A"], ["B", "A", "B"], [1, 1, 0.5], weights=[6, 2, 4], ties=ties)
    assert found.difference("A", "B")[0] == pytest.approx(difference, abs=1e-9)
    assert found.tie_parameter == (None if parameter is None else pytest.approx(parameter, abs=1e-9))


def test_one_prompt_per_comparison_gives_the_sandwich_of_single_battles():
    y = [1] * 30 + [0] * 10
    found = bt.fit(["A"] * 40, ["B"] * 40, y, clusters=range(40))
    # per battle .18257, with the C/(C-1) of the clustered means
    assert found.standard_errors() == pytest.approx([0.182574 * math.sqrt(40 / 39)] * 2, abs=1e-6)


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_repeating_a_battle_inside_its_prompt_adds_no_information(ties):
    rng = np.random.default_rng(0)
    a, b = rng.choice(list("ABCD"), 300), rng.choice(list("EFG"), 300)
    y = rng.choice([0, 0.5, 1], 300)
    once = bt.fit(a, b, y, clusters=range(300), ties=ties)
    twice = bt.fit(np.tile(a, 2), np.tile(b, 2), np.tile(y, 2), clusters=[*range(300)] * 2, ties=ties)
    assert twice.theta == pytest.approx(once.theta, abs=1e-9)
    assert twice.standard_errors() == pytest.approx(once.standard_errors(), rel=1e-9)
    naive = [bt.fit(np.tile(a, n), np.tile(b, n), np.tile(y, n), ties=ties).standard_errors() for n in (1, 2)]
    assert naive[1] == pytest.approx(naive[0] / math.sqrt(2), rel=1e-9)


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_the_fit_is_the_maximum_of_the_likelihood_written_out(ties):
    rng = np.random.default_rng(1)
    a, b = zip(*itertools.islice(itertools.cycle(itertools.combinations("ABC", 2)), 60), strict=True)
    y = rng.choice([0, 0.5, 1], 60, p=[0.3, 0.2, 0.5])
    found = bt.fit(a, b, y, ties=ties)

    def probability(s, t, outcome, nu):
        if ties == "half":
            return (s / (s + t)) ** outcome * (t / (s + t)) ** (1 - outcome)
        if ties == "davidson":
            return {1: s, 0: t, 0.5: nu * math.sqrt(s * t)}[outcome] / (s + t + nu * math.sqrt(s * t))
        win, loss = s / (s + nu * t), t / (t + nu * s)
        return {1: win, 0: loss, 0.5: 1 - win - loss}[outcome]

    def log_likelihood(theta, nu):
        s = dict(zip(found.players, np.exp(theta), strict=True))
        return sum(math.log(probability(s[p], s[q], o, nu)) for p, q, o in zip(a, b, y, strict=True))

    nu = found.tie_parameter
    best = log_likelihood(found.theta, nu)
    assert found.log_likelihood == pytest.approx(best, abs=1e-9)
    for move in np.eye(3) * 1e-3:
        assert log_likelihood(found.theta + move, nu) < best
        assert log_likelihood(found.theta - move, nu) < best
    if nu is not None:
        assert log_likelihood(found.theta, nu * 1.001) < best
        assert log_likelihood(found.theta, nu / 1.001) < best


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_without_ties_both_extensions_are_the_plain_model(ties):
    plain, found = wikipedia(), wikipedia(ties=ties)
    assert found.theta.tolist() == plain.theta.tolist()
    assert found.tie_parameter is None


@QUICK
@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from("ABCD"), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=30))  # fmt: skip
def test_turning_every_comparison_round_changes_nothing(rows):
    rows = [row for row in rows if row[0] != row[1]]
    if not rows:
        return
    a, b, y = zip(*rows, strict=True)
    try:
        found = bt.fit(a, b, y)
    except NotIdentifiable:
        with pytest.raises(NotIdentifiable):
            bt.fit(b, a, [1 - v for v in y])
        return
    turned = bt.fit(b[::-1], a[::-1], [1 - v for v in y[::-1]])
    assert turned.theta == pytest.approx(found.theta, abs=1e-7)
    assert abs(found.theta.sum()) < 1e-9
    # the likelihood equations: every player wins as often as the model expects
    gap = dict(zip(found.players, found.theta, strict=True))
    for p in found.players:
        won = sum(v if q == p else 1 - v for q, r, v in rows if p in (q, r))
        expected = sum(1 / (1 + math.exp(gap[r if q == p else q] - gap[p])) for q, r, _ in rows if p in (q, r))
        assert won == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("A", "B", 1), ("B", "C", 1), ("C", "B", 1)], "A never lost to the others"),
        ([("A", "B", 1), ("B", "A", 1), ("C", "D", 1), ("D", "C", 1)], "no comparison links A, B with C, D"),
        ([("A", "B", 0)], "B never lost"),
        ([], "no comparisons"),
    ],
)
@pytest.mark.fault("F61")
def test_f61_undefeated_or_unconnected_players_get_no_rating(rows, said):
    with pytest.raises(NotIdentifiable, match=said):
        bt.fit([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


@pytest.mark.fault("F61")
def test_f61_only_ties_leave_the_tie_parameter_open():
    assert bt.fit(["A"], ["B"], [0.5]).theta.tolist() == [0.0, 0.0]
    with pytest.raises(NotIdentifiable, match="every comparison is a tie"):
        bt.fit(["A"], ["B"], [0.5], ties="davidson")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"outcomes": [math.nan, 1]}, "missing verdict"),
        ({"outcomes": [1]}, "same length"),
        ({"outcomes": [1.5, 1]}, "lie in"),
        ({"outcomes": [0, -0.5]}, "lie in"),
        ({"weights": [1, 0]}, "never seen"),
        ({"weights": [1, math.inf]}, "finite"),
        ({"outcomes": [0.3, 1], "ties": "davidson"}, "wins"),
        ({"second": ["A", "A"]}, "compared with itself"),
    ],
)
def test_input_that_is_none_is_refused(arguments, said):
    given_ = {"first": ["A", "B"], "second": ["B", "A"], "outcomes": [1, 1], **arguments}
    with pytest.raises(ValueError, match=said):
        bt.fit(**given_)
    with pytest.raises(NotIdentifiable, match="share one prompt"):
        bt.fit(["A", "B"], ["B", "A"], [1, 1], clusters=["p", "p"])


def test_intervals_of_clustered_fits_use_t():
    y = [1, 0, 1, 1]
    found = bt.fit(["A"] * 4, ["B"] * 4, y, clusters="abcd")
    low, high = found.interval("A")
    assert (high - low) / 2 == pytest.approx(3.182446 * found.standard_errors()[0], rel=1e-6)


def probabilities(ties, gap, tie):
    """(the first wins, a tie, the second wins), as the module's head writes them down."""
    s, t, x = math.exp(gap), 1.0, math.exp(tie)
    if ties == "half":
        return s / (s + t), None, t / (s + t)
    if ties == "davidson":
        whole = s + t + x * math.sqrt(s * t)
        return s / whole, x * math.sqrt(s * t) / whole, t / whole
    win, loss = s / (s + x * t), t / (t + x * s)
    return win, 1 - win - loss, loss


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_slopes_and_curvatures_are_the_derivatives_of_the_probabilities_written_out(ties):
    model = {"half": bt._half, "davidson": bt._davidson, "rao-kupper": bt._rao_kupper}[ties]
    step = 1e-4
    for gap, tie, y in itertools.product((-2.5, -0.3, 0.0, 1.1), (0.2, 0.9, 1.7), (0.0, 0.5, 1.0)):
        tied = np.array([y == 0.5 and ties != "half"])

        def written(gap, tie, y=y, tied=tied[0]):
            win, draw, loss = probabilities(ties, gap, tie)
            return math.log(draw) if tied else y * math.log(win) + (1 - y) * math.log(loss)

        value, slopes, curves = model(np.array([gap]), tie, np.array([y]), tied)
        assert value[0] == pytest.approx(written(gap, tie), abs=1e-12)
        up, down, left, right = (written(gap + step * a, tie + step * b) for a, b in ((1, 0), (-1, 0), (0, -1), (0, 1)))
        assert [s[0] for s in slopes] == pytest.approx([(up - down) / 2 / step, (right - left) / 2 / step], abs=1e-6)
        here = written(gap, tie)
        corners = [written(gap + step * a, tie + step * b) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        mixed = (corners[0] - corners[1] - corners[2] + corners[3]) / 4 / step**2
        numeric = [(up - 2 * here + down) / step**2, mixed, (right - 2 * here + left) / step**2]
        assert [c[0] for c in curves] == pytest.approx(numeric, abs=1e-5)


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_errors_are_those_of_the_likelihood_written_out(ties):
    """Alone the inverse of the curvature at the top; by prompt the sandwich of slopes summed within prompts."""
    rng = np.random.default_rng(5)
    a, b = zip(*itertools.islice(itertools.cycle(itertools.permutations("ABC", 2)), 60), strict=True)
    y, w = rng.choice([0, 0.5, 1], 60, p=[0.3, 0.3, 0.4]), rng.integers(1, 4, 60)
    prompts = rng.integers(0, 12, 60)
    alone, found = (bt.fit(a, b, y, weights=w, clusters=c, ties=ties) for c in (None, prompts.tolist()))
    i, j = (np.array(["ABC".index(p) for p in side]) for side in (a, b))
    at = np.append(found.theta, math.log(found.tie_parameter or 1.0))

    def rows(at):
        """[n] the log-likelihood of each row."""
        of = [probabilities(ties, gap, at[3]) for gap in at[i] - at[j]]
        return w * np.array(
            [
                math.log(draw) if o == 0.5 and ties != "half" else o * math.log(win) + (1 - o) * math.log(loss)
                for o, (win, draw, loss) in zip(y, of, strict=True)
            ]
        )

    p = np.eye(4)[: 3 if ties == "half" else 4] * 1e-3
    slopes = np.stack([(rows(at + move) - rows(at - move)) / 2e-3 for move in p], axis=1)
    assert slopes.sum(axis=0) == pytest.approx(0, abs=1e-3)
    curves = [
        [sum(s * t * rows(at + s * q + t * r).sum() for s in (1, -1) for t in (1, -1)) / 4e-6 for r in p] for q in p
    ]
    bread = np.linalg.pinv(-np.array(curves), rcond=1e-5, hermitian=True)
    assert alone.covariance == pytest.approx(bread[:3, :3], abs=1e-5)
    half = np.array([slopes[prompts == c].sum(axis=0) for c in range(12)]) @ bread
    assert found.clusters == 12
    assert found.covariance == pytest.approx((half.T @ half * 12 / 11)[:3, :3], abs=1e-5)
