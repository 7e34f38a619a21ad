"""Rolling out: steps of known worth get their counts, locally and from a server; a kill loses at most a batch."""

from __future__ import annotations

import json
import random

import judge_server
import pytest
import step_models as sm
import torch
from command import rmeval
from transformers import AutoTokenizer

from rmeval.arithmetic.problems import draw_problems, seeded
from rmeval.arithmetic.solutions import render, right_solution, wrong_solution
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.policy.rollouts import Way, problems, roll_out
from rmeval.readers.rows import Row
from rmeval.store import Store
from rmeval.training.rows import read_steps

AHEAD = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def counting_model(folder, *, last: str, coin: str = ""):
    """A model that goes from each digit to the next and ends after `last`; after `coin` it ends every other time."""
    model = sm.saved(folder, "llama", "AutoModelForCausalLM", template=sm.CHATML + AHEAD, num_hidden_layers=1)
    tok = AutoTokenizer.from_pretrained(folder)
    table = torch.nn.functional.normalize(torch.randn(len(tok), 32, generator=torch.Generator().manual_seed(1)), dim=1)
    end = tok.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weights.zero_()  # what is left is the token's own embedding
        model.model.embed_tokens.weight.copy_(table)
        head = torch.roll(table, 1, dims=0)
        stop = table[tok.convert_tokens_to_ids(last)]
        head[end] = 2 * stop
        if coin:  # as likely as the next digit
            toss = table[tok.convert_tokens_to_ids(coin)]
            head[end] += (1 - 2 * stop @ toss) * toss
        model.lm_head.weight.copy_(40 * head)
    model.save_pretrained(folder)
    return folder


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def label(tmp_path, rows, *arguments):
    out = tmp_path / "labelled.jsonl"
    store = ("--store", tmp_path / "s.sqlite") if "--store" not in arguments else ()
    got = rmeval("label", "mc", write_rows(tmp_path / "rows.jsonl", *rows), "-o", out, *store, *arguments)
    return got, [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else None


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return counting_model(tmp_path_factory.mktemp("models") / "counts", last="7")


LOCAL = ("--step-separator", "", "--rollouts", "4", "--max-tokens", "12")


def test_a_model_that_always_arrives_and_one_that_never_does(tmp_path, model):
    # from 3 it writes 4567 and stops, from 9 it wanders on until it is cut off
    rows = [
        {"prompt": "count", "steps": ["3", "4"], "answer": "34567", "source": "mine"},
        {"prompt": "count", "steps": ["3", "4"], "answer": 4567},
        {"prompt": "count", "steps": ["3", "9"], "answer": "The digits run on.\n#### 34567"},
    ]
    got, labelled = label(tmp_path, rows, "--model", model, *LOCAL)
    assert got.code == 0, got.stderr
    assert [row["counts"] for row in labelled] == [[[4, 4], [4, 4]], [[0, 4], [0, 4]], [[4, 4], [0, 4]]]
    assert [row["labels"] for row in labelled] == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    assert labelled[0]["source"] == "mine"
    [low, high] = labelled[2]["intervals"][1]
    assert (low, round(high, 3)) == (0, 0.49)
    assert [list(read.labels) for read in read_steps(tmp_path / "labelled.jsonl", soft=True)][2] == [1.0, 0.0]
    # three rows begin alike, and their rollouts are one
    assert (
        "12 of 24 rollouts right; 4 cut off by --max-tokens, 4 without any answer; 12 texts written now" in got.stdout
    )


def test_a_step_that_succeeds_every_other_time(tmp_path):
    folder = counting_model(tmp_path / "m", last="7", coin="5")
    got, [row] = label(
        tmp_path, [{"prompt": "count", "steps": ["3"], "answer": "34567"}], "--model", folder, "--rollouts", "200",
        "--step-separator", "", "--max-tokens", "8", "--json",
    )  # fmt: skip
    [[right, rollouts]] = row["counts"]
    assert rollouts == 200
    low, high = row["intervals"][0]
    assert low < 0.5 < high
    assert got.document["made"]["right"] == right
    assert got.document["model"]["revision"].startswith("sha256:")
    assert got.document["way"] == {
        "rollouts": 200, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "seed": 0, "separator": ""
    }  # fmt: skip
    other, _ = label(
        tmp_path, [{"prompt": "count", "steps": ["3"], "answer": "34567"}], "--model", folder, "--rollouts", "200",
        "--step-separator", "", "--max-tokens", "8", "--json", "--seed", "2",
    )  # fmt: skip
    assert other.document["made"]["computed"] == 200
    assert other.document["made"]["right"] != right


class Killed(BaseException):
    """As Ctrl-C."""


def test_a_kill_loses_at_most_a_batch_and_changes_nothing(tmp_path, model):
    rows = [Row({"prompt": "count", "steps": ["1", "2", "3"], "answer": str(n)}, f"line {n}") for n in (1234567, 7)]
    asked = problems(rows, "rows")
    way = Way(rollouts=4, max_tokens=12, separator="")
    engine = TransformersEngine(Checkpoint(str(model)), batch_size=2)
    undisturbed, whole = roll_out(asked, engine, None, way)
    run, left = engine.run, [3]

    def run_until(requests):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return run(requests)

    engine.run = run_until
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(Killed):
            roll_out(asked, engine, store, way)
        engine.run = run
        resumed, tally = roll_out(asked, engine, store, way)
    assert (tally.cached, tally.computed, whole.computed) == (6, 6, 12)
    assert resumed == undisturbed
    assert [row["counts"] for row in resumed] == [[[4, 4]] * 3, [[0, 4]] * 3]


def arithmetic_policy(body):
    """The policy of the arithmetic world behind a server: it arrives from right steps three times in four."""
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    asked, begun = (turn["content"] for turn in body["messages"])
    problem = KNOWN[asked]
    truth = render(right_solution(problem), "detailed", random.Random(0))
    done = begun.removesuffix("\n").split("\n")
    rng = seeded(asked, begun, body["seed"])
    good = [step.split(" = ")[1:] for step in done] == [step.split(" = ")[1:] for step in truth[: len(done)]]
    if good and len(done) == len(truth) and done[-1] == truth[-1]:
        return judge_server.Says("")
    arrives = good and done[-1] != "Answer: ?" and rng.random() < 0.75
    rest = truth[len(done) :] if arrives else [f"Answer: {problem.answer + 1}"]
    return judge_server.Says("\n".join(rest))


KNOWN = {
    problem.text: problem for problem, _ in zip(draw_problems("train", seeded("rollouts", 1)), range(8), strict=False)
}


def test_the_arithmetic_policy_behind_a_server(tmp_path):
    rows, wrong_from = [], []
    for i, problem in enumerate(KNOWN.values()):
        rng = random.Random(i)
        solution = wrong_solution(problem, rng) if i % 2 else right_solution(problem)
        while solution.fault in ("miscopied", "skipped"):  # the results may be right by chance
            solution = wrong_solution(problem, rng)
        steps = render(solution, "detailed", random.Random(0))
        rows.append({"prompt": problem.text, "steps": list(steps), "answer": problem.answer})
        wrong_from.append(len(steps) if solution.first_wrong is None else solution.first_wrong)
    with judge_server.JudgeServer(arithmetic_policy) as server:
        where = ("--model", "policy", "--base-url", server.url, "--step-separator", r"\n", "-a", "engine.concurrency=8")
        got, labelled = label(tmp_path, rows, *where, "--rollouts", "12")
    assert got.code == 0, got.stderr
    good = [
        n
        for row, wrong in zip(labelled, wrong_from, strict=True)
        for n in row["counts"][:wrong][: len(row["steps"]) - 1]
    ]
    bad = [n for row, wrong in zip(labelled, wrong_from, strict=True) for n in row["counts"][wrong:]]
    finished = [
        row["counts"][-1] for row, wrong in zip(labelled, wrong_from, strict=True) if wrong == len(row["steps"])
    ]
    assert {right for right, _ in bad} == {0}
    assert finished == [[12, 12]] * 4
    assert {n for _, n in good} == {12}
    share = sum(right for right, _ in good) / sum(n for _, n in good)
    assert share == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / (12 * len(good))) ** 0.5)


