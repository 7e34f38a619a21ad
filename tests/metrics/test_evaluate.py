"""The aggregation tree, its intervals, and what is reported beside the headline."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import settings
from made_pairs import LOSE, POOLED, find, pair, pairs, sections

from rmeval import plugins
from rmeval.errors import UsageError
from rmeval.metrics import credit, nulls
from rmeval.metrics.evaluate import evaluate, headline_items, withhold
from rmeval.metrics.plan import MetricPlan, RuleSpec, Section
from rmeval.types import Judgement, Verdict

QUICK = settings(derandomize=True, max_examples=40, deadline=None, database=None)
# --- the official tree ---


def reward_bench():
    """Chat and Reasoning of RewardBench with its example counts as weights."""
    chat = {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    }
    reasoning = {
        "math-prm": 984,
        **dict.fromkeys((f"hep-{x}" for x in ("cpp", "go", "java", "js", "python", "rust")), 164),
    }
    return MetricPlan(
        "accuracy",
        "sections",
        (Section("Chat", tuple(chat), LOSE, chat), Section("Reasoning", tuple(reasoning), LOSE, reasoning)),
        expected=dict.fromkeys([*chat, *reasoning], 1),
    )


def test_reward_bench_weights_subsets_not_rows():
    plan = reward_bench()
    rows = [j for s in plan.expected for j in pairs(s, [1, 1, 0, 1])]
    rows = [j for j in rows if j.subset != "math-prm"] + pairs("math-prm", [1, 0])
    rows = [j for j in rows if j.subset != "mt-bench-med"] + pairs("mt-bench-med", ["tie", 0, 0, 0, 1])
    found = evaluate(rows, plan, replicates=100)
    chat = (0.75 * (100 + 95 + 95 + 28) + 0.2 * 40) / 358
    reasoning = (0.5 * 984 + 0.75 * 984) / 1968  # maths counts as much as all code
    assert find(found, "accuracy", "Chat").value == pytest.approx(chat)
    assert find(found, "accuracy", "Reasoning").value == pytest.approx(reasoning)
    assert found[0].value == pytest.approx((chat + reasoning) / 2)
    assert (found[0].name, found[0].subset, found[0].n) == ("accuracy", None, len(rows))
    assert find(found, "accuracy", "math-prm").value == 0.5
    assert find(found, "accuracy[ties=half]").value == pytest.approx(((0.75 * 318 + 0.3 * 40) / 358 + reasoning) / 2)


def test_reward_bench_2_is_the_unweighted_mean_of_domains_with_ties_among_them():
    fraction = RuleSpec("accuracy", {"ties": "fraction"})
    plan = MetricPlan(
        "accuracy",
        "sections",
        (Section("Math", ("Math",), fraction), Section("Ties", ("Ties",), RuleSpec("ties"))),
        expected={"Math": 3, "Ties": 2},
    )
    best_of_4 = [(1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0), (1.0, 1.0, 1.0, 2.0)]
    rows = [Judgement(f"m{i}", "Math", "", f"m{i}", (1.0, 0, 0, 0), scores=s) for i, s in enumerate(best_of_4)]
    rows += [
        Judgement("ref:7", "Ties", "", "r", (1.0, 0.0), scores=(5.0, 0.0)),
        Judgement("tied:7", "Ties", "", "t", (1.0, 1.0, 0.0), scores=(6.0, 4.0, 1.0)),
    ]
    found = evaluate(rows, plan, replicates=100)
    tie_score = 1 + 0.01 * math.tanh(0.5)
    assert find(found, "accuracy", "Math").value == 0.5
    assert find(found, "accuracy", "Ties").value == pytest.approx(tie_score)
    assert found[0].value == pytest.approx((0.5 + tie_score) / 2)
    assert find(found, "margin_preferred", "Ties").value == 1
    # the other tie rules change the best-of-4 domains and leave Ties alone
    assert find(found, "accuracy[ties=lose]").value == pytest.approx((1 / 3 + tie_score) / 2)
    assert not [m for m in found if m.name == "ref_accuracy" and m.subset is None]


def test_rm_bench_pools_the_two_safety_sets_and_averages_domains():
    rule = RuleSpec("style_matrix")
    plan = MetricPlan(
        "accuracy", "sections", (Section("chat", ("chat",), rule), Section("safety", ("refuse", "response"), rule))
    )

    def item(name, subset, scores):
        return Judgement(name, subset, "", name, (1.0,) * 3 + (0.0,) * 3, scores=tuple(map(float, scores)))

    hard_wins, all_lose, all_win = (3, 2, 1, 0, 2, 1), (0, 0, 0, 1, 1, 1), (1, 1, 1, 0, 0, 0)
    rows = [item("a", "chat", all_win), item("b", "refuse", all_lose), item("c", "refuse", all_lose)]
    rows += [item("d", "response", all_win)]
    found = evaluate(rows, plan, replicates=100)
    assert find(found, "accuracy", "safety").value == pytest.approx(1 / 3)  # by prompts, not by the two sets
    assert find(found, "hard", "safety").value == pytest.approx(1 / 3)
    assert found[0].value == find(found, "hard").value == pytest.approx(2 / 3)
    assert find(found, "easy").value == pytest.approx(2 / 3)
    mixed = evaluate([item("a", "chat", hard_wins), *rows[1:]], plan, replicates=100)
    assert find(mixed, "chosen_concise>rejected_markdown", "chat").value == 1.0
    assert find(mixed, "chosen_markdown>rejected_detailed", "chat").value == 0.0


@pytest.mark.parametrize("lost", ["chat", "code"])
def test_a_missing_subset_leaves_section_and_headline_undefined_and_named(lost):
    rows = [j for s in ("chat", "code", "maths") if s != lost for j in pairs(s, [1] * 12)]
    found = evaluate(rows, sections("chat", "code", "maths"), replicates=100)
    assert found[0].value is None
    assert found[0].ci is None
    assert f"no examples of {lost}" in found[0].note
    assert find(found, "accuracy", lost.title()).value is None
    assert find(found, "accuracy", "maths").value == 1.0
    assert find(found, "null:random").value is None
    with pytest.raises(UsageError, match=f"undefined.*no examples of {lost}"):
        headline_items(rows, sections("chat", "code", "maths"))


def test_many_missing_subsets_are_counted():
    plan = MetricPlan("accuracy", "rows", POOLED.sections, expected=dict.fromkeys("abcdefgh", 1))
    assert "no examples of b, c, d, e, f and 2 more" in evaluate(pairs("a", [1]), plan)[0].note


def test_a_pooled_headline_needs_every_expected_subset():
    plan = MetricPlan("accuracy", "rows", POOLED.sections, expected={"a": 2, "b": 2})
    found = evaluate(pairs("a", [1, 0]), plan)
    assert found[0].value is None
    assert "no examples of b" in found[0].note
    assert find(found, "accuracy", "a").value == 0.5


@pytest.mark.fault("F13")
def test_a_subset_whose_scores_are_all_missing_is_undefined_never_zero():
    rows = pairs("chat", [1] * 12) + pairs("code", [None] * 3)
    found = evaluate(rows, sections("chat", "code"), replicates=100)
    assert found[0].value is None
    assert "no scored examples for accuracy of code" in found[0].note
    assert (find(found, "accuracy", "code").value, find(found, "accuracy", "code").n_missing) == (None, 3)


@pytest.mark.fault("F13")
def test_no_rows_at_all():
    found = evaluate([], POOLED)
    assert (found[0].value, found[0].n) == (None, 0)
    assert "no examples" in found[0].note


def test_rows_outside_every_section_are_said_not_to_count():
    found = evaluate(pairs("chat", [1]) + pairs("prior", [0]), sections("chat"), replicates=50)
    assert found[0].value == 1
    assert "rows of prior belong to no section" in found[0].note


def test_what_sections_say_alike_is_said_once():
    rated = Judgement("b/1", "b", "", "b 1", (1.0, 0.0), ratings=((7.0,), (3.0,)))
    note = evaluate([*pairs("a", [1, 0]), rated], sections("a", "b"), replicates=10)[0].note
    assert note.count("a tie at the top with a wrong candidate counts as wrong") == 1
    assert note.count("ratings averaged over the votes that could be read") == 1


def test_a_section_may_not_borrow_a_subsets_name():
    plan = MetricPlan("accuracy", "sections", (Section("chat", ("chat", "code"), LOSE),))
    with pytest.raises(UsageError, match="section 'chat' shares its name with a subset"):
        evaluate(pairs("chat", [1]) + pairs("code", [1]), plan)


def test_unknown_rule_names_the_near_miss():
    with pytest.raises(UsageError, match="Did you mean 'accuracy'"):
        evaluate(pairs("a", [1]), MetricPlan("x", "rows", (Section("x", (), RuleSpec("acuracy")),)))


# --- what stands beside the headline ---


def test_order_of_metrics_and_their_names():
    plan = MetricPlan(
        "accuracy",
        "rows",
        (Section("accuracy", (), LOSE), Section("Both", ("a", "b"), LOSE)),
        also=(RuleSpec("accuracy", {"ties": "win"}), RuleSpec("reciprocal_rank")),
    )
    names = [(m.name, m.subset) for m in evaluate(pairs("a", [1, 0, None]) + pairs("b", ["tie"]), plan)]
    diagnostics = names[19:]
    assert [subset for _, subset in diagnostics] == [None] * len(diagnostics)
    assert {name.partition(":")[0] for name, _ in diagnostics} == {"calibration", "scale", "length", "mde"}
    assert names[:19] == [
        ("accuracy", None),
        ("accuracy", "Both"),
        ("accuracy", "a"),
        ("accuracy", "b"),
        ("accuracy[ties=win]", None),
        ("reciprocal_rank", None),
        ("accuracy[ties=half]", None),
        ("accuracy[ties=fraction]", None),
        ("accuracy[missing=wrong]", None),
        ("accuracy[missing=right]", None),
        ("tie_rate", None),
        ("missing_rate", None),
        ("unparsed_rate", None),
        ("null:length", None),
        ("null:length", "Both"),
        ("null:constant", None),
        ("null:constant", "Both"),
        ("null:random", None),
        ("null:random", "Both"),
    ]


def test_the_random_baseline_is_a_mean_of_draws_and_close_to_chance():
    rows = pairs("a", [1] * 50) + [
        Judgement(f"k{i}", "a", "", f"k{i}", (1.0, 0, 0, 0), scores=(1.0, 0, 0, 0)) for i in range(50)
    ]
    (found,) = [m for m in evaluate(rows, POOLED, replicates=50) if m.name == "null:random"]
    chance = (0.5 + 0.25) / 2
    spread = ((0.5 * 0.5 + 0.25 * 0.75) / 2 / 100 / nulls.draws(100)) ** 0.5
    assert abs(found.value - chance) < 4 * spread
    assert found.ci is None


def test_missing_is_counted_and_bounded():
    found = evaluate(pairs("a", [1] * 6 + [0] * 2 + [None] * 2), POOLED)
    assert (found[0].value, found[0].n, found[0].n_missing) == (0.75, 8, 2)
    assert find(found, "accuracy[missing=wrong]").value == 0.6
    assert find(found, "accuracy[missing=right]").value == 0.8
    assert find(found, "missing_rate").value == 0.2
    assert not [m for m in evaluate(pairs("a", [1, 0]), POOLED) if "missing=" in m.name]


def test_bounds_run_through_the_whole_tree():
    rows = pairs("chat", [1, None]) + pairs("code", [0, 0, 0, None])
    found = evaluate(rows, sections("chat", "code"), replicates=50)
    assert find(found, "accuracy[missing=wrong]").value == pytest.approx((1 / 2 + 0 / 4) / 2)
    assert find(found, "accuracy[missing=right]").value == pytest.approx((2 / 2 + 1 / 4) / 2)


def test_rates():
    verdicts = (Verdict((0, 1), "A"), Verdict((1, 0), None))
    unread = Judgement("u", "a", "", "u", (1.0, 0.0), verdicts=verdicts)
    found = evaluate([*pairs("a", [1, "tie", "tie", None]), unread], POOLED)
    tie_rate = find(found, "tie_rate")
    assert (tie_rate.value, tie_rate.n, tie_rate.higher_is_better) == (pytest.approx(2 / 3), 3, False)
    assert find(found, "missing_rate").value == pytest.approx(2 / 5)
    assert find(found, "unparsed_rate").value == pytest.approx(1 / 5)


def test_null_constant_follows_the_tie_rule_and_never_profits():
    k4 = [Judgement(f"{i}", "a", "", f"{i}", (1.0, 0, 0, 0), scores=(1.0, 0, 0, 0)) for i in range(20)]
    for ties, expected in {"lose": 0.0, "half": 0.5, "fraction": 0.25, "win": 1.0}.items():
        plan = MetricPlan("accuracy", "rows", (Section("accuracy", (), RuleSpec("accuracy", {"ties": ties})),))
        assert find(evaluate(k4, plan), "null:constant").value == expected


def test_null_length_uses_lengths_and_is_undefined_without():
    rows = [pair(0, "a", 0, lengths=(9, 3)), pair(1, "a", 1, lengths=(2, 3))]
    assert find(evaluate(rows, POOLED), "null:length").value == 0.5
    without = find(evaluate(pairs("a", [1, 0]), POOLED), "null:length")
    assert (without.value, without.n_missing) == (None, 2)


def test_null_random_is_the_same_in_every_run_and_near_chance():
    rows = [Judgement(f"r{i}", "a", "", f"r{i}", (1.0, 0, 0, 0), scores=(1.0, 0, 0, 0)) for i in range(2000)]
    one, two = (find(evaluate(r, POOLED), "null:random").value for r in (rows, rows[::-1]))
    assert one == two
    assert one == pytest.approx(0.25, abs=0.04)
    drawn = [s for j in rows for s in nulls.random(j).scores]
    assert 0 <= min(drawn) < 0.01
    assert 0.99 < max(drawn) < 1


def test_withhold_keeps_counts_and_says_why():
    found = withhold(evaluate(pairs("a", [1, None]), POOLED), "3 scores failed, and the limit is 0")
    assert {(m.value, m.ci) for m in found} == {(None, None)}
    assert (found[0].n, found[0].n_missing) == (1, 1)
    assert found[0].note == "withheld: 3 scores failed, and the limit is 0"


@pytest.mark.fault("F59")
def test_everything_is_strict_json():
    rows = pairs("chat", [1] * 3 + [None]) + pairs("code", [0] * 2)
    for plan in (POOLED, sections("chat", "code")):
        for m in evaluate(rows, plan, replicates=50):
            json.dumps([m.name, m.value, m.subset, m.ci, m.n, m.n_missing, m.note], allow_nan=False)


# --- a plugin's rule ---


def test_a_rule_from_elsewhere_gets_intervals_sections_and_nulls(monkeypatch):
    def margin(judgements, options):
        credit.read_options("margin", options, {})
        rows = tuple(credit.Credit(j.id, j.cluster, j.subset, "margin", j.scores[0] - j.scores[1]) for j in judgements)
        return credit.Credits(rows, credit.Linear({"margin": 1.0}), "chosen minus rejected", {"margin": (-1.0, 1.0)})

    monkeypatch.setattr(plugins.METRICS, "get", lambda _: margin)
    found = evaluate(pairs("a", [1, 0, 1] * 10), MetricPlan("margin", "rows", (Section("margin", (), RuleSpec("m")),)))
    assert found[0].value == pytest.approx(1 / 3)
    assert -1 < found[0].ci[0] < 1 / 3 < found[0].ci[1] < 1
    assert not [m for m in found if m.name == "tie_rate"]
    assert find(found, "null:constant").value == 0


def test_a_section_whose_rule_knows_no_ties_leaves_no_tie_rate(monkeypatch):
    def half(judgements, options):
        credit.read_options("half", options, {})
        rows = tuple(credit.Credit(j.id, j.cluster, j.subset, "half", 0.5) for j in judgements)
        return credit.Credits(rows, credit.Linear({"half": 1.0}), "half each")

    known = plugins.METRICS.get
    monkeypatch.setattr(plugins.METRICS, "get", lambda name: half if name == "half" else known(name))
    rows = [*pairs("a", [1, "tie"]), *pairs("b", [1, 0])]
    mixed = MetricPlan("accuracy", "sections", (Section("A", ("a",), LOSE), Section("B", ("b",), RuleSpec("half"))))
    assert not [m for m in evaluate(rows, mixed, replicates=20) if m.name == "tie_rate"]
    assert find(evaluate(rows, sections("a", "b"), replicates=20), "tie_rate").value == 0.25


def test_parts_of_a_number_are_reported_where_all_sections_have_them_by_section_and_by_subset(monkeypatch):
    def parts(judgements, options):
        names = ("easy", "hard") if options["both"] else ("hard", "other")
        rows = [credit.Credit(j.id, j.cluster, j.subset, n, float(n == "hard")) for j in judgements for n in names]
        return credit.Credits(tuple(rows), credit.Linear(dict.fromkeys(names, 0.5)), "half of each")

    monkeypatch.setattr(plugins.METRICS, "get", lambda _: parts)
    first, second = (Section(n, (n.lower(),), RuleSpec("parts", {"both": n == "A"})) for n in "AB")
    rows = [*pairs("a", [1, 0]), *pairs("b", [1, 0])]
    found = evaluate(rows, MetricPlan("mean", "sections", (first, second)), replicates=20)
    said = {(m.name, m.subset): m.value for m in found if "part of" in m.note}
    ofa, ofb = {"easy": 0, "hard": 1}, {"hard": 1, "other": 0}
    assert said == {("hard", None): 1} | {
        (n, s): v for s, of in zip("ABab", (ofa, ofb) * 2, strict=True) for n, v in of.items()
    }
    assert found[0].note.startswith("unweighted mean of A, B")
    alone = evaluate(rows[:2], MetricPlan("mean", "sections", (first,)), replicates=20)
    assert alone[0].note.startswith("half of each")


def test_credits_that_no_interval_could_be_true_of_are_refused(monkeypatch):
    def wild(judgements, options):
        rows = tuple(credit.Credit(j.id, j.cluster, j.subset, "size", 3.0) for j in judgements)
        return credit.Credits(rows, credit.Linear({"size": 1.0}), "")

    with pytest.raises(UsageError, match="example 'x' has no cluster"):
        evaluate([Judgement("x", "a", "", "", (1.0, 0.0), scores=(1.0, 0.0))], POOLED)
    monkeypatch.setattr(plugins.METRICS, "get", lambda _: wild)
    with pytest.raises(UsageError, match=r"gives example 'a/0' 3 for 'size', outside its range \[0, 1\]"):
        evaluate(pairs("a", [1]), POOLED)
