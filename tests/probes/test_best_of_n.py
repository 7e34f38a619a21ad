"""Best-of-n from pools: golden numbers, enumeration, bad input, and the command."""

import itertools
import json
import math
from statistics import fmean

import pytest
from command import rmeval
from hypothesis import given
from hypothesis import strategies as st

from rmeval.errors import UsageError
from rmeval.probes.best_of_n import answer_kl, best_of_n, refined_kl, weighted_vote
from rmeval.probes.pool import Pool, PoolRow, read_pool, to_json
from rmeval.stats import best_of_n_kl
from rmeval.types import NAN


def row(name="a", rewards=(), gold=(), answers=(), **more):
    n = len(rewards or gold)
    return PoolRow(name, name, n, rewards=tuple(rewards), gold=tuple(gold), answers=tuple(answers), **more)


def pool(*rows):
    return Pool("toy", rows)


def values(found, name):
    return [point.value for point in found.curve(name).points]


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return path


# --- golden numbers --------------------------------------------------------------------------------------------------


def test_the_four_sample_examples():
    found = best_of_n(pool(row(rewards=(0.1, 0.9, 0.4, 0.7), gold=(0, 1, 1, 0))), [1, 2, 3, 4])
    assert values(found, "best of n") == pytest.approx([0.5, 0.666667, 0.75, 1.0], abs=5e-7)
    found = best_of_n(pool(row(rewards=(0.1, 0.5, 0.3, 0.9), gold=(1, 2, 0, -1))), [2])
    assert values(found, "best of n") == pytest.approx([1 / 6])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2)), min_size=2, max_size=6),
    st.integers(1, 6),
)
def test_every_curve_is_the_mean_over_all_subsets(candidates, n):
    n = min(n, len(candidates))
    one = row(
        rewards=[float(r) for r, _, _ in candidates],
        gold=[float(g) for _, g, _ in candidates],
        answers=[a for *_, a in candidates],
    )
    chosen, oracle, majority = [], [], []
    for subset in itertools.combinations(candidates, n):
        best = max(r for r, *_ in subset)
        chosen.append(fmean(g for r, g, _ in subset if r == best))
        oracle.append(max(g for _, g, _ in subset))
        counts = {a: sum(b == a for *_, b in subset) for *_, a in subset}
        top = [a for a, c in counts.items() if c == max(counts.values())]
        # the gold of an answer is the mean over all of its samples in the pool
        majority.append(fmean(fmean(g for _, g, b in candidates if b == a) for a in top))
    found = best_of_n(pool(one), [n])
    assert values(found, "best of n") == pytest.approx([fmean(chosen)])
    assert values(found, "oracle") == pytest.approx([fmean(oracle)])
    assert values(found, "majority") == pytest.approx([fmean(majority)])
    assert values(found, "random") == pytest.approx([fmean(g for _, g, _ in candidates)])
    assert values(found, "regret") == pytest.approx([fmean(oracle) - fmean(chosen)])


def test_a_weighted_vote_of_the_whole_pool_is_exact_and_ties_share():
    one = row(rewards=(0.5, 0.25, 0.25, 0.1), gold=(0, 1, 1, 0), answers=(0, 1, 1, 2))
    assert weighted_vote(one, 4, seed=0) == 0.5
    heavier = row(rewards=(0.5, 0.3, 0.25, 0.1), gold=(0, 1, 1, 0), answers=(0, 1, 1, 2))
    assert weighted_vote(heavier, 4, seed=0) == 1.0


def test_a_weighted_vote_is_exact_over_few_subsets_and_close_over_many():
    def exact(one, n):
        found = []
        for subset in itertools.combinations(range(one.n), n):
            weight = {a: sum(one.rewards[i] for i in subset if one.answers[i] == a) for a in (0, 1)}
            top = [a for a in (0, 1) if weight[a] >= max(weight.values()) - 1e-12]
            found.append(fmean(float(a == 1) for a in top))
        return fmean(found)

    few = row(rewards=(0.5, 0.3, 0.3, 0.4, 0.2), gold=(0, 1, 1, 0, 1), answers=(0, 1, 1, 0, 1))
    assert weighted_vote(few, 3, seed=0) == pytest.approx(exact(few, 3))
    many = row(rewards=(0.5, 0.3, 0.3, 0.4, 0.2) * 2, gold=(0, 1, 1, 0, 1) * 2, answers=(0, 1, 1, 0, 1) * 2)
    assert weighted_vote(many, 5, seed=0) == pytest.approx(exact(many, 5), abs=0.1)  # 200 of 252
    assert weighted_vote(many, 5, seed=0) == weighted_vote(many, 5, seed=0) != weighted_vote(many, 5, seed=1)