def test_rollouts_that_fail_are_counted_nowhere_and_the_exit_says_so(tmp_path):
    def script(body):
        if body["messages"][-1]["content"].startswith("b"):
            return judge_server.Status(400, {"message": "no"})
        return "the answer is 2"

    rows = [{"prompt": "p", "steps": ["a"], "answer": 2}, {"prompt": "p", "steps": ["b"], "answer": 2}]
    with judge_server.JudgeServer(script) as server:
        got, labelled = label(tmp_path, rows, "--model", "m", "--base-url", server.url, "--rollouts", "3")
    assert got.code == 3
    assert "3 of 6 rollouts have no text (3 api_error) and are not counted" in got.stderr
    assert [row["steps"] for row in labelled] == [["a"]]
    assert labelled[0]["counts"] == [[3, 3]]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--temperature", "0"), "every rollout of a step is the same text"),
        (("--top-p", "0"), "above 0 and at most 1"),
        (("--max-tokens", "4000"), "no prompt has room"),
        (("--engine", "transfomers"), "transformers"),
    ],
)
def test_bad_flags_are_refused(tmp_path, model, flags, words):
    rows = [{"prompt": "count", "steps": ["3"], "answer": 7}]
    got, labelled = label(tmp_path, rows, "--model", model, *flags)
    assert (got.code, labelled) == (2, None)
    assert words in got.stderr


