"""Best-of-k against verified answers, as the PPE suites define it (arXiv:2410.14872).

Every prompt has K candidates, right (1) or wrong (0). Three numbers come from seeded orders of the K candidates that
all prompts share; after each candidate shown the best-scored one so far is picked, the first one where scores tie:

    selected(n)   share of prompts whose pick among the first n is right         oracle(n)   ... that have a right one
    end score     selected(K)                                                    max score   max over n of selected(n)
    loss          mean over n of (oracle(n) - selected(n))^2                     each averaged over the orders

The same three exist over all K! orders without sampling: there ties share the pick. The area under the ROC curve pools
all candidates after scaling each prompt's scores to [0, 1]. Conflict accuracy compares listed pairs of candidates.

Source: goya4140/jev-reward-model-evaluation@ea6b9cd jev_eval/report.py, a third party that follows the official scorer;
the official code was not at hand, so the number of orders (100) is theirs and the seed is ours.

What this module does not know: files, cards, the headline of a suite.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from rmeval import stats
from rmeval.errors import UsageError
from rmeval.metrics.convert import CHOICES, MEAN, OWN, missing_reason, scores_of
from rmeval.metrics.credit import Credit, Credits, Figures, Linear, Option, read_options
from rmeval.metrics.debias import decide, mean_credit
from rmeval.metrics.tally import VERDICTS
from rmeval.metrics.verdicts import ANSWERED, contests, winners
from rmeval.stats import Floats, Ints
from rmeval.types import JSON, NAN, Judgement, Metric

_CONVERT = {
    "aggregate": Option(OWN, CHOICES),
    "unparsed": Option("missing", ("missing", "wrong")),
}
_PAIR_TIES = {
    "second": "a tie names the second of the pair, as 1[(t_i > t_j) == (r_i > r_j)] does",
    "half": "a tie counts half",
    "lose": "a tie counts as wrong",
}
_BLOCK = 8_000_000
"""Numbers held at once while resampling (64 MB)."""
_FLAT = 1e-12
"""A spread of replicates this small is rounding."""


# --- conflict pairs --------------------------------------------------------------------------------------------------


def conflict_pairs(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Credits:
    """Share of an example's listed comparisons in which the better graded candidate is preferred; repeats count.

    Options: `ties` second | half | lose; `aggregate` of step scores; `unparsed` missing | wrong, for verdicts;
    `verdicts` as in `accuracy`. Only the candidates compared need a score. Verdicts count on the pair that they show:
    by `mean`, the mean over the votes of each order shown, then over orders. Raises `UsageError` for a comparison of
    equal grades.
    """
    known = {"ties": Option("second", tuple(_PAIR_TIES)), "verdicts": VERDICTS, **_CONVERT}
    chosen = read_options("conflict_pairs", options, known)
    rows, tied, how, without = [], set(), dict[str, None](), 0
    for j in judgements:
        if not j.comparisons:
            without += 1
            continue
        if j.verdicts and not j.scores:
            value, reason, tie = _verdict_pairs(j, chosen["ties"], chosen["unparsed"], chosen["verdicts"])
        else:
            value, reason, tie = _score_pairs(j, chosen["ties"], chosen["aggregate"], how)
        rows.append(Credit(j.id, j.cluster, j.subset, "accuracy", value, reason))
        if tie and not reason:
            tied.add(j.id)
    note = ["mean over prompts of the share of conflict pairs that are ordered rightly", _PAIR_TIES[chosen["ties"]]]
    lacking = [f"{without} examples list no comparisons and carry no credit"] if without else []
    return Credits(
        tuple(rows),
        Linear({"accuracy": 1.0}),
        "; ".join([*note, *how, *lacking]),
        ties=frozenset(tied),
        variants=tuple(("ties", other) for other in _PAIR_TIES if other != chosen["ties"]),
    )


def _score_pairs(j: Judgement, ties: str, aggregate: str, how: dict[str, None]) -> tuple[float, str | None, bool]:
    scored = scores_of(j, aggregate)
    if scored.how:
        how[scored.how] = None
    s, earned, tie = scored.values, [], False
    for a, b in j.comparisons:
        right = _better(j, a, b)
        for candidate in (a, b):
            if math.isnan(s[candidate]):
                return NAN, missing_reason(j, candidate, j.scores[candidate] if j.scores else NAN), False
        if s[a] == s[b]:
            tie = True
            earned.append(_tie_credit(right == b, ties))
        else:
            earned.append(float((a if s[a] > s[b] else b) == right))
    return fmean(earned), None, tie


def _verdict_pairs(j: Judgement, ties: str, unparsed: str, verdicts: str) -> tuple[float, str | None, bool]:
    shown = {frozenset(rows[0].order): rows for rows in contests(j)}
    earned, tie = [], False
    for a, b in j.comparisons:
        right = _better(j, a, b)
        rows = shown.get(frozenset((a, b)))
        if rows is None:
            return NAN, "not_recorded", False

        def credit(favoured: frozenset[int], right: int = right, second: bool = right == b) -> float:
            return _tie_credit(second, ties) if len(favoured) > 1 else float(right in favoured)

        unread = 0.0 if unparsed == "wrong" else None
        if verdicts == MEAN:
            value, level = mean_credit(rows, credit, unread, j.id), any(len(winners(r, j.id) or ()) > 1 for r in rows)
            reason = missing_reason(j, a) if math.isnan(value) else None
        else:
            favoured, reason = decide(verdicts, rows, j.id)
            level = len(favoured or ()) > 1
            value = credit(favoured) if favoured is not None else NAN
            if reason in ANSWERED and unread is not None:
                value, reason = unread, None
        if reason:
            return NAN, reason, False
        tie = tie or level
        earned.append(value)
    return fmean(earned), None, tie


def _better(j: Judgement, a: int, b: int) -> int:
    k = len(j.grades)
    if not (0 <= a < k and 0 <= b < k) or j.grades[a] == j.grades[b]:
        raise UsageError(
            f"example {j.id!r}: comparison [{a}, {b}] is no pair of a better and a worse graded one "
            f"of its {k} candidates"
        )
    return a if j.grades[a] > j.grades[b] else b


def _tie_credit(second_is_right: bool, ties: str) -> float:
    return {"second": float(second_is_right), "half": 0.5, "lose": 0.0}[ties]


# --- curves over candidates shown ------------------------------------------------------------------------------------


def orders(k: int, count: int, seed: int) -> Ints:
    """`count` random orders of k candidates: [count, k]; the same for the same seed."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(k) for _ in range(count)])


