"""What a reader should look at, beyond scores that are constant or perfect: margins, ceilings, ids."""

from __future__ import annotations

import random
from dataclasses import replace

from rmeval.leaderboard.verify import screens
from rmeval.types import Judgement, Verdict


def rows(n: int, scores, *, grades=lambda _: (1.0, 0.0), name="row {}".format) -> list[Judgement]:
    return [
        Judgement(name(i), "s", "", f"c{i}", grades(i), scores=tuple(map(float, scores(i, grades(i)))))
        for i in range(n)
    ]


def flags(found: list[Judgement]) -> str:
    return " ".join(screens(found))


def test_scores_that_are_the_grades_but_for_a_few_are_flagged() -> None:
    made = rows(100, lambda i, grades: grades if i % 20 else grades[::-1])
    assert "near gold echo: in 95% of the examples" in flags(made)
    assert "echo" not in flags(rows(100, lambda i, grades: grades if i % 5 else grades[::-1]))
    judge = [replace(row, scores=(), verdicts=(Verdict((0, 1), "A" if n % 20 else "B"),)) for n, row in enumerate(made)]
    assert "echo" not in flags(judge), "the verdicts of a good judge are as few as the grades"


def test_responses_that_all_lie_one_distance_apart_are_flagged() -> None:
    chance = random.Random(0)
    base = [chance.gauss(0, 3) for _ in range(100)]
    made = rows(100, lambda i, _: (base[i] + 0.7, base[i]) if chance.random() < 0.8 else (base[i], base[i] + 0.7))
    assert "degenerate margins: best and worst lie 0.7 apart in 100% of the examples" in flags(made)
    assert "degenerate" not in flags(rows(100, lambda *_: (chance.gauss(0.7, 3), chance.gauss(0, 3))))
    assert "degenerate" not in flags(rows(100, lambda i, _: (i % 3 > 0, i % 3 == 0))), "a verifier says yes or no"
    assert "degenerate" not in flags(rows(100, lambda i, _: (1e308 * (-1) ** i, i * 1e306)))


def annotated(shares: list[float], choice) -> list[Judgement]:
    """Pairs with the votes of three people, each for the first response with the pair's own probability."""
    chance = random.Random(1)
    votes = [tuple(int(chance.random() > share) for _ in range(3)) for share in shares]
    made = rows(len(shares), lambda i, _: (choice(shares[i], votes[i]), 0.0))
    return [replace(row, votes=said) for row, said in zip(made, votes, strict=True)]


def test_agreement_that_no_choice_can_reach_without_the_votes_is_flagged() -> None:
    chance = random.Random(2)
    shares = [chance.choice((0.2, 0.3, 0.7, 0.8)) for _ in range(600)]
    best = annotated(shares, lambda share, _: share - 0.5 + chance.random() / 10)
    assert "ceiling" not in flags(best), "the best choice that can be made"
    seen = annotated(
        shares, lambda _, said: 1.0 - said.count(1) + 0.5 * chance.random() if chance.random() < 0.97 else 0
    )
    assert "above the noise ceiling: agrees with the suite's annotators in" in flags(seen)
    assert "ceiling" not in flags([replace(row, votes=()) for row in seen]), "no votes, no ceiling"
    assert "ceiling" not in flags([replace(row, votes=(-1, -1)) for row in seen]), "all tied: nobody can be right"


def test_ids_that_tell_the_label_are_flagged() -> None:
    chance = random.Random(3)
    right = [chance.randrange(4) for _ in range(60)]

    def graded(i: int) -> tuple[float, ...]:
        return tuple(float(j == right[i]) for j in range(4))

    def noise(*_: object) -> list[float]:
        return [chance.random() for _ in range(4)]

    assert "ids tell" not in flags(rows(60, noise, grades=graded))
    numbered = rows(60, noise, grades=graded, name=lambda i: f"q{i}-{right[i]}")
    assert "ids tell the label: rank correlation 1.000 with the last number of an id" in flags(numbered)
    lettered = rows(60, noise, grades=graded, name=lambda i: f"q{i}-{'ABCD'[right[i]]}")
    assert "ids tell the label: whatever stands in them beside numbers has one label" in flags(lettered)
    assert "ids tell" not in flags(rows(60, lambda *_: (chance.random(), 0.5))), "the first is right, always"