def test_the_table_of_the_bound():
    found = {n: round(best_of_n_kl(n), 3) for n in (2, 4, 8, 16, 64, 256)}
    assert found == {2: 0.193, 4: 0.636, 8: 1.204, 16: 1.835, 64: 3.175, 256: 4.549}


@pytest.mark.parametrize(
    ("outcomes", "n", "exact", "refined"),
    [(10, 16, 1.733, 1.756), (10, 64, 2.293, 2.295), (2, 4, 0.459, 0.499), (100, 64, 3.158, 3.167)],
)
def test_the_refined_kl_lies_between_the_exact_one_and_the_bound(outcomes, n, exact, refined):
    cdf = [k / outcomes for k in range(outcomes + 1)]
    chances = [(b**n - a**n) for a, b in itertools.pairwise(cdf)]
    kl = sum(p * math.log(p * outcomes) for p in chances if p > 0)
    assert kl == pytest.approx(exact, abs=5e-4)
    assert refined_kl(n, 1 / outcomes) == pytest.approx(refined, abs=5e-4)
    assert kl <= refined_kl(n, 1 / outcomes) <= best_of_n_kl(n)


def test_the_kl_of_answers_uses_their_share():
    one = row(rewards=(3.0, 2.0, 1.0, 0.0), gold=(1, 0, 0, 0), answers=(0, 1, 1, 1))
    assert answer_kl(pool(one), 4) == pytest.approx(refined_kl(4, 0.25))
    found = best_of_n(pool(one), [1, 4])
    assert values(found, "by answers") == [0.0, pytest.approx(refined_kl(4, 0.25))]
    assert values(found, "bound") == [0.0, pytest.approx(best_of_n_kl(4))]
    assert answer_kl(pool(row(rewards=(1.0, 0.0), gold=(1, 0))), 2) is None


# --- what is undefined, counted or refused ---------------------------------------------------------------------------


def test_a_missing_reward_leaves_its_prompt_out_of_what_rewards_choose_and_is_counted():
    found = best_of_n(
        pool(row("a", (0.0, 1.0), (0, 1)), row("b", (NAN, 1.0), (1, 0), reasons=("truncated", None))), [1, 2]
    )
    point = found.curve("best of n").points[1]
    assert (point.value, point.n, point.n_missing) == (1.0, 1, 1)
    assert found.curve("oracle").points[1].n == 2


def test_constant_rewards_choose_at_random_and_it_is_said():
    found = best_of_n(pool(row("a", (1.0, 1.0, 1.0), (0, 1, 1))))
    assert values(found, "best of n") == pytest.approx([2 / 3] * 3)
    assert any("one reward for all" in note for note in found.notes)


def test_unequal_pools_stop_at_the_smallest_and_it_is_said():
    both = pool(row("a", (0.0, 1.0), (0, 1)), row("b", (0.0, 1.0, 2.0), (0, 1, 0)))
    found = best_of_n(both)
    assert found.n == (1, 2)
    assert any("2 to 3 candidates" in note for note in found.notes)
    with pytest.raises(UsageError, match=r"n = 3: from 1 to 2.*'a'"):
        best_of_n(both, [3])
    with pytest.raises(UsageError, match="n = 0"):
        best_of_n(both, [0, 1])


def test_a_pool_without_gold_is_refused_and_one_without_rewards_still_has_an_oracle():
    with pytest.raises(UsageError, match="has no gold"):
        best_of_n(pool(row(rewards=(1.0, 2.0))))
    found = best_of_n(pool(row(gold=(1, 0))))
    assert values(found, "oracle") == [0.5, 1.0]
    assert found.curve("best of n").undefined == "the pool has no rewards"
    with pytest.raises(UsageError, match="1 of 2 rows have no gold"):
        best_of_n(pool(row(gold=(1, 0)), row("b", rewards=(1.0, 2.0))))