def sampled_curves(scores: Floats, grades: Floats, shown: Ints) -> tuple[Floats, Floats]:
    """Grade of the pick, and the best grade, after each candidate of each order: two arrays [P, S, K].

    scores, grades: [P, K], finite. shown: [S, K], orders that all prompts share. The first of equal scores is picked.

    >>> scores, grades = np.array([[1.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 1.0]])
    >>> selected, oracle = sampled_curves(scores, grades, np.array([[0, 1, 2]]))
    >>> selected.tolist(), oracle.tolist()
    ([[[1.0, 0.0, 0.0]]], [[[1.0, 1.0, 1.0]]])
    """
    k = scores.shape[1]
    # level of each score within its prompt, equal scores alike; then one whole number that also prefers the earlier
    level = (scores[:, :, None] > scores[:, None, :]).sum(axis=2)
    place = np.arange(k)
    best = np.maximum.accumulate(level[:, shown] * k + (k - 1 - place), axis=2)
    in_order = grades[:, shown]
    selected = np.take_along_axis(in_order, k - 1 - best % k, axis=2)
    return selected, np.maximum.accumulate(in_order, axis=2)


def expected_curve(scores: Floats, grades: Floats) -> Floats:
    """Expected grade of the best-scored of n = 1..K candidates drawn without replacement: [P, K], exact, ties shared.

    scores, grades: [P, K]. Each column is `rmeval.stats.expected_best_of_n`; with grades as scores it is the oracle's.

    >>> expected_curve(np.array([[0.1, 0.9, 0.4, 0.7]]), np.array([[0.0, 1.0, 1.0, 0.0]])).round(6).tolist()
    [[0.5, 0.666667, 0.75, 1.0]]
    """
    k = scores.shape[1]
    alike = scores[:, :, None] == scores[:, None, :]
    shared = (alike * grades[:, None, :]).sum(axis=2) / alike.sum(axis=2)
    ascending = np.take_along_axis(shared, np.argsort(scores, axis=1, kind="stable"), axis=1)
    share = np.array([[math.comb(i, n - 1) / math.comb(k, n) for i in range(k)] for n in range(1, k + 1)])
    curve: Floats = np.einsum("pi,ni->pn", ascending, share)
    return curve


