"""How much a scorer's preference follows length and markup rather than the label.

Every pair is read as (right candidate, wrong candidate). With z the difference of a feature, right minus wrong,

    P(the scorer prefers the right one) = sigma(alpha + phi * z)

alpha is the pull of the label and phi that of the feature at equal label. The same pair read as (wrong, right) has
label -1 instead of +1, feature -z and the other outcome, hence the same likelihood: the order has no influence, and no
further intercept could have one. For the same reason z is divided by its root mean square, which is the standard
deviation over both readings, and never centred. sigma(alpha) is the accuracy between candidates of equal length.

Features: the logarithm of the length in characters (an empty response counts as one), and of 1 + each count of markup.

What this module does not know: names of metrics, files, how scores were made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmeval import stats
from rmeval.likelihood import NotIdentifiable, logistic, sigmoid
from rmeval.metrics.contrasts import Contrasts
from rmeval.metrics.convert import scores_of
from rmeval.metrics.table import Table
from rmeval.stats import Clusters, Floats, Ints
from rmeval.types import Judgement

SIMILAR = math.log(1.1)
"""Lengths within a tenth of each other are similar."""
MARKUP = ("headings", "list_items", "bold")
"""The counts that `Judgement.markup` holds, in its order."""


# --- regression ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pull:
    """A coefficient with its 95 % interval, clustered by prompt."""

    value: float
    ci: tuple[float, float]


@dataclass(frozen=True, slots=True)
class StyleFit:
    """What the scorer's preferences follow."""

    accuracy: Pull
    """sigma(alpha): accuracy between candidates that are equal in every feature."""
    features: Mapping[str, Pull]
    """Log-odds per standard deviation of the feature's difference, at equal label and other features. 0 is neutral."""
    sd: Mapping[str, float]
    """That standard deviation, in the units of the feature."""
    constant: tuple[str, ...]
    """Features that no pair differs in; nothing can be said of them."""
    clusters: int


def fit_preferences(
    wins: Floats, differences: Mapping[str, Floats], clusters: Sequence[Hashable] | Ints, weights: Floats | None = None
) -> StyleFit:
    """The logistic regression of preference on label and features.

    wins: [P], 1 where the scorer prefers the right candidate, 0 where the wrong one, 0.5 for a tie. differences: per
    feature [P], right minus wrong. clusters: [P] prompts. Raises `NotIdentifiable` below ten prompts, where no feature
    differs, and where features and label separate the outcomes or follow from each other.

    >>> longer = np.repeat([1.0, -1.0], 40)  # right 30 of 40 times when longer, 15 of 40 when shorter
    >>> right = np.repeat([1.0, 0.0, 1.0, 0.0], [30, 10, 15, 25])
    >>> found = fit_preferences(right, {"length": longer}, range(80))
    >>> round(found.features["length"].value, 6), round(found.accuracy.value, 6)
    (0.804719, 0.572949)
    """
    _, prompts = stats.cluster_codes(clusters)
    if prompts < stats.FEW_CLUSTERS:
        raise NotIdentifiable(f"only {prompts} different prompts")
    w = np.ones(wins.size) if weights is None else weights
    sd = {name: math.sqrt(float(np.average(np.square(z), weights=w))) for name, z in differences.items()}
    varied = [name for name in differences if sd[name] > 0]
    if not varied:
        raise NotIdentifiable(f"no pair differs in {' or '.join(differences)}")
    table = np.column_stack([np.ones(wins.size), *(differences[name] / sd[name] for name in varied)])
    fit = logistic(table, wins, clusters, w)
    low, high = fit.interval(0)
    ends = sigmoid(np.array([fit.coefficients[0], low, high])).tolist()
    return StyleFit(
        accuracy=Pull(ends[0], (ends[1], ends[2])),
        features={name: Pull(float(fit.coefficients[i]), fit.interval(i)) for i, name in enumerate(varied, 1)},
        sd={name: sd[name] for name in varied},
        constant=tuple(name for name in differences if name not in varied),
        clusters=prompts,
    )


# --- strata ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stratum:
    """Accuracy on some of the pairs; each example that has any counts once."""

    value: float
    ci: tuple[float, float] | None
    n: int
    """Examples."""


@dataclass(frozen=True, slots=True)
class Strata:
    """Accuracy by which of the two is longer; None where there are no such pairs."""

    longer: Stratum | None
    """The right candidate is longer by more than a tenth."""
    similar: Stratum | None
    shorter: Stratum | None
    controlled: Stratum | None
    """The plain mean of `longer` and `shorter`: what a preference for length adds to one it takes from the other."""


def strata(wins: Floats, log_ratio: Floats, example: Ints, clusters: Sequence[Hashable] | Ints) -> Strata:
    """Accuracy by length. wins, log_ratio: [P]; example: [P] index of the example; clusters: [n] prompt of each."""
    parts = {
        "longer": log_ratio > SIMILAR,
        "similar": np.abs(log_ratio) <= SIMILAR,
        "shorter": log_ratio < -SIMILAR,
    }
    means = {name: _means(wins[chosen], example[chosen]) for name, chosen in parts.items()}
    numbers, _ = stats.cluster_codes(clusters)
    found = {name: _stratum(values, numbers[who]) for name, (who, values) in means.items()}
    longer, shorter = found["longer"], found["shorter"]
    controlled = None
    if longer and shorter:
        value = (longer.value + shorter.value) / 2
        who = np.unique(np.concatenate([means["longer"][0], means["shorter"][0]]))
        ci = _mean_of_two(value, means["longer"], means["shorter"], clusters)
        controlled = Stratum(value, ci, who.size)
    return Strata(longer, found["similar"], shorter, controlled)


