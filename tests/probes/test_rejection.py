"""What a choice is worth: uplift taken apart, coverage, length and variety."""

import math
import random
from statistics import fmean

import pytest

from rmeval.errors import UsageError
from rmeval.probes.pool import Pool, PoolRow
from rmeval.probes.rejection import describe_choice
from rmeval.probes.selection import Choice, choose


def made(prompts=60, n=8, *, knows=1.0, seed=0):
    """Gold 0/1 of prompts that are easy or hard, and a reward that knows it to a degree."""
    draw = random.Random(seed)
    rows = []
    for p in range(prompts):
        ease = draw.random()
        gold = [float(draw.random() < ease) for _ in range(n)]
        rewards = [knows * g + draw.gauss(0, 0.5) for g in gold]
        texts = tuple(f"word{draw.randrange(50)} of prompt {p} " * (1 + int(g)) for g in gold)
        rows.append(
            PoolRow(
                f"p{p}",
                f"p{p}",
                n,
                completions=texts,
                rewards=tuple(rewards),
                gold=tuple(gold),
                lengths=tuple(map(len, texts)),
            )
        )
    return Pool("made", tuple(rows))


def figures(pool, how):
    found = describe_choice(pool, choose(pool, how), replicates=300)
    return {one.name: one for one in found.figures}


def test_uplift_is_what_comes_from_within_and_from_easy_prompts():
    pool = made()
    for how in (Choice("top"), Choice("top-k", k=80), Choice("threshold", threshold=0.7)):
        one = figures(pool, how)
        chosen = choose(pool, how)
        gold = fmean(pool.rows[r].gold[i] for r, i in chosen)
        everything = fmean(g for row in pool.rows for g in row.gold)
        assert one["uplift"].value == pytest.approx(gold - everything)
        assert one["within"].value + one["easy prompts"].value == pytest.approx(one["uplift"].value)
        assert one["uplift"].ci[0] <= one["uplift"].value <= one["uplift"].ci[1]


def test_choosing_per_prompt_has_no_easy_prompts_and_choosing_overall_has():
    pool = made()
    assert figures(pool, Choice("top"))["easy prompts"].value == pytest.approx(0)
    overall = figures(pool, Choice("top-k", k=60))
    assert overall["easy prompts"].ci[0] > 0
    assert overall["coverage"].value < 1
    assert overall["effective prompts"].value < 60
    assert figures(pool, Choice("top"))["effective prompts"].value == pytest.approx(60)


def test_a_reward_that_knows_nothing_has_no_uplift_within():
    one = figures(made(prompts=120, knows=0.0), Choice("top"))
    assert one["within"].ci[0] < 0 < one["within"].ci[1]
    knowing = figures(made(), Choice("top"))
    assert knowing["within"].ci[0] > 0


def test_the_longer_texts_are_seen_in_the_length_ratio():
    assert figures(made(), Choice("top"))["length ratio"].ci[0] > 1


def test_texts_told_twice_are_counted():
    same = Pool(
        "p",
        tuple(
            PoolRow(str(i), str(i), 2, completions=("a b c", "x y z"), rewards=(1.0, 0.0), lengths=(5, 5))
            for i in range(4)
        ),
    )
    one = figures(same, Choice("top"))
    assert one["distinct"].value == 0.25
    assert one["distinct pairs ratio"].value < 1
    assert one["uplift"].value is None
    assert "no gold" in one["uplift"].what


def test_missing_rewards_are_counted_and_an_empty_choice_is_refused():
    pool = Pool("p", (PoolRow("a", "a", 2, rewards=(math.nan, 1.0), gold=(1.0, 0.0)),))
    found = describe_choice(pool, choose(pool, Choice("top", k=2)), replicates=50)
    assert found.figure("chosen").value == 1
    assert any("1 candidates have no reward" in note for note in found.notes)
    with pytest.raises(UsageError, match="no candidate was chosen"):
        describe_choice(pool, choose(pool, Choice("threshold", threshold=9)))
    with pytest.raises(KeyError):
        found.figure("nothing")


def test_what_is_0_but_for_rounding_is_0_and_has_no_interval():
    golds = ((0.1, 0.2, 0.4), (0.3, 0.7, 0.9), (0.1, 0.1, 0.3), (0.6, 0.7, 0.3), (0.7, 0.9, 0.2))
    rows = tuple(PoolRow(str(i), str(i), 3, rewards=(1, 2, 3), gold=gold) for i, gold in enumerate(golds * 3))
    for k in (1, 2, 3):
        easy = figures(Pool("p", rows), Choice("top", k=k))["easy prompts"]
        assert (str(easy.value), easy.ci) == ("0.0", None)