# --- pooled ROC ------------------------------------------------------------------------------------------------------


def min_max(scores: Floats) -> Floats:
    """Each row scaled to [0, 1], to nine decimals; a row without spread becomes 0.5. [P, K] -> [P, K].

    Unrounded, a third of one prompt's range would tie with a third of another's or not by the last bit of a division.
    """
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    spread = high - low
    return np.where(spread > 0, np.round((scores - low) / np.where(spread > 0, spread, 1.0), 9), 0.5)


def clustered_auc(scores: Floats, right: Floats, clusters: Sequence[Hashable]) -> tuple[float, float]:
    """Area under the ROC curve of all scores, equal scores half, and its standard error over clusters.

    scores, right (1 or 0): [n]. (NaN, NaN) without a right or without a wrong one; the error is NaN for one cluster.
    Source of the error: Obuchowski, Biometrics 53 (1997): placements of each side, summed within clusters.

    >>> clustered_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]), "aabb")[0]
    0.75
    """
    positive = right > 0
    up, down = np.sort(scores[positive]), np.sort(scores[~positive])
    if not up.size or not down.size:
        return NAN, NAN
    placed = np.empty(scores.size)
    placed[positive] = _share_below(down, scores[positive])
    placed[~positive] = 1 - _share_below(up, scores[~positive])
    auc = float(placed[positive].mean())
    codes, c = stats.cluster_codes(clusters)
    if c < 2:
        return auc, NAN
    parts = (placed - auc) / np.where(positive, up.size, down.size)
    sums = np.bincount(codes, weights=parts, minlength=c)
    return auc, float(np.sqrt(c / (c - 1) * np.square(sums).sum()))


def _share_below(ordered: Floats, x: Floats) -> Floats:
    below = np.searchsorted(ordered, x, side="left") + np.searchsorted(ordered, x, side="right")
    return below / (2 * ordered.size)


# --- the rule --------------------------------------------------------------------------------------------------------

_MEANS = {
    "end_score": "share of prompts whose pick among all candidates is right",
    "max_score": "highest point of the best-of-n curve, averaged over the orders",
    "loss": "mean over n of the squared distance from the oracle's curve, averaged over the orders",
    "expected_end_score": "share of prompts whose pick among all candidates is right",
    "expected_max_score": "highest point of the expected best-of-n curve",
    "expected_loss": "mean over n of the squared distance of the expected curve from the oracle's",
    "oracle_score": "share of prompts that have a right candidate",
    "auc": "area under the pooled ROC curve, scores scaled to [0, 1] within each prompt",
}


@dataclass(frozen=True, slots=True)
class _Figure:
    value: float
    ci: tuple[float, float] | None
    how: str
    replicates: Floats | None = None
    se: float = NAN


def best_of_k_curves(judgements: Sequence[Judgement], options: Mapping[str, JSON]) -> Figures:
    """End score, max score, loss and pooled AUC per subset, and their unweighted means over the subsets.

    `end_score`, `max_score` and `loss` come from `permutations` orders (default 100) seeded by `seed`; `expected_*` are
    exact over all orders. Further options: `aggregate`, `unparsed`. An example with a missing score is missing. Raises
    `UsageError` where grades are not 0 or 1 or the prompts of a subset differ in their number of candidates.
    """
    chosen = read_options(
        "best_of_k_curves",
        options,
        {
            "permutations": Option(100, (), lambda v: _whole(v, 1), "a whole number of at least 1"),
            "seed": Option(0, (), lambda v: _whole(v, 0), "a whole number"),
            **_CONVERT,
        },
    )
    per_subset = {
        subset: _subset_figures([j for j in judgements if j.subset == subset], chosen, index)
        for index, subset in enumerate(sorted({j.subset for j in judgements}))
    }
    rule = f"{chosen['permutations']} shared orders from seed {chosen['seed']}, the first of equal scores is picked"
    exact = "exact over all orders, equal scores share the pick"
    metrics = []
    for name, means in _MEANS.items():
        sampled = name in {"end_score", "max_score", "loss"}
        way = rule if sampled else exact if name.startswith("expected") else ""
        found = {subset: (figures.get(name), n, lost) for subset, (figures, n, lost) in per_subset.items()}
        note = f"{means}; {way}" if way else means
        loss = name.endswith("loss")
        draft = Metric(name, None, higher_is_better=not loss, note=note, unit="number" if loss else "fraction")
        metrics.append(_overall(draft, found))
        metrics += [_metric(draft, subset, *one) for subset, one in found.items()]
    return Figures(tuple(metrics))


