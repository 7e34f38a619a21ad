"""What is to be known of a judge beside its headline, as ready metrics: slots, failures, votes, every aggregation.

Names (a contract; all of the whole suite; pairs are counted one by one, however many an example has):

    of every judge
    judge:failed                        answers that refuse or hold no verdict; above 5 % a judge is not ranked
    judge:parse_failure judge:refusal judge:truncation judge:low_verdict_mass judge:api_failure      of all calls
    judge:failed_when_right_first judge:failed_when_wrong_first
    judge:marked                        calls that show what could be taken for a verdict, where there are any
    judge:unanimous judge:vote_share judge:vote_accuracy judge:majority       where there are several votes

    of verdicts on several candidates
    judge:slot_a                        verdicts for the slot shown first
    judge:average                       LLMBar: mean over the orders, an unread verdict is wrong
    judge:expected                      RewardBench: what one order drawn at random gives, an unread verdict is chance
    where both orders were shown
    judge:consistency judge:first_slot judge:second_slot judge:net_bias judge:net_bias_p judge:order_kappa
    judge:order_1 judge:order_2         data order, and reversed; an unread verdict is wrong
    judge:both_correct judge:sum_sign   J1; JudgeBench
    judge:win_rate judge:adjusted_win_rate                  MT-Bench: of pairs read in both orders
    judge:consistent_only judge:coverage                    accuracy where consistent, and how often that is
    with probabilities
    judge:win_probability               AlpacaEval 2's weighted win rate, mean over the orders
    judge:unbiased_win_probability judge:beta judge:swap_mean_logit judge:swap_mean_prob judge:slot_prior   both orders
    with strong and slight verdicts
    judge:arena_hard judge:wildbench_reward judge:wildbench_reward[K=500]
    with lengths
    judge:length_controlled             AlpacaEval 2's win rate at equal length, in its smallest form
    where it is known who wrote the candidates
    judge:favours:<model>               how much more often a model is wrongly preferred than wrongly passed over

    of ratings                          judge:rating_ties judge:vote_sum
    of critics                          judge:flagged

What this module does not know: files, plans, the name of the judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import numpy as np

from rmeval import stats
from rmeval.likelihood import NotIdentifiable, sigmoid
from rmeval.metrics.convert import scores_of
from rmeval.metrics.debias import (
    SAYS,
    Swap,
    arena_hard_rows,
    decide,
    mean_credit,
    mean_share,
    plurality,
    slot_prior,
    wildbench_reward,
)
from rmeval.metrics.figures import mean_figure, undefined
from rmeval.metrics.judge_calls import Reading, failures, readings, stability
from rmeval.metrics.judge_position import Contest, contests_of, position
from rmeval.metrics.length_control import length_controlled
from rmeval.metrics.tally import right_of, top_of
from rmeval.metrics.verdicts import shares, tie_credit
from rmeval.metrics.writers import Missed, favours
from rmeval.types import Judgement, Metric, Verdict

HELD_OUT = 50
"""Prompts that the slot prior is estimated on."""
WILDBENCH_MARGIN = 500
"""Characters of WildBench's length penalty in use."""


def judging(judgements: Sequence[Judgement]) -> list[Metric]:
    """All figures of a judge's verdicts, ratings or critiques; nothing where the scores are no judge's."""
    found = readings(judgements)
    if not found:
        return []
    made = [*failures(found), *stability(found)]
    if contests := contests_of(judgements):
        made += [*position(contests), *_aggregations([c for c in contests if c.right])]
        made += [*_preferences([c for c in contests if c.right and c.is_pair])]
    if rated := [j for j in judgements if j.ratings and not j.scores and len(set(j.grades)) > 1]:
        made += _ratings(rated)
    return made + _critic(judgements, found)


# --- aggregations ----------------------------------------------------------------------------------------------------