def _means(wins: Floats, example: Ints) -> tuple[Ints, Floats]:
    """The examples that have any of these pairs, and the mean over them."""
    who, inverse, n = np.unique(example, return_inverse=True, return_counts=True)
    return who, np.bincount(inverse, weights=wins, minlength=who.size) / n


def _stratum(values: Floats, clusters: Ints) -> Stratum | None:
    if not values.size:
        return None
    found = stats.mean_interval(np.minimum(values, 1.0), Clusters.of(clusters))
    return Stratum(float(values.mean()), (found.low, found.high) if found else None, values.size)


def _mean_of_two(
    value: float, one: tuple[Ints, Floats], other: tuple[Ints, Floats], clusters: Sequence[Hashable] | Ints
) -> tuple[float, float] | None:
    """The clustered t interval of the mean of two means; prompts with examples in both keep their covariance.

    None where one of them has fewer than ten prompts or does not vary: its spread is not known then.
    """
    codes, c = stats.cluster_codes(clusters)
    sums = np.zeros(c)
    for who, values in (one, other):
        if np.ptp(values) == 0 or np.unique(codes[who]).size < stats.FEW_CLUSTERS:
            return None
        np.add.at(sums, codes[who], (values - values.mean()) / (2 * values.size))
    touched = np.unique(codes[np.concatenate([one[0], other[0]])]).size
    se = math.sqrt(touched / (touched - 1) * float(np.square(sums).sum()))
    half = stats.t_quantile(0.5 + stats.LEVEL / 2, touched - 1) * se
    return max(0.0, value - half), min(1.0, value + half)


# --- from judgements -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preferences:
    """What a scorer preferred, pair by pair, beside what the pairs differ in."""

    pairs: Contrasts
    margins: Floats
    """[P] score of the right candidate minus that of the wrong one."""
    n_missing: int
    """Examples with right and wrong candidates, at least one of them without a score."""
    n_without_text: int
    """Examples with scores whose texts were not at hand."""
    conversions: tuple[str, ...]
    """How verdicts, ratings or steps became scores."""

    @cached_property
    def wins(self) -> Floats:
        """[P] 1, 0, or 0.5 for a tie."""
        return np.asarray((np.sign(self.margins) + 1) / 2, dtype=np.float64)

    @cached_property
    def log_ratio(self) -> Floats:
        """[P] logarithm of the right candidate's length over the wrong one's."""
        return self.pairs.between(self._lengths, lambda lengths: np.log(np.maximum(lengths, 1.0)))

    @cached_property
    def prompts(self) -> Ints:
        """[n] the prompt of each example, as a number."""
        if isinstance(self.pairs.judgements, Table):
            return self.pairs.judgements.clusters.codes
        return stats.cluster_codes([j.cluster for j in self.pairs.judgements])[0]

    @property
    def _lengths(self) -> Callable[[Judgement], Sequence[float]] | Ints:
        rows = self.pairs.judgements
        return rows.lengths if isinstance(rows, Table) and rows.lengths is not None else lambda j: j.lengths

    def strata(self) -> Strata:
        """Accuracy by which of the two is longer."""
        return strata(self.wins, self.log_ratio, self.pairs.example, self.prompts)

    def length_fit(self) -> StyleFit:
        """The regression on length alone. Raises `NotIdentifiable`."""
        return self._fit({"length": self.log_ratio})

    def style_fit(self) -> StyleFit:
        """The regression on length and markup together; needs the markup of every example. Raises `NotIdentifiable`."""
        if not self.has_markup:
            raise NotIdentifiable("the markup of some texts was not recorded")

        def count(feature: int) -> Floats:
            if isinstance(rows := self.pairs.judgements, Table) and rows.markup is not None:
                return self.pairs.between(rows.markup[:, feature], np.log1p)
            return self.pairs.between(lambda j: [counts[feature] for counts in j.markup], np.log1p)

        markup = {name: count(feature) for feature, name in enumerate(MARKUP)}
        return self._fit({"length": self.log_ratio, **markup})

    @property
    def has_markup(self) -> bool:
        """Whether every example says how its candidates are marked up."""
        if isinstance(self.pairs.judgements, Table):
            return self.pairs.judgements.markup is not None
        return all(len(j.markup) == len(j.grades) for j in self.pairs.judgements)

    def _fit(self, differences: Mapping[str, Floats]) -> StyleFit:
        return fit_preferences(self.wins, differences, self.prompts[self.pairs.example], self.pairs.weights)


def preferences(judgements: Sequence[Judgement]) -> Preferences:
    """The pairs of judgements that have scores and texts, and how many have not."""
    if isinstance(judgements, Table):
        return _preferences_of(judgements)
    graded = [j for j in judgements if len(set(j.grades)) > 1]
    kept, values, conversions = [], {}, dict[str, None]()
    n_missing = n_without_text = 0
    for j in graded:
        scored = scores_of(j)
        if scored.reason:
            n_missing += 1
        elif len(j.lengths) != len(j.grades):
            n_without_text += 1
        else:
            kept.append(j)
            values[j.id] = scored.values
            if scored.how:
                conversions[scored.how] = None
    pairs = Contrasts(tuple(kept))
    margins = pairs.between(lambda j: values[j.id])
    return Preferences(pairs, margins, n_missing, n_without_text, tuple(conversions))


def _preferences_of(table: Table) -> Preferences:
    scored = table.take(np.flatnonzero(table.contrast & table.whole))
    kept = scored if scored.lengths is not None else scored.take(np.zeros(0, dtype=np.intp))
    pairs = Contrasts(kept)
    return Preferences(
        pairs, pairs.between(kept.scores), int(table.contrast.sum()) - len(scored), len(scored) - len(kept), ()
    )