def _whole(value: JSON, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _subset_figures(
    judgements: Sequence[Judgement], chosen: Mapping[str, JSON], index: int
) -> tuple[dict[str, _Figure], int, int]:
    """The figures of one subset by name, and how many examples entered and are missing."""
    kept, values = [], []
    for j in judgements:
        if not set(j.grades) <= {0.0, 1.0}:
            raise UsageError(f"example {j.id!r}: best_of_k_curves needs grades of 1 (right) and 0 (wrong)")
        if len(j.grades) != len(judgements[0].grades):
            raise UsageError(
                f"example {j.id!r} has {len(j.grades)} candidates and {judgements[0].id!r} has "
                f"{len(judgements[0].grades)}: best_of_k_curves needs the same number throughout a subset"
            )
        scored = scores_of(j, str(chosen["aggregate"]), str(chosen["unparsed"]))
        if not scored.reason:
            kept.append(j)
            values.append(scored.values)
    if not kept:
        return {}, 0, len(judgements)
    # one order of the prompts, so that sums cannot depend on the order of the rows
    order = sorted(range(len(kept)), key=lambda i: kept[i].id)
    scores = np.array([values[i] for i in order], dtype=np.float64)
    grades = np.array([kept[i].grades for i in order], dtype=np.float64)
    clusters = [kept[i].cluster for i in order]
    seed, count = chosen["seed"], chosen["permutations"]
    assert isinstance(seed, int)
    assert isinstance(count, int)
    figures = _curve_figures(scores, grades, clusters, orders(scores.shape[1], count, seed), (seed, index))
    auc, se = clustered_auc(
        min_max(scores).ravel(), grades.ravel(), [c for c in clusters for _ in range(scores.shape[1])]
    )
    figures["auc"] = _Figure(auc, _around(auc, se, len(set(clusters)) - 1), "clustered placements, t", se=se)
    return figures, len(kept), len(judgements) - len(kept)


def _curve_figures(
    scores: Floats, grades: Floats, clusters: Sequence[str], shown: Ints, seed: tuple[int, int]
) -> dict[str, _Figure]:
    selected, oracle = sampled_curves(scores, grades, shown)
    exact, exact_oracle = expected_curve(scores, grades), expected_curve(grades, grades)
    # [P, 2, S + 1, K]: the curves of every order, the exact ones last
    both = np.stack(
        [
            np.concatenate([selected, exact[:, None]], axis=1),
            np.concatenate([oracle, exact_oracle[:, None]], axis=1),
        ],
        axis=1,
    )
    value = {name: float(x) for name, x in _summary(both.mean(axis=0)).items()}
    value["oracle_score"] = float(grades.max(axis=1).mean())
    drawn = _resampled(both, clusters, seed)
    figures = {}
    for name, x in value.items():
        if drawn is None or np.ptp(drawn[name]) < _FLAT:
            figures[name] = _Figure(x, None, "")
            continue
        figures[name] = _Figure(x, stats.percentile_interval(drawn[name], x), "cluster bootstrap", drawn[name])
    for name, per_prompt in {"expected_end_score": exact[:, -1], "oracle_score": grades.max(axis=1)}.items():
        found = stats.mean_interval(per_prompt.clip(0, 1), clusters)
        if found:
            figures[name] = _Figure(value[name], (found.low, found.high), found.method, figures[name].replicates)
    return figures


def _summary(curves: Floats) -> dict[str, Floats]:
    """The numbers of mean curves [..., 2, S + 1, K], elementwise over the leading axes."""
    selected, oracle = curves[..., 0, :, :], curves[..., 1, :, :]
    top, gap = selected.max(axis=-1), np.square(oracle - selected).mean(axis=-1)
    return {
        "end_score": selected[..., :-1, -1].mean(axis=-1),
        "max_score": top[..., :-1].mean(axis=-1),
        "loss": gap[..., :-1].mean(axis=-1),
        "expected_end_score": selected[..., -1, -1],
        "expected_max_score": top[..., -1],
        "expected_loss": gap[..., -1],
        "oracle_score": oracle[..., -1, -1],
    }


def _resampled(both: Floats, clusters: Sequence[str], seed: tuple[int, int]) -> dict[str, Floats] | None:
    """The summary in resamples of whole clusters, each [replicates]; None for too few clusters."""
    codes, c = stats.cluster_codes(clusters)
    if c < stats.FEW_CLUSTERS:
        return None
    sums = np.zeros((c, both[0].size))
    np.add.at(sums, codes, both.reshape(len(both), -1))
    sizes = np.bincount(codes, minlength=c).astype(np.float64)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // both[0].size)
    parts = []
    for start in range(0, stats.REPLICATES, block):
        rows = min(block, stats.REPLICATES - start)
        drawn = rng.integers(0, c, size=(rows, c)) + c * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * c).reshape(rows, c).astype(np.float64)
        # sums of zeros and ones are whole numbers: exact in whatever order they are added
        means = (times @ sums) / (times @ sizes)[:, None]
        parts.append(_summary(means.reshape(rows, *both.shape[1:])))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _around(value: float, se: float, df: int) -> tuple[float, float] | None:
    if math.isnan(se) or se == 0 or df < stats.FEW_CLUSTERS - 1:
        return None
    half = stats.t_quantile(0.5 + stats.LEVEL / 2, df) * se
    return max(0.0, value - half), min(1.0, value + half)


