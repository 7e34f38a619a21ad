"""A few seconds of fuzzing, and every case that once went wrong. `make fuzz` throws 200,000 at each parser."""

from __future__ import annotations

import os
import random
import signal

import fuzz_corpus
import fuzz_models
import pytest
from fuzz_driving import Target, fault_of, run, run_in_forks
from fuzz_parsers import TARGETS

BY_NAME = {target.name: target for target in TARGETS}
HEAVY = {"folder of a checkpoint", "chat template", "template of a training"}
"""Left to `make fuzz`: a model or a compiler for each case, which may want all the memory there is."""
CASES = 30


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in HEAVY])
def test_spoilt_inputs_are_refused_in_words(name):
    tally = run(BY_NAME[name], CASES, seed=1)
    assert tally.cases
    assert tally.found == {}


@pytest.mark.parametrize("case", fuzz_corpus.read(), ids=lambda case: f"{case.parser}, {case.was}")
def test_what_once_went_wrong_does_no_more(case):
    if case.parser == "folder of a checkpoint":
        fuzz_models._files()  # made once, which takes longer than a case may
    why, seconds, _ = fault_of(BY_NAME[case.parser], case.case)
    assert not why
    assert seconds < 1


def test_cases_are_the_same_every_time():
    for target in TARGETS:
        if target.name not in HEAVY:
            first, second = (target.make(random.Random("one seed")) for _ in range(2))
            assert first == second


def test_a_case_of_the_corpus_is_written_and_read_to_the_letter():
    case = fuzz_corpus.Case("a", "b", "x" + '{"a":' * 100 + "[" * 31 + "\udc80\n" + "]" * 40)
    assert fuzz_corpus.line_of(case).count("[") < 20
    parts = fuzz_corpus._short(case.case)
    assert fuzz_corpus._long(parts) == case.case


def test_a_case_that_kills_its_process_is_found_and_the_run_goes_on(monkeypatch):
    monkeypatch.setattr("fuzz_driving.BATCH", 40)
    cases = [f"{draw.randrange(60)}" for draw in (random.Random(f"deadly 1 {number}") for number in range(100))]

    def check(case):
        if case == "7":
            os.kill(os.getpid(), signal.SIGKILL)
        return int(case) % 2 == 0

    assert 0 < cases.count("7") < 10
    tally = run_in_forks(Target("deadly", lambda draw: f"{draw.randrange(60)}", check, forked=True), 100, seed=1)
    assert tally.cases == 100
    assert tally.found == {"killed by SIGKILL": "7"}
    assert tally.taken == sum(int(case) % 2 == 0 for case in cases)