def test_bad_models_are_refused(tmp_path, tiny_reward_model):
    rows = [{"prompt": "count", "steps": ["3"], "answer": 7}]
    for flags, words in (
        (("--model", tiny_reward_model), "is no language model"),
        (("--model", "nowhere"), "not a folder and not a hub id"),
        (("--base-url", "http://127.0.0.1:1/v1"), "say --model"),
    ):
        got, labelled = label(tmp_path, rows, *flags)
        assert (got.code, labelled) == (2, None)
        assert words in got.stderr


def test_rows_with_answers_and_no_model_say_what_is_missing(tmp_path):
    got, labelled = label(
        tmp_path, [{"prompt": "count", "steps": ["3"], "answer": 7}], "--store", tmp_path / "s.sqlite"
    )
    assert (got.code, labelled) == (2, None)
    assert "no 'counts'. To roll out: --model MODEL" in got.stderr


def test_every_bad_row_is_named():
    fine = {"prompt": "p", "steps": ["a"], "answer": "7"}
    bad = [
        {**fine, "counts": [[1, 2]]}, {"prompt": "p", "steps": ["a"], "anwser": 3}, {**fine, "steps": "a"},
        {**fine, "steps": ["a", 3]}, {**fine, "answer": True}, {**fine, "answer": " "}, {"steps": ["a"], "answer": 3},
    ]  # fmt: skip
    with pytest.raises(UsageError) as fault:
        problems([Row(row, f"line {i}") for i, row in enumerate([fine, *bad])], "f.jsonl")
    head, *faults = str(fault.value).splitlines()
    assert head == "f.jsonl: 7 of 8 rows cannot be rolled out"
    said = [
        "has 'counts' already", "Did you mean 'anwser'?", "'steps' must be a list of texts", "'steps[1]' must be a text",
        "must be a text or a number, found True", "'answer' is empty", "no 'prompt'",
    ]  # fmt: skip
    for i, (line, words) in enumerate(zip(faults, said, strict=True), 1):
        assert line.strip().startswith(f"line {i}: ")
        assert words in line