def test_negative_rewards_weight_votes_by_their_sigmoid_and_it_is_said():
    # as they are: -3 + 2.5 < 0 < 0.1; their sigmoids: 0.047 + 0.924 > 0.525
    one = row(rewards=(-3.0, 2.5, 0.1), gold=(1, 1, 0), answers=(0, 0, 1))
    found = best_of_n(pool(one), [3])
    assert values(found, "weighted") == [1.0]
    assert "sigma(reward)" in found.curve("weighted").what
    assert weighted_vote(one, 3, seed=0) == 0.0
    assert weighted_vote(one, 3, seed=0, squash=True) == 1.0
    plain = best_of_n(pool(row(rewards=(1.0, 2.0), gold=(1, 0), answers=(0, 1))))
    assert "sigma" not in plain.curve("weighted").what


def test_unequal_pools_have_a_panel_in_which_each_offers_all_it_has():
    both = pool(
        row("a", (0.0, 1.0), (0, 1), (0, 1)),
        row("b", (0.0, 3.0, 2.0), (0, 0, 1), (0, 1, 0)),
        row("c", (1.0,), (1,), (0,)),
    )
    whole = {
        point.at: point.value for one in best_of_n(both).curves if one.panel == "whole pools" for point in one.points
    }
    # weighted: b's answers have 0 + 2 and 3; majority: b's answer 0 has two samples, one of them right
    assert whole == pytest.approx(
        {"best of n": 2 / 3, "oracle": 1.0, "random": (1 / 2 + 1 / 3 + 1) / 3, "majority": 2 / 3, "weighted": 2 / 3}
    )
    same = best_of_n(pool(row("a", (0.0, 1.0), (0, 1)), row("b", (0.0, 1.0), (0, 1))))
    assert not [one for one in same.curves if one.panel == "whole pools"]


def test_what_a_suite_fixes_has_no_interval():
    rows = [row(str(i), (float(i % 3), 0.5, 0.2, 0.1), (1, 0, 0, 0)) for i in range(12)]
    found = best_of_n(pool(*rows), [1, 2])
    for name in ("oracle", "random"):  # one right of four, for every prompt
        assert [point.ci for point in found.curve(name).points] == [None, None]
    assert [point.ci is None for point in found.curve("best of n").points] == [True, False]
    assert [found.curve(name).points[0].value for name in ("regret", "optimised - random")] == [0.0, 0.0]
    assert any("the suite fixes them" in note for note in found.notes)
    all_right = best_of_n(pool(*(row(str(i), (1.0, 0.0), (1, 1)) for i in range(12))))
    assert all_right.curve("random").points[0].ci is not None  # Wilson: a share of 1 that was seen, not fixed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rewads": [1, 2]}, r"line 1: unknown key 'rewads'. Did you mean 'rewards'"),
        ({"candidates": []}, r"line 1: unknown key 'candidates'. There are .*completions, rewards"),
        ({"rewards": [1]}, "rewards has 1 entries for 2 completions"),
        ({"rewards": ["x", 1]}, "'x' is not a number"),
        ({"gold": [None, 1]}, "None is not a number"),
        ({"completions": []}, "at least one text"),
        ({"id": 3}, "string `id`"),
        ({"prompt": 3}, "`prompt` is a text"),
    ],
)
def test_a_row_that_is_wrong_is_named_with_its_line(tmp_path, change, said):
    path = write(tmp_path / "p.jsonl", {"id": "a", "completions": ["x", "y"], **change})
    with pytest.raises(UsageError, match=said):
        read_pool(path)


def test_an_id_stands_once(tmp_path):
    path = write(tmp_path / "p.jsonl", *[{"id": "a", "completions": ["x"]}] * 2)
    with pytest.raises(UsageError, match="line 2: id 'a' stands in line 1 already"):
        read_pool(path)


