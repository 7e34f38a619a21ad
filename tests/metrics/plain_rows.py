"""Seeded rows that a table of judgements can hold."""

from __future__ import annotations

import random

from rmeval.types import NAN, Judgement


def plain(n, seed, *, sizes=(2,), lost=0.05, reason="truncated", texts=True, markup=True, subsets=("a", "b", "c")):
    """Seeded rows: ties, prompts that several share, rows without contrast, rows without a score."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        k = rng.choice(sizes)
        grades = [1.0, *(0.0 for _ in range(k - 1))]
        rng.shuffle(grades)
        if rng.random() < 0.03:
            grades = [0.5] * k
        scores = [float(rng.randint(0, 4)) if rng.random() < 0.5 else rng.gauss(0, 1) + g for g in grades]
        reasons, truncated = (), ()
        if rng.random() < lost:
            place = rng.randrange(k)
            scores[place] = NAN
            reasons = tuple(reason if c == place else None for c in range(k))
            truncated = tuple(c == place for c in range(k))
        rows.append(
            Judgement(
                id=f"ü{i}" if i % 7 == 0 else str(i),
                subset=rng.choice(subsets),
                group="g" if i % 2 else "",
                cluster=f"p{rng.randrange(max(1, n // 2))}",
                grades=tuple(grades),
                scores=tuple(scores),
                reasons=reasons,
                truncated=truncated,
                n_tokens=tuple(rng.randint(1, 99) for _ in range(k)) if i % 3 else (),
                lengths=tuple(rng.randint(0, 900) for _ in range(k)) if texts else (),
                markup=tuple((rng.randint(0, 2), rng.randint(0, 3), 0) for _ in range(k)) if markup else (),
            )
        )
    return tuple(rows)


def same(left, right):
    return repr(tuple(left)) == repr(tuple(right))  # NaN is NaN
