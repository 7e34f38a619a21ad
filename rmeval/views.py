"""What a scorer is shown of an example, in which orders: the only place that picks an order.

    arity one   each candidate by itself
    arity two   every pair of candidates with different grades, or every pair that the data set lists; where there is
                none, every pair
    arity all   all candidates together

An order never depends on the labels: candidates stand by a hash of example id and text, and the order that is drawn
from there depends on the seed, the scorer's protocol and the example's id alone. Neither a resumed run nor a shuffled
data set nor `--limit` changes it.

What this module does not know: what is asked about a view, and who answers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, permutations

from rmeval.errors import UsageError
from rmeval.protocols import Scorer, Shown
from rmeval.types import Example, NoText, Showing, View

MOST_PERMUTED = 3
"""Candidates of which every permutation is shown, at most."""


def label_free_order(example: Example) -> tuple[int, ...]:
    """Candidate indices by the hash of example id and text: an order that the labels cannot influence."""

    def rank(i: int) -> bytes:
        content = f"{example.id}\x1f{example.candidates[i].text}"
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()

    return tuple(sorted(range(len(example.candidates)), key=rank))


def views(examples: Iterable[Example], scorer: Scorer, *, by_step: bool = False) -> Iterator[tuple[Example, View]]:
    """Every view of every example, in the order of the examples.

    Raises `UsageError` for texts that the suite does not have, and for more permutations than anyone wants to pay for.
    """
    showing = scorer.showing if isinstance(scorer, Shown) else Showing()
    for example in examples:
        try:
            label_free = label_free_order(example)
        except NoText:
            raise UsageError(
                f"example {example.id!r} is score-only: published outputs without the texts. They can be replayed "
                "(rmeval run replay:FILE); to score them with a model, give --data with the texts"
            ) from None
        for order in _shown(example, label_free, scorer, showing):
            candidates = tuple(example.candidates[label_free[place]] for place in order)
            for vote in range(showing.votes):
                yield example, View(example.id, example.prompt, candidates, order, vote, by_step)


def _shown(example: Example, label_free: Sequence[int], scorer: Scorer, showing: Showing) -> Iterator[tuple[int, ...]]:
    """Places in the label-free order, view by view."""
    k = len(label_free)
    if scorer.arity == "one":
        yield from ((place,) for place in range(k))
        return
    together = [tuple(range(k))] if scorer.arity == "all" else _pairs(example, label_free)
    for group in together:
        yield from orders(group, showing, example.id)


def _pairs(example: Example, label_free: Sequence[int]) -> list[tuple[int, ...]]:
    """The pairs that a metric can ask about, as places in the label-free order."""
    place = {index: at for at, index in enumerate(label_free)}
    grades = example.labels.grades
    every = list(combinations(range(len(grades)), 2))
    listed = example.labels.comparisons or [(a, b) for a, b in every if grades[a] != grades[b]]
    return sorted({tuple(sorted((place[a], place[b]))) for a, b in listed or every})


def orders(group: tuple[int, ...], showing: Showing, example: str) -> list[tuple[int, ...]]:
    """The orders in which a group of candidates is shown.

    >>> orders((0, 1), Showing("both"), "x") in ([(0, 1), (1, 0)], [(1, 0), (0, 1)])
    True
    >>> len(orders((0, 1, 2, 3), Showing("latin"), "x"))
    4
    """
    if showing.orders == "all":
        if len(group) > MOST_PERMUTED:
            raise UsageError(
                f"example {example!r} has {len(group)} candidates, and so {math.factorial(len(group))} orders: all of "
                f"them are shown for up to {MOST_PERMUTED}. Use orders = latin, each candidate once in each place"
            )
        return sorted(permutations(group))
    base = _drawn(group, showing, example)
    if showing.orders == "latin":
        return [base[shift:] + base[:shift] for shift in range(len(base))]
    return [base, base[::-1]] if showing.orders == "both" else [base]


def _drawn(group: tuple[int, ...], showing: Showing, example: str) -> tuple[int, ...]:
    """One permutation by hash (Fisher-Yates; 64 bits a swap leave no bias that could be seen)."""
    base = list(group)
    for i in range(len(base) - 1, 0, -1):
        said = f"{showing.seed}|{showing.protocol}|{example}|{','.join(map(str, group))}|{i}"
        j = int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()[:8], "big") % (i + 1)
        base[i], base[j] = base[j], base[i]
    return tuple(base)
