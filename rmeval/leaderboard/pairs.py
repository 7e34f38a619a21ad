"""Entry against entry: paired differences of the best entries of a suite, all on the same examples.

    duels(views, suite)        one `Duel` per pair of the best entries: headline, sections and subsets
    Everyone                   all ranked entries: enough to compare the headlines of any two

What this module does not know: how ranks come about, pages, where results come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rmeval import stats
from rmeval.compare import common_rows, difference_interval, pair, parts
from rmeval.errors import UsageError
from rmeval.metrics.evaluate import joint_bootstrap
from rmeval.results import ResultView
from rmeval.stats import Floats
from rmeval.suites import Suite

MOST = 8
"""Entries that are compared with each other: 28 pairs. `rmeval compare` takes any others."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One number of two entries."""

    name: str
    """`all`, or the section or subset."""
    a: float
    b: float
    difference: float
    """a - b."""
    ci: tuple[float, float] | None
    """95 %, paired cluster bootstrap; None where it cannot be estimated, and `note` says why."""
    n: int
    note: str


@dataclass(frozen=True, slots=True)
class Duel:
    """Entry `a` against entry `b`."""

    a: str
    b: str
    p: float
    """Sign flips of whole prompts on the headline, adjusted by Holm over all pairs of the page."""
    wins: int
    """Examples on which a earns more."""
    losses: int
    same: int
    common: int
    """Examples that all compared entries scored; the comparison is about these."""
    prompts: int
    gaps: tuple[Gap, ...]
    """The headline first, then sections, then subsets."""


def duels(views: Sequence[ResultView], suite: Suite) -> tuple[Duel, ...]:
    """Every pair of the first `MOST` results, best first; () where fewer than two can be paired."""
    views = views[:MOST]
    names = [view.result.model.name for view in views]
    if len(views) < 2:
        return ()
    try:
        rows, overlap = common_rows([view.judgements for view in views], suite.plan, names)
        whole = pair(rows, suite.plan)
    except UsageError:
        return ()
    measured = []
    for level, part in parts(suite.plan, rows[0]):
        try:
            drawn = joint_bootstrap(rows, suite.plan, part).replicates
            measured.append(("all" if level == "headline" else str(part), pair(rows, suite.plan, part), drawn))
        except UsageError:  # a part that is undefined on the common examples has no differences
            continue
    couples = list(combinations(range(len(views)), 2))
    p = stats.holm([stats.sign_flip(whole.earned[:, i] - whole.earned[:, j], whole.clusters) for i, j in couples])
    found = []
    for (i, j), adjusted in zip(couples, p.tolist(), strict=True):
        gaps = []
        for name, paired, drawn in measured:
            ci, _, note = difference_interval(paired, drawn, i, j)
            a, b = float(paired.estimates[i]), float(paired.estimates[j])
            gaps.append(Gap(name, a, b, a - b, ci, len(paired.clusters), note))
        moved = whole.values[:, i] - whole.values[:, j]
        wins, losses = int((moved > 1e-12).sum()), int((moved < -1e-12).sum())
        found.append(
            Duel(
                names[i], names[j], adjusted, wins, losses, len(moved) - wins - losses,
                overlap.common, whole.n_clusters, tuple(gaps),
            )
        )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Everyone:
    """All ranked entries of a suite, best first."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    """Headlines on the examples that all of them scored."""
    errors: Floats
    """[K, K] standard errors of the paired differences."""
    critical: float
    """The number of standard errors by which two differ whose order is known, all pairs together."""

    def gap(self, i: int, j: int) -> tuple[float, tuple[float, float] | None, bool]:
        """(difference of entry i and entry j, its 95 % interval, whether their order is known)."""
        away, se = self.values[i] - self.values[j], float(self.errors[i, j])
        half = stats.normal_quantile(0.5 + stats.LEVEL / 2) * se
        return away, (away - half, away + half) if se > 0 else None, abs(away) > max(self.critical * se, 1e-12)


@dataclass(frozen=True, slots=True)
class Matches:
    """What the page of entries against entries of a suite shows."""

    duels: tuple[Duel, ...]
    """Every pair of the best `MOST`."""
    everyone: Everyone
