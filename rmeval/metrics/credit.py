"""What a rule hands back: one credit per example and component, and how the components make the primary value.

    rule(judgements, options) -> Credits(rows, formula, note)

A rule says what each example earns; intervals, sections, missing rates and baselines follow from its rows for every
rule alike, a plugin's included.

What this module does not know: any rule, any suite, any interval.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from rmeval.errors import UsageError, near_miss
from rmeval.stats import Floats
from rmeval.types import JSON, Judgement, Metric


@dataclass(frozen=True, slots=True)
class Credit:
    """What one example earns in one component."""

    key: str
    """The example's id."""
    cluster: str
    """The unit that intervals resample: examples that share a prompt."""
    subset: str
    component: str
    """`accuracy`, `hard`, `agreement`, ..."""
    value: float
    """In the range of the component, [0, 1] unless `Credits.ranges` says otherwise; NaN where it is missing."""
    reason: str | None = None
    """Why the value is NaN."""


class Formula(Protocol):
    """Makes the primary value of component means; degree-1 homogeneous, so that slopes decompose the value."""

    @property
    def components(self) -> tuple[str, ...]:
        """The components it reads."""
        ...

    def value(self, means: Mapping[str, Floats]) -> Floats:
        """The value of component means, elementwise over arrays of replicates."""
        ...

    def slopes(self, means: Mapping[str, float]) -> dict[str, float]:
        """Its partial derivatives at the means; sum(slope * mean) is the value."""
        ...


@dataclass(frozen=True, slots=True)
class Linear:
    """A weighted sum of component means.

    >>> Linear({"ref": 0.25, "tied": 0.75}).slopes({"ref": 1.0, "tied": 0.0})
    {'ref': 0.25, 'tied': 0.75}
    """

    weights: Mapping[str, float]

    @property
    def components(self) -> tuple[str, ...]:
        """The components it reads."""
        return tuple(self.weights)

    def value(self, means: Mapping[str, Floats]) -> Floats:
        """sum(weight * mean)."""
        return np.asarray(sum(weight * means[name] for name, weight in self.weights.items()), dtype=np.float64)

    def slopes(self, means: Mapping[str, float]) -> dict[str, float]:
        """The weights, wherever it stands."""
        del means
        return dict(self.weights)


@dataclass(frozen=True, slots=True)
class HarmonicMean:
    """2ab / (a + b), 0 where both are 0 (F1 of two accuracies).

    >>> HarmonicMean("a", "b").slopes({"a": 1.0, "b": 1.0})
    {'a': 0.5, 'b': 0.5}
    """

    a: str
    b: str

    @property
    def components(self) -> tuple[str, ...]:
        """The components it reads."""
        return (self.a, self.b)

    def value(self, means: Mapping[str, Floats]) -> Floats:
        """The harmonic mean, elementwise."""
        a, b = np.asarray(means[self.a], dtype=np.float64), np.asarray(means[self.b], dtype=np.float64)
        total = a + b
        return np.where(total > 0, 2 * a * b / np.where(total > 0, total, 1.0), 0.0)

    def slopes(self, means: Mapping[str, float]) -> dict[str, float]:
        """Derivatives; both 0 at the corner where both means are 0."""
        a, b = means[self.a], means[self.b]
        scale = 2 / (a + b) ** 2 if a + b > 0 else 0.0
        return {self.a: scale * b * b, self.b: scale * a * a}


@dataclass(frozen=True, slots=True)
class Credits:
    """All that a rule says about some judgements."""

    rows: Sequence[Credit]
    """A tuple, or a `rmeval.metrics.columns.Column`."""
    formula: Formula
    note: str
    """The rule in force, as a sentence: ties, parse rule, conversions."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Components whose credits do not lie in [0, 1]."""
    ties: Collection[str] | None = None
    """Ids of the examples whose credit an exact tie decided; None where the rule knows no ties."""
    variants: tuple[tuple[str, JSON], ...] = ()
    """Other definitions in use, each as (option, value) over the options given."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers that are no mean of credits (rank correlations, areas under curves), complete with their intervals.

    They stand beside a headline and never are one: sections and paired tests need credits.
    """

    metrics: tuple[Metric, ...]


Rule: TypeAlias = Callable[[Sequence[Judgement], Mapping[str, JSON]], Credits | Figures]
"""What the metrics registry holds. Unknown or ill-typed options raise `UsageError`."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a rule: its default and what it may be."""

    default: JSON
    choices: tuple[str, ...] = ()
    """Allowed words; empty where `accepts` decides."""
    accepts: Callable[[JSON], bool] = lambda _: True
    means: str = ""
    """What is expected, in words, for the error message."""


def is_number_or_null(value: JSON) -> bool:
    """For `Option.accepts`."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def read_options(rule: str, given: Mapping[str, JSON], known: Mapping[str, Option]) -> dict[str, Any]:
    """The options of a rule with defaults filled in.

    Raises `UsageError` that names the rule, the option and the near miss.

    >>> read_options("accuracy", {}, {"ties": Option("lose", ("lose", "half"))})
    {'ties': 'lose'}
    """
    for name, value in given.items():
        if name not in known:
            hint = near_miss(name, known) or f"It takes: {', '.join(known) or 'no options'}."
            raise UsageError(f"metric {rule!r} has no option {name!r}. {hint}")
        option = known[name]
        if option.choices and value not in option.choices:
            hint = near_miss(str(value), option.choices)
            raise UsageError(
                f"metric {rule!r}, option {name!r}: {value!r} is none of {', '.join(option.choices)}. {hint}".rstrip()
            )
        if not option.accepts(value):
            raise UsageError(f"metric {rule!r}, option {name!r}: {value!r} is not {option.means}")
    return {name: given.get(name, option.default) for name, option in known.items()}