def test_a_row_reads_back_as_it_was_written(tmp_path):
    path = write(
        tmp_path / "p.jsonl",
        {
            "id": "a",
            "prompt": "2+2?",
            "completions": ["4", "5"],
            "rewards": [1.5, None],
            "gold": [1, 0],
            "answers": ["4", "5"],
        },
    )
    [one] = read_pool(path).rows
    (tmp_path / "again.jsonl").write_text(f"{to_json(one)}\n")
    [again] = read_pool(tmp_path / "again.jsonl").rows
    assert to_json(again) == to_json(one)
    assert again.answers == (0, 1)
    assert again.reasons == (None, "not_recorded")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_rows_and_writes_a_figure(tmp_path):
    rows = [
        {"id": str(i), "completions": ["a", "b", "c"], "rewards": [0.1, 0.2 + i, 0.3], "gold": [0, 1, i % 2]}
        for i in range(12)
    ]
    path = write(tmp_path / "p.jsonl", *rows)
    found = rmeval("probe", "best-of-n", str(path), "-n", "1,2,3", "-o", str(tmp_path / "out"), "--json").document
    assert [r["n"] for r in found["rows"]] == [1, 2, 3]
    assert found["rows"][0]["value"] == pytest.approx(0.5)
    assert found["rows"][2]["kl_bound"] == pytest.approx(best_of_n_kl(3))
    assert all(r["ci"][0] <= r["value"] <= r["ci"][1] for r in found["rows"])
    assert (tmp_path / "out" / "best-of-n.svg").read_text().startswith("<?xml")
    assert json.loads((tmp_path / "out" / "best-of-n.json").read_text()) == found


def test_a_suite_is_a_pool_without_rewards():
    found = rmeval("probe", "best-of-n", "arithmetic", "-n", "1,2", "--json")
    assert found.document["of"] == "oracle"


def test_a_result_is_a_pool(tmp_path):
    made = rmeval("run", "length", "--suite", "arithmetic", "--out", str(tmp_path), "--json")
    [path] = [p for p in tmp_path.rglob("*.json") if "samples" not in p.name]
    found = rmeval("probe", "best-of-n", str(path), "-n", "2", "--json").document
    assert found["pool"] == "length on arithmetic"
    assert made.document["suite"]["examples"] >= found["prompts"] > 0


@pytest.mark.parametrize(
    ("text", "said"), [("1,x", "'x' is not a whole number"), ("²", "is not a whole number"), ("99", "n = 99")]
)
def test_a_wrong_n_is_refused(tmp_path, text, said):
    path = write(tmp_path / "p.jsonl", {"id": "a", "completions": ["x", "y"], "gold": [1, 0]})
    made = rmeval("probe", "best-of-n", str(path), "-n", text)
    assert made.code == 2
    assert said in made.stderr


def test_a_file_that_is_not_there_is_no_suite():
    made = rmeval("probe", "best-of-n", "nowhere.jsonl")
    assert (made.code, "no such file" in made.stderr) == (2, True)


@pytest.mark.parametrize("number", ["1e308", "-1e101", "1" + "0" * 400])
def test_a_number_beyond_reason_is_refused_with_its_line(tmp_path, number):
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"id": "a", "completions": ["x", "y"], "rewards": [{number}, 1]}}\n')
    with pytest.raises(UsageError, match=r"line 1: rewards: .* is too large"):
        read_pool(path)


def test_equal_numbers_are_one_answer_and_a_text_is_another(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "completions": ["x"] * 5, "answers": [4, 4.0, "4", 4.5, True]}) + "\n")
    assert read_pool(path).rows[0].answers == (0, 0, 1, 2, 3)


def test_prompts_without_rewards_are_not_counted_as_constant():
    rows = (PoolRow("a", "a", 2, rewards=(NAN, NAN), gold=(0, 1)), PoolRow("b", "b", 2, rewards=(1, 2), gold=(0, 1)))
    assert not any("one reward for all" in note for note in best_of_n(Pool("p", rows)).notes)


def test_a_negative_seed_is_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "completions": ["x", "y"], "rewards": [1, 2], "gold": [0, 1]}\n')
    for command in ("best-of-n", "overopt", "rejection"):
        found = rmeval("probe", command, path, "--seed", -1)
        assert (found.code, "--seed" in found.stderr) == (2, True)


def test_an_aggregate_that_there_is_not_is_refused_even_where_there_are_no_steps(tmp_path):
    path = write(tmp_path / "p.jsonl", {"id": "a", "completions": ["x", "y"], "rewards": [1, 2], "gold": [0, 1]})
    found = rmeval("probe", "best-of-n", path, "--aggregate", "mn")
    assert (found.code, "unknown aggregate 'mn'. Did you mean 'min'" in found.stderr) == (2, True)
    assert rmeval("probe", "best-of-n", path, "--aggregate", "min").code == 0


def test_half_of_a_surrogate_pair_is_named_with_its_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "prompt": "x", "completions": ["\\ud800", "y"], "rewards": [1, 2]}\n')
    with pytest.raises(UsageError, match="line 1: holds half of a surrogate pair"):
        read_pool(path)