def _aggregations(found: Sequence[Contest]) -> list[Metric]:
    """The same verdicts under every rule in use."""
    made = [
        _figure("average", found, _mean(0.0), "mean over the orders, an unread verdict is wrong (LLMBar)"),
        _figure("expected", found, _expected, "what one order drawn at random gives, an unread verdict is chance "
                "(RewardBench)"),
    ]  # fmt: skip
    if any(len(c.outcomes) > 1 for c in found):
        made += _over_orders(found)
    if any(row.vote or len(c.rows) > len(c.outcomes) for c in found for row in c.rows):
        made.append(_figure("vote_accuracy", found, _mean(None), "accuracy of a single vote, mean over the orders"))
        made.append(_figure("majority", found, _decided("majority"), f"{SAYS['majority']}; a tie counts half"))
    if any(shares(row) is not None for c in found for row in c.rows):
        made += _probabilities(found)
    return made


def _over_orders(found: Sequence[Contest]) -> Iterator[Metric]:
    for name, reverse in (("order_1", False), ("order_2", True)):
        words = "reversed" if reverse else "as the data have them"
        parts = [Contest(c.judgement, rows) for c in found if (rows := _of_order(c, reverse))]
        note = f"accuracy with the candidates shown {words}, an unread verdict is wrong"
        yield _figure(name, parts, _mean(0.0), note)
    for name in ("both_correct", "sum_sign"):
        yield _figure(name, found, _decided(name), SAYS[name])
    tied = SAYS["tie_on_inconsistency"]
    dropped = "pairs with an unread verdict are dropped"
    yield _figure("win_rate", found, _decided("tie_on_inconsistency", "lose"), f"{tied} and no win; {dropped}")
    yield _figure("adjusted_win_rate", found, _decided("tie_on_inconsistency"), f"{tied} and count half; {dropped}")
    yield _figure("consistent_only", found, _decided("consistent_only"), SAYS["consistent_only"])

    def covered(c: Contest) -> float:
        return float(decide("consistent_only", c.rows, c.judgement.id).favoured is not None)

    yield _figure("coverage", found, covered, "pairs whose verdict names the same one in every order, of all")


def _of_order(contest: Contest, reverse: bool) -> tuple[Verdict, ...]:
    order = tuple(sorted(contest.shown, reverse=reverse))
    return tuple(row for row in contest.rows if row.order == order)


def _figure(name: str, found: Sequence[Contest], credit: Callable[[Contest], float], note: str) -> Metric:
    return mean_figure(f"judge:{name}", [credit(c) for c in found], [c.cluster for c in found], note)


def _mean(unread: float | None) -> Callable[[Contest], float]:
    return lambda c: mean_credit(c.rows, lambda top: tie_credit(top, c.right, "half"), unread, c.judgement.id)


def _expected(c: Contest) -> float:
    return _mean(len(c.right) / len(c.shown))(c)


def _decided(name: str, ties: str = "half") -> Callable[[Contest], float]:
    def credit(c: Contest) -> float:
        favoured = decide(name, c.rows, c.judgement.id).favoured
        return math.nan if favoured is None else tie_credit(favoured, c.right, ties)

    return credit


# --- probabilities ---------------------------------------------------------------------------------------------------


def _probabilities(found: Sequence[Contest]) -> Iterator[Metric]:
    bounded = sum(row.bounded for c in found for row in c.rows)
    bound = f"; {bounded} verdicts hold a bound for a token that was not listed" if bounded else ""
    if any(len(c.outcomes) > 1 for c in found):
        for name in ("swap_mean_logit", "swap_mean_prob"):
            yield _figure(name, found, _decided(name), f"right by {SAYS[name]}; a tie counts half{bound}")
        words = "sigma of the right candidate's log-odds, the slot bias taken out of each pair by its two orders"
        yield _figure("unbiased_win_probability", [c for c in found if c.is_pair], _unbiased, f"{words}{bound}")
        yield _calibrated([c for c in found if c.is_pair])
    words = "probability of the right candidate, mean over the orders (AlpacaEval 2's weighted win rate)"
    yield _figure("win_probability", found, lambda c: mean_share(c.rows, c.right), f"{words}{bound}")


def _unbiased(c: Contest) -> float:
    if c.swap is None:
        return math.nan
    delta = c.swap.delta if c.shown[0] in c.right else -c.swap.delta
    return float(sigmoid(np.array(delta)))