def _metric(draft: Metric, subset: str | None, figure: _Figure | None, n: int, missing: int) -> Metric:
    value, ci, note = None, None, f"undefined: no scored examples; {draft.note}"
    if figure is not None and math.isnan(figure.value):
        note = f"undefined: all candidates are right or all are wrong; {draft.note}"
    elif figure is not None:
        value, ci = figure.value, figure.ci
        note = f"{draft.note}; " + (f"interval: {figure.how}" if ci else "interval not estimable")
    return replace(draft, value=value, subset=subset, ci=ci, n=n, n_missing=missing, note=note)


def _overall(draft: Metric, found: Mapping[str, tuple[_Figure | None, int, int]]) -> Metric:
    """The unweighted mean over the subsets; undefined where one of them is."""
    n, missing = sum(one[1] for one in found.values()), sum(one[2] for one in found.values())
    figures = [figure for figure, _, _ in found.values() if figure is not None and not math.isnan(figure.value)]
    lacking = [s for s, (figure, _, _) in found.items() if figure is None or math.isnan(figure.value)]
    if lacking or not found:
        why = f"undefined for {', '.join(lacking)}" if lacking else "no examples"
        return replace(draft, n=n, n_missing=missing, note=f"undefined: {why}; {draft.note}")
    if len(figures) == 1:
        return _metric(draft, None, figures[0], n, missing)
    value = fmean(figure.value for figure in figures)
    ci, how = None, ""
    drawn = [figure.replicates for figure in figures if figure.replicates is not None]
    if draft.name == "auc":
        se = math.sqrt(sum(figure.se**2 for figure in figures)) / len(figures)
        ci, how = _around(value, se, n - len(figures)), "clustered placements, t"
    elif len(drawn) == len(figures):
        ci, how = stats.percentile_interval(np.mean(drawn, axis=0), value), "cluster bootstrap within subsets"
    whole = _Figure(value, ci, how)
    mean = replace(draft, note=f"unweighted mean of {', '.join(found)}; {draft.note}")
    return _metric(mean, None, whole, n, missing)
