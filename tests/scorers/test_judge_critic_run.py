"""A critic from the command line to the official F1: a scripted judge whose score is known, behind a real socket."""

import hashlib
from statistics import fmean

import pytest
from command import rmeval
from judge_server import JudgeServer

from rmeval.suites import load_suite


def first_error(example):
    [grades] = example.labels.step_grades
    return next((i for i, grade in enumerate(grades) if grade == 0), -1)


def says(example):
    """Right six times in ten; else "nothing is wrong", "the first step", or nothing at all."""
    draw = int(hashlib.sha256(example.id.encode()).hexdigest(), 16) % 10
    return first_error(example) if draw < 6 else -1 if draw < 8 else 0 if draw < 9 else None


def test_a_scripted_critic_gets_the_f1_that_it_should(tmp_path):
    examples = load_suite("arithmetic-steps").load(None, 0).examples
    by_text = {(e.prompt[-1].content.strip(), e.candidates[0].steps): e for e in examples}

    def answer(body):
        shown = body["messages"][-1]["content"]
        [one] = (
            e for (prompt, steps), e in by_text.items() if prompt in shown and all(s.strip() in shown for s in steps)
        )
        said = says(one)
        return "I cannot tell." if said is None else f"I went through it. [[{said}]]"

    with JudgeServer(answer) as server:
        found = rmeval(
            "run",
            "judge:scripted",
            "--suite",
            "arithmetic-steps",
            "--base-url",
            server.url,
            "--out",
            tmp_path,
            "--json",
        )
        assert found.code == 0, found.stderr
        assert len(server.calls) == len(examples)
    answered = [e for e in examples if says(e) is not None]  # this suite's rule leaves silence missing
    hits = {
        right: [says(e) == first_error(e) for e in answered if (first_error(e) == -1) is right]
        for right in (True, False)
    }
    correct, error = (fmean(hits[right]) for right in (True, False))
    assert found.document["headline"]["value"] == pytest.approx(2 * correct * error / (correct + error), abs=1e-12)
    assert found.document["metrics"][0]["n_missing"] == len(examples) - len(answered) > 0
    assert found.document["counts"]["unparsed"] == len(examples) - len(answered)