def _calibrated(pairs: Sequence[Contest]) -> Metric:
    """Accuracy of single orders after the slot prior of held-out prompts is taken off, on the other prompts."""
    name = "judge:slot_prior"
    there: dict[str, list[tuple[Contest, Swap]]] = {}
    for c in pairs:
        if c.swap is not None:
            there.setdefault(c.cluster, []).append((c, c.swap))
    if len(there) < HELD_OUT + stats.FEW_CLUSTERS:
        need = f"a prior is estimated on {HELD_OUT} prompts that are held out, and {len(there)} have probabilities"
        return undefined(name, need, len(pairs))
    prior, held_out = slot_prior({prompt: [one for _, one in both] for prompt, both in there.items()}, HELD_OUT)
    values, clusters = [], []
    for prompt in sorted(there.keys() - held_out):
        for c, one in there[prompt]:
            sign = 1 if c.shown[0] in c.right else -1
            # the log-odds of the first in data order, when it is shown first and when it is shown second
            odds = (one.delta + (one.beta - prior), one.delta - (one.beta - prior))
            values.append(fmean((1 + np.sign(sign * x)) / 2 for x in odds))
            clusters.append(prompt)
    note = (
        f"accuracy in one order less the slot prior {prior:.3g} (log-odds), which comes from {HELD_OUT} prompts that "
        "are left out of this figure"
    )
    return mean_figure(name, values, clusters, note)


# --- strength, length, writers ---------------------------------------------------------------------------------------


def _preferences(pairs: Sequence[Contest]) -> Iterator[Metric]:
    if any(">>" in (row.verdict or "") for c in pairs for row in c.rows):
        yield from _strengths(pairs)
    known = [c for c in pairs if len(c.judgement.lengths) == len(c.judgement.grades)]
    if known:
        yield _length_controlled(known)
    named = [c for c in pairs if len(c.judgement.models) == len(c.judgement.grades)]
    yield from _favours(named)


def _strengths(pairs: Sequence[Contest]) -> Iterator[Metric]:
    earned = [(arena_hard_rows(c.rows, _right(c)), c.cluster) for c in pairs]
    kept = [(rows, cluster) for rows, cluster in earned if rows]
    name, words = "judge:arena_hard", "mean of Arena-Hard's rows, a strong verdict three times"
    if kept:
        codes, prompts = stats.cluster_codes([cluster for _, cluster in kept])
        sums, counts = np.zeros((prompts, 1)), np.zeros((prompts, 1))
        np.add.at(sums[:, 0], codes, [math.fsum(rows) for rows, _ in kept])
        np.add.at(counts[:, 0], codes, [float(len(rows)) for rows, _ in kept])
        value = float(sums.sum() / counts.sum())
        ci = None
        if prompts >= stats.FEW_CLUSTERS:
            ci = stats.percentile_interval(stats.cluster_bootstrap(sums, counts)[:, 0], value)
        note = f"{words}; prompts with an unread game are dropped; resampled by prompt (upstream by row)"
        yield Metric(name, value, None, ci, len(kept), len(earned) - len(kept), note=note)
    else:
        yield undefined(name, f"no pair was read in two games; {words}", len(earned))
    yield _wildbench("judge:wildbench_reward", pairs, None)
    if all(len(c.judgement.lengths) == len(c.judgement.grades) for c in pairs):
        yield _wildbench(f"judge:wildbench_reward[K={WILDBENCH_MARGIN}]", pairs, WILDBENCH_MARGIN)


def _wildbench(name: str, pairs: Sequence[Contest], margin: int | None) -> Metric:
    values = []
    for c in pairs:
        lengths = dict(enumerate(c.judgement.lengths))
        games = [wildbench_reward(row, _right(c), lengths, margin) for row in c.rows]
        read = [game for game in games if game is not None]
        values.append(fmean(read) if len(read) == len(games) else math.nan)
    penalty = f"; a slight win by an output more than {margin} characters longer is a tie" if margin else ""
    note = f"WB-Reward of the right candidate, -1 to 1, mean over the orders{penalty}"
    return mean_figure(name, values, [c.cluster for c in pairs], note, bounds=(-1.0, 1.0))


def _right(contest: Contest) -> int:
    return min(contest.right)


def _preferred(c: Contest) -> float:
    """How far a pair's right candidate is preferred: by probability where there is one, else by verdict."""
    soft = mean_share(c.rows, c.right)
    return _mean(None)(c) if math.isnan(soft) else soft


