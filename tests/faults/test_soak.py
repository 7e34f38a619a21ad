"""Half a minute of the soak that benchmarks/soak.py does for fifteen."""

from __future__ import annotations

import pytest
from faults.forks import say

from benchmarks.soak import soak


@pytest.mark.slow
@pytest.mark.fault("F33", "F34", "F44")
def test_half_a_minute_of_judging_with_random_faults(capsys):
    found = soak(30, 16, wave=250)
    with capsys.disabled():
        say(f"soak: {found.rows[-1]}")
    assert found.sound
    assert found.asked >= 1000
    assert found.attempts > found.asked
    assert {"refused", "empty", "truncated"} <= found.missing.keys()
