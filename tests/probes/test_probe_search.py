"""Searches: every choice against plain loops over all trees of a small world, and the command on the arithmetic one."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from itertools import islice

import pytest
from command import rmeval

from rmeval.arithmetic.policy import Written
from rmeval.arithmetic.problems import draw_problems, seeded
from rmeval.errors import UsageError
from rmeval.probes.search import (
    Found,
    Rules,
    beam_search,
    check_width,
    complete,
    dvts,
    early_rejection,
    together,
)
from rmeval.probes.search_world import LOGIT, Setting, oracle, probe_search
from rmeval.types import NAN

DEPTH = 2
WORTH = {(0,): 0.3, (1,): 0.6, (0, 0): 0.9, (0, 1): 0.1, (1, 0): 0.7, (1, 1): 0.2}
"""Two steps of two kinds; the best whole path begins with the worse step."""


@dataclass(frozen=True)
class Path:
    """A path of a binary tree."""

    kinds: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(map(str, self.kinds))

    @property
    def done(self) -> bool:
        return len(self.kinds) == DEPTH


def scores(path: Path) -> tuple[float, ...]:
    return tuple(WORTH[path.kinds[: k + 1]] for k in range(len(path.kinds)))


def scripted(draws):
    """Rules under which the next kind is the next one of `draws`."""
    script = iter(draws)
    return Rules(Path(), lambda path, _: Path((*path.kinds, next(script))), random.Random(0))


def run(search) -> Found:
    return together([search], lambda asked: [scores(path) for _, path in asked])[0]


def best(paths, keep=1):
    """The best by their last score; equal paths are the same path here, so it matters not which."""
    return sorted(paths, key=lambda path: -scores(path)[-1])[:keep]


def test_beam_search_over_every_draw():
    n, width = 4, 2
    for draws in itertools.product((0, 1), repeat=n * DEPTH):
        first = [Path((kind,)) for kind in draws[:n]]
        kept = best(first, n // width)
        second = [Path((*kept[i % 2].kinds, draws[n + i])) for i in range(n)]
        found = run(beam_search(scripted(draws), n, width))
        assert scores(found.chosen) == scores(best(second)[0])
        assert (found.written, found.finished, found.missing) == (n * DEPTH, n, False)


def test_dvts_over_every_draw():
    n, width = 4, 2
    for draws in itertools.product((0, 1), repeat=n * DEPTH):
        trees = [best([Path((kind,)) for kind in draws[t * width : (t + 1) * width]])[0] for t in range(n // width)]
        ends = [
            best([Path((*tree.kinds, kind)) for kind in draws[n + t * width : n + (t + 1) * width]])[0]
            for t, tree in enumerate(trees)
        ]
        found = run(dvts(scripted(draws), n, width))
        assert found.chosen == best(ends)[0]
        assert (found.written, found.finished) == (n * DEPTH, n // width)


def test_early_rejection_over_every_draw():
    budget, cut = 6, 0.25
    for draws in itertools.product((0, 1), repeat=budget):
        path, ends = (), []
        for kind in draws:
            path = (*path, kind)
            if WORTH[path] < cut:
                path = ()
            elif len(path) == DEPTH:
                ends.append(Path(path))
                path = ()
        found = run(early_rejection(scripted(draws), budget, cut))
        assert found.chosen == (best(ends)[0] if ends else None)
        assert (found.written, found.finished) == (budget, len(ends))


def test_expected_worth_of_beam_search_by_enumeration():
    """A greedy beam of two falls for the better first step more often than best-of-two does."""
    beams, whole = [], []
    for draws in itertools.product((0, 1), repeat=4):
        beams.append(scores(run(beam_search(scripted(draws), 2, 2)).chosen)[-1])
        rules = scripted(draws)
        whole.append(scores(best([complete(rules), complete(rules)])[0])[-1])
    # beam: (0,0) first: 1/4 of the first draws keep 0; then the best of two seconds: .9 with 3/4, .1 with 1/4
    kept_0 = 0.75 * 0.9 + 0.25 * 0.1
    kept_1 = 0.75 * 0.7 + 0.25 * 0.2
    assert sum(beams) / 16 == pytest.approx(0.25 * kept_0 + 0.75 * kept_1)
    expected = [max(a, b) for a, b in itertools.product((0.9, 0.1, 0.7, 0.2), repeat=2)]
    assert sum(whole) / 16 == pytest.approx(sum(expected) / 16)


def test_equal_rewards_are_drawn_from():
    chosen = {
        beam.chosen.kinds
        for seed in range(20)
        for beam in together(
            [beam_search(Rules(Path(), lambda p, r: Path((*p.kinds, r.randrange(9))), random.Random(seed)), 2, 2)],
            lambda asked: [(0.5,) * len(path.kinds) for _, path in asked],
        )
    }
    assert len(chosen) > 5


def test_a_missing_score_makes_the_whole_search_missing():
    for search in (
        beam_search(scripted([0] * 8), 4, 2), dvts(scripted([0] * 8), 4, 2), early_rejection(scripted([0] * 8), 4, 0.1),
    ):  # fmt: skip
        found = together([search], lambda asked: [(NAN,) * len(path.kinds) for _, path in asked])[0]
        assert (found.chosen, found.missing) == (None, True)


def test_searches_side_by_side_find_what_they_find_alone():
    rng = random.Random(5)
    draws = [[rng.randrange(2) for _ in range(8)] for _ in range(30)]
    makers = [beam_search, dvts]

    def searches():
        made = [makers[i % 2](scripted(d), 4, 2) for i, d in enumerate(draws)]
        return [*made, early_rejection(scripted([0, 1] * 9), 18, 0.2)]

    side_by_side = together(searches(), lambda asked: [scores(path) for _, path in asked])
    assert side_by_side == [run(search) for search in searches()]


@pytest.mark.parametrize(("n", "width"), [(2, 4), (6, 4)])
def test_widths_that_do_not_divide_are_refused(n, width):
    assert check_width(n, width)
    for search in (beam_search, dvts):
        with pytest.raises(UsageError, match="no multiple of the width"):
            run(search(scripted([0] * 9), n, width))


# --- the arithmetic world --------------------------------------------------------------------------------------------


def small(**changes) -> Setting:
    return Setting(**({"sizes": (4, 8), "problems": 60, "error": 0.5} | changes))


def test_a_perfect_guide_beats_best_of_n_with_as_many_steps():
    found = probe_search(oracle(0.0), small())
    steps = {c.name: [p.value for p in c.points] for c in found.curves if c.panel == "steps written"}
    assert len({tuple(v) for v in steps.values()}) == 1
    for name in ("beam search", "DVTS", "early rejection"):
        gain = found.curve("gain over best of n", name).points[0]
        assert gain.n == 60
        assert gain.ci[0] > 0
    # with a perfect guide best-of-n chooses a right solution wherever there is one
    for best_, ideal in zip(
        found.curve("right", "best of n").points, found.curve("right", "oracle").points, strict=True
    ):
        assert best_.value == pytest.approx(ideal.value, abs=0.02)


def test_a_guide_of_pure_noise_is_worth_as_much_as_luck():
    found = probe_search(oracle(1000.0), small(problems=150))
    luck = found.curve("right", "random").points[0].value
    for name in ("beam search", "DVTS"):
        low, high = found.curve("right", name).points[0].ci
        assert low < luck < high


def test_the_same_seed_finds_the_same_and_another_does_not():
    one, again, other = (probe_search(oracle(1.0), small(problems=12, seed=seed)) for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_missing_scores_are_counted_problem_by_problem():
    gone = next(islice(draw_problems("test", seeded("arithmetic search", 0)), 1))

    def score(asked):
        return [(NAN,) * len(one.steps) if problem == gone else (0.7,) * len(one.steps) for problem, one in asked]

    found = probe_search(score, small(problems=12, sizes=(4,)))
    for name in ("best of n", "beam search", "DVTS", "early rejection"):
        point = found.curve("right", name).points[0]
        assert (point.n, point.n_missing) == (11, 1)


def test_the_oracle_scores_the_truth_and_its_noise_repeats():
    problem = next(draw_problems("test", seeded("oracle", 0)))
    asked = [(problem, Written(("a", "b", "c"), first_wrong=1)), (problem, Written(("a",)))]
    sure = oracle(0.0)(asked)
    assert sure[0][0] > 0.5 > sure[0][1] == sure[0][2]
    noisy = oracle(LOGIT)(asked)
    assert noisy == oracle(LOGIT)(asked)
    assert noisy[0][0] == noisy[1][0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": ()}, "--budget"),
        ({"error": 1.0}, "--error"),
        ({"width": 1}, "--width"),
        ({"problems": 0}, "--problems"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        small(**changes)


def test_the_command(tmp_path):
    given = ("probe", "search", "oracle", "--noise", "1", "--problems", "12", "--budget", "2,4")
    document = rmeval(*given, "--json").document
    assert (document["probe"], document["n"], document["model"]["kind"]) == ("search", [2, 4], "oracle")
    beam = next(c for c in document["curves"] if (c["panel"], c["name"]) == ("right", "beam search"))
    assert beam["points"][0]["note"] == "2 is no multiple of the width 4"
    answer = rmeval(*given, "-o", tmp_path)
    assert answer.code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"search.json", "search.svg", "search.png"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("length", "--problems", "2", "--budget", "4"), "no step scores"),
        (("oracle", "--aggregate", "lst"), "last"),
        (("oracle", "--budget", "4,x"), "--budget"),
        (("length", "--noise", "1"), "only the oracle"),
        (("oracle", "--noise", "-1"), "at least 0"),
    ],
)
def test_wrong_input_is_refused(given, said):
    answer = rmeval("probe", "search", *given)
    assert answer.code == 2
    assert said in answer.stderr
