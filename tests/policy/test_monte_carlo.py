"""Step labels from counts of rollouts: rules, intervals, bad rows, and that training reads what is written."""

from __future__ import annotations

import json
import math

import pytest
from command import rmeval
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval.policy.monte_carlo import step_label
from rmeval.training.rows import read_steps

ROW = {"id": "a", "prompt": "What is 15 % of 80?", "steps": ["15 % is 0.15", "0.15 * 80 = 1.2"]}
COUNTS = [[92, 100], [3, 100]]
QUICK = settings(derandomize=True, max_examples=100, deadline=None, database=None)


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def label(tmp_path, *arguments, rows=({**ROW, "counts": COUNTS},)):
    """The exit's answer, and the rows written."""
    out = tmp_path / "deep" / "labelled.jsonl"
    got = rmeval("label", "mc", write_rows(tmp_path / "counts.jsonl", *rows), "-o", out, *arguments)
    return got, [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else None


def test_the_intervals_are_the_published_ones(tmp_path):
    _, [row] = label(tmp_path)
    assert [[round(end, 3) for end in ends] for ends in row["intervals"]] == [[0.85, 0.959], [0.01, 0.085]]


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        ((), [0.92, 0.03]),
        (("--rule", "any"), [True, True]),
        (("--rule", "threshold"), [True, False]),
        (("--rule", "threshold", "--threshold", "0.93"), [False, False]),
        (("--rule", "threshold", "--threshold", "0.92"), [True, False]),
    ],
)
def test_each_rule_labels_and_training_reads_it(tmp_path, flags, labels):
    got, [row] = label(tmp_path, *flags)
    assert got.code == 0
    assert row == {**ROW, "labels": labels, "counts": COUNTS, "intervals": row["intervals"]}
    soft = not flags
    [read] = read_steps(tmp_path / "deep/labelled.jsonl", soft=soft)
    assert list(read.labels) == ([0.92, 0.03] if soft else [1.0 if one else -1.0 for one in labels])
    assert f"--data {tmp_path / 'deep/labelled.jsonl'}{' --soft' if soft else ''}\n" in got.stdout


@pytest.mark.parametrize("rule", ["any", "threshold"])
def test_hard_labels_are_the_ones_that_training_makes_of_counts_itself(tmp_path, rule):
    counts = [[0, 8], [1, 8], [4, 8], [8, 8]]
    row = {"prompt": "p", "steps": list("abcd")}
    label(tmp_path, "--rule", rule, rows=[{**row, "counts": counts}])
    direct = write_rows(tmp_path / "mc.jsonl", {**row, "mc": counts})
    for soft in (True, False):
        [ours] = read_steps(tmp_path / "deep/labelled.jsonl", soft=soft)
        [theirs] = read_steps(direct, soft=soft, mc_rule=rule)
        assert ours.labels == theirs.labels


def test_a_step_without_rollouts_has_no_label(tmp_path):
    got, [row] = label(tmp_path, rows=[{**ROW, "mc": [[1, 2], None], "source": "mine"}])
    assert (row["labels"], row["counts"], row["source"]) == ([0.5, None], [[1, 2], None], "mine")
    assert row["intervals"][1] is None
    assert "mc" not in row
    [read] = read_steps(tmp_path / "deep/labelled.jsonl", soft=True)
    assert read.labels[0] == 0.5
    assert math.isnan(read.labels[1])
    assert "2 steps (1 without rollouts), 2 rollouts" in got.stdout


def test_the_summary_counts_where_rules_disagree(tmp_path):
    rows = [{**ROW, "counts": COUNTS}, {**ROW, "id": "b", "counts": [[0, 4], [5, 8]]}]
    got, _ = label(tmp_path, "--json", rows=rows)
    found = {key: value for key, value in got.document.items() if key not in {"file", "out"}}
    assert found == {
        "rule": "soft", "threshold": 0.5, "rows": 2, "steps": 4, "without_rollouts": 0, "rollouts": 212,
        "any_right": 3, "at_least_threshold": 2, "any_but_below": 1, "undecided": 1,
    }  # fmt: skip


def test_every_bad_row_is_named_and_nothing_is_written(tmp_path):
    bad = [
        {**ROW, "counts": COUNTS},
        {**ROW, "counts": [[92, 100]]},
        {**ROW, "counts": [[101, 100], [3, 100]]},
        {**ROW, "counts": [[0, 0], [3, 100]]},
        {**ROW, "counts": [[-1, 4], [3, 100]]},
        {**ROW, "counts": [[0.5, 4], [3, 100]]},
        {**ROW, "counts": [None, None]},
        {**ROW, "counts": "many"},
        {**ROW, "count": COUNTS},
        {**ROW, "counts": COUNTS, "mc": COUNTS},
        {**ROW, "counts": COUNTS, "labels": [1, -1]},
        {"steps": ROW["steps"], "counts": COUNTS},
        {**ROW, "steps": [], "counts": []},
        {**ROW, "steps": ["a", 7], "counts": COUNTS},
    ]
    got, written = label(tmp_path, rows=bad)
    assert (got.code, got.stdout, written) == (2, "", None)
    head, *faults = got.stderr.splitlines()
    assert head.endswith("counts.jsonl: 13 of 14 rows cannot be labelled")
    said = [
        "2 steps and 1 counts", "at most as many right ones as rollouts", "one rollout at least", "'counts[0]'",
        "must be [right, rollouts], found [0.5, 4]", "null for every step", "must be a list", "'count'",
        "both 'counts' and 'mc'", "has 'labels' already", "no 'prompt'", "'steps' is empty", "'steps[1]' must be a text",
    ]  # fmt: skip
    for line, (fault, words) in enumerate(zip(faults, said, strict=True), 2):
        assert fault.strip().startswith(f"counts.jsonl line {line}: ")
        assert words in fault


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rule", "sft"), "Did you mean 'soft'?"),
        (("--threshold", "0.8"), "say --rule threshold"),
        (("--rule", "threshold", "--threshold", "0"), "above 0 and at most 1"),
        (("--rule", "threshold", "--threshold", "nan"), "above 0 and at most 1"),
    ],
)
def test_bad_flags_are_refused(tmp_path, flags, words):
    got, written = label(tmp_path, *flags)
    assert (got.code, written) == (2, None)
    assert words in got.stderr


def test_bad_paths_are_refused(tmp_path):
    file = write_rows(tmp_path / "counts.jsonl", {**ROW, "counts": COUNTS})
    before = file.read_text("utf-8")
    for source, out, words in (
        (file, file, "write to another one"),
        (tmp_path / "count.jsonl", tmp_path / "o.jsonl", "counts.jsonl"),
        (write_rows(tmp_path / "empty.jsonl"), tmp_path / "o.jsonl", "no rows"),
        (file, tmp_path, "cannot be written"),
    ):
        got = rmeval("label", "mc", source, "-o", out)
        assert got.code == 2, got.stderr
        assert words in got.stderr
    assert file.read_text("utf-8") == before


@QUICK
@given(rollouts=st.integers(1, 200), share=st.floats(0, 1), threshold=st.floats(0.01, 1))
def test_intervals_hold_the_rate_and_rules_are_ordered(rollouts, share, threshold):
    right = round(share * rollouts)
    soft, any_, cut = (step_label(right, rollouts, rule, threshold) for rule in ("soft", "any", "threshold"))
    low, high = soft.interval
    assert 0 <= low <= soft.label <= high <= 1
    assert any_.label >= cut.label  # whatever reaches a threshold has a right rollout
    assert any_.label == (soft.label > 0)
