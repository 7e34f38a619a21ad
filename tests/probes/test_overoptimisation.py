"""Over-optimisation: the laws recovered from their own curves, and a proxy that is hacked told from one that is not."""

import math
import random

import pytest
from command import rmeval

from rmeval.errors import UsageError
from rmeval.probes.overoptimisation import Fit, fit_law, over_optimisation
from rmeval.probes.pool import Pool, PoolRow, to_json
from rmeval.types import NAN


def made(*, hacked, prompts=80, n=32, seed=0):
    """A proxy that is gold and noise; `hacked`, one candidate in twenty looks far better than it is."""
    draw = random.Random(seed)
    rows = []
    for i in range(prompts):
        gold = [draw.gauss(0, 1) for _ in range(n)]
        proxy = [g + draw.gauss(0, 1) for g in gold]
        for k in range(n):
            if hacked and draw.random() < 0.05:
                gold[k], proxy[k] = gold[k] - 3, proxy[k] + 6
        rows.append(PoolRow(str(i), str(i), n, completions=("x",) * n, rewards=tuple(proxy), gold=tuple(gold)))
    return Pool("made", tuple(rows))


@pytest.mark.parametrize(("law", "alpha", "beta"), [("bon", 1.2, 0.3), ("rl", 1.5, 0.6), ("bon", 0.5, -0.1)])
def test_a_law_is_recovered_from_its_own_curve(law, alpha, beta):
    true = Fit(law, alpha, beta, 1.0)
    d = [0.4, 0.8, 1.1, 1.5, 2.0]
    found = fit_law(d, [true.gain(x) for x in d], law)
    assert (found.alpha, found.beta, found.r2) == pytest.approx((alpha, beta, 1.0))


def test_the_peak_is_where_the_gain_is_largest():
    for one in (Fit("bon", 1.2, 0.3, 1.0), Fit("rl", 1.5, 0.6, 1.0)):
        around = [one.gain(one.peak + step) for step in (-1e-3, 0, 1e-3)]
        assert around[1] == max(around)
    assert Fit("bon", 1.2, 0.3, 1.0).gain(2.0) == pytest.approx(1.2**2 / (4 * 0.3))
    assert Fit("bon", 1.2, -0.3, 1.0).peak is None
    assert Fit("bon", -1.2, 0.3, 1.0).peak is None


def test_two_values_of_n_fit_nothing():
    assert fit_law([0.4, 0.8], [0.1, 0.2], "bon") is None


def test_a_hacked_proxy_is_found_and_a_noisy_one_is_not():
    bad = over_optimisation(made(hacked=True), replicates=400)
    assert bad.over
    assert bad.fall_ci[0] > 0
    law = bad.fits[0]
    assert law.fit.beta > 0
    assert law.peak_ci is not None
    assert law.peak_ci[0] <= law.fit.peak <= law.peak_ci[1]
    good = over_optimisation(made(hacked=False), replicates=400)
    assert not good.over
    assert good.best_n == 32
    assert good.fall == 0


def test_chance_alone_is_seldom_called_over_optimisation():
    """A proxy that knows nothing has a flat gold curve, whose best n is picked by looking."""
    called = 0
    for seed in range(40):
        draw = random.Random(seed)
        rows = tuple(
            PoolRow(
                str(i),
                str(i),
                16,
                rewards=tuple(draw.random() for _ in range(16)),
                gold=tuple(draw.gauss(0, 1) for _ in range(16)),
            )
            for i in range(40)
        )
        called += over_optimisation(Pool("noise", rows), replicates=300).over
    assert called <= 5


def test_constant_rewards_optimise_nothing():
    rows = tuple(PoolRow(str(i), str(i), 8, rewards=(1.0,) * 8, gold=tuple(range(8))) for i in range(12))
    found = over_optimisation(Pool("constant", rows), replicates=50)
    assert (found.fits, found.over) == ((), False)
    assert "all rewards are equal" in found.why_no_fit


def test_missing_rewards_are_left_out_and_counted():
    rows = (*made(hacked=False, prompts=12).rows, PoolRow("x", "x", 32, rewards=(NAN,) * 32, gold=(0.0,) * 32))
    found = over_optimisation(Pool("p", rows), replicates=50)
    assert found.n_missing == 1
    assert any("1 prompts with a missing reward" in note for note in found.notes)
    with pytest.raises(UsageError, match="no prompt has a reward for each"):
        over_optimisation(Pool("p", rows[-1:]))
    with pytest.raises(UsageError, match="has no rewards"):
        over_optimisation(Pool("p", (PoolRow("a", "a", 1, gold=(1.0,)),)))


def test_the_command_says_what_it_found(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(f"{to_json(row)}\n" for row in made(hacked=True, prompts=30).rows))
    said = rmeval("probe", "overopt", str(path), "-o", str(tmp_path / "out"))
    assert "over-optimised" in said.stdout
    assert "bon law" in said.stdout
    header = next(line for line in said.stdout.splitlines() if "bon law" in line and "proxy" in line)
    assert header.split().count("n") == 1  # of proxy and gold: a law is no count of anything
    found = rmeval("probe", "overopt", str(path), "--json").document
    assert found["over_optimised"] is True
    assert found["rows"][0]["d"] == 0
    assert all(math.isfinite(r["value"]) for r in found["rows"])
    assert (tmp_path / "out" / "overopt.png").is_file()


def test_one_prompt_or_prompts_that_are_all_alike_show_no_over_optimisation():
    """Resampling them gives the same curve every time, which is no certainty."""
    falling = {"rewards": (0.1, 0.5, 0.3, 0.9), "gold": (1.0, 2.0, 0.0, -1.0)}
    for prompts in (1, 5):
        rows = tuple(PoolRow(str(i), str(i), 4, **falling) for i in range(prompts))
        found = over_optimisation(Pool("alike", rows), [1, 2, 3, 4], replicates=50)
        assert found.fall == pytest.approx(1.5)
        assert (found.over, found.fall_ci, found.fits) == (False, None, ())
        assert "alike" in found.why_no_fit
        assert any("unknown" in note for note in found.notes)


def test_equal_rewards_whose_mean_is_rounded_optimise_nothing():
    rows = tuple(PoolRow(str(i), str(i), 3, rewards=(0.1,) * 3, gold=(i % 2, 0.0, 1.0)) for i in range(9))
    found = over_optimisation(Pool("constant", rows), replicates=50)
    assert found.why_no_fit == "all rewards are equal: nothing is optimised"
    assert {point.value for point in found.curves[0].points} == {0.0}