def _length_controlled(pairs: Sequence[Contest]) -> Metric:
    name, words = "judge:length_controlled", "rate at which the right candidate would be preferred at equal length"
    there = [(value, c) for c in pairs if not math.isnan(value := _preferred(c))]
    lost = len(pairs) - len(there)
    by = [c.judgement.lengths[_right(c)] - c.judgement.lengths[min({*c.shown} - c.right)] for _, c in there]
    try:
        found = length_controlled(
            np.array([value for value, _ in there]), np.array(by, dtype=np.float64), [c.cluster for _, c in there]
        )
    except NotIdentifiable as why:
        return undefined(name, f"{why}; {words}", lost)
    far = "; FAR from the raw rate, as upstream warns" if found.is_far else ""
    open_ = "" if found.ci else "; interval not estimable: some resamples separate the outcomes"
    note = (
        f"{words} (AlpacaEval 2 LC without its difficulty and gaming terms): theta {found.theta:.4g}, phi "
        f"{found.phi:.4g}, raw {found.raw:.4g}{far}; the whole fit is resampled by prompt{open_}"
    )
    return Metric(name, found.value, None, found.ci, len(there), lost, note=note)


def _favours(pairs: Sequence[Contest]) -> Iterator[Metric]:
    """Per writer, P(preferred | the other is right) - P(passed over | it is right)."""
    missed = []
    for c in pairs:
        mine, other = (c.judgement.models[i] for i in (_right(c), min({*c.shown} - c.right)))
        share = 1 - _mean(None)(c)
        if mine and other and mine != other and not math.isnan(share):
            missed.append(Missed(mine, other, share, c.cluster))
    for model, found in favours(missed).items():
        note = (
            f"how often {model} is preferred where the other is right ({found.gained:.4g}) less how often the other is "
            f"where {model} is right ({found.lost:.4g}); of the judge's own family it is self-preference"
        )
        yield Metric(f"judge:favours:{model}", found.value, None, found.ci, found.n, note=note, unit="number")


# --- ratings and critics ---------------------------------------------------------------------------------------------


def _ratings(rated: Sequence[Judgement]) -> Iterator[Metric]:
    clusters = [j.cluster for j in rated]
    ties = []
    for j in rated:
        scored, right = scores_of(j), right_of(j)
        pairs = [(a, b) for a in right for b in range(len(j.grades)) if b not in right]
        level = [scored.values[a] == scored.values[b] for a, b in pairs]
        ties.append(math.nan if scored.reason else fmean(map(float, level)))
    yield mean_figure(
        "judge:rating_ties", ties, clusters, "pairs of a right and a wrong candidate that are rated alike",
        higher_is_better=False,
    )  # fmt: skip
    if not any(len(votes) > 1 for j in rated for votes in j.ratings):
        return
    single, most, summed = [], [], []
    for j in rated:
        right = right_of(j)
        rounds = [top_of(votes) for votes in zip(*j.ratings, strict=False)]
        read = [top for top in rounds if top]
        named = plurality(read)
        total = top_of([sum(votes) if votes else math.nan for votes in j.ratings])
        single.append(fmean(tie_credit(top, right, "fraction") for top in read) if read else math.nan)
        most.append(tie_credit(named, right, "fraction") if named else math.nan)
        summed.append(tie_credit(total, right, "fraction") if total else math.nan)
    shared = "a tie at the top counts its share of right ones"
    yield mean_figure("judge:vote_accuracy", single, clusters, f"accuracy of a single round of ratings; {shared}")
    yield mean_figure("judge:majority", most, clusters, f"the candidate that most rounds rate highest; {shared}")
    note = f"the highest sum over all votes (DeepSeek-GRM), missing where one was not read; {shared}"
    yield mean_figure("judge:vote_sum", summed, clusters, note)


def _critic(judgements: Sequence[Judgement], found: Sequence[Reading]) -> list[Metric]:
    """Of critics, how often they call a solution wrong."""
    steps = {j.id for j in judgements if j.verdicts and all(len(row.order) == 1 for row in j.verdicts)}
    said = [(float(one.said != "-1"), one.cluster) for one in found if one.about[0] in steps and one.said is not None]
    if not said:
        return []
    flags, clusters = map(list, zip(*said, strict=True))
    return [mean_figure("judge:flagged", flags, clusters, "critiques that find a wrong step, of those read")]
