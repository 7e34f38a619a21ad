"""Rejection sampling as a command: pools written and read, luck beside the choice, and the policy that comes of it."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
from command import rmeval

from rmeval.arithmetic.problems import draw_problems, seeded
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.final_answers import final_answer, same_answer
from rmeval.policy.completions import Way, prompts_of, write_pool
from rmeval.probes.kept import beside_luck, drawn_per_prompt, sweep, training_rows
from rmeval.probes.pool import Pool, PoolRow, read_pool, to_json
from rmeval.probes.rejection import describe_choice
from rmeval.probes.selection import RULES, Choice, choose
from rmeval.training.config import make_config
from rmeval.training.rows import read_dialogues
from rmeval.training.run import train
from rmeval.types import Message, Plan, Reply

ASK = (Message("user", "How many?"),)


def made(prompts=30, n=8, seed=0, knows=1.0):
    """A pool whose rewards know the gold to a degree, of prompts that are easy or hard."""
    draw = random.Random(seed)
    rows = []
    for p in range(prompts):
        ease = draw.random()
        gold = tuple(float(draw.random() < ease) for _ in range(n))
        rewards = tuple(knows * g + draw.gauss(0, 0.4) for g in gold)
        texts = tuple(f"answer {p} {i} {'yes' * int(g)}" for i, g in enumerate(gold))
        rows.append(
            PoolRow(
                f"p{p}",
                f"p{p}",
                n,
                (Message("user", f"Question {p}?"),),
                texts,
                rewards,
                gold=gold,
                lengths=tuple(map(len, texts)),
            )
        )
    return Pool("made", tuple(rows))


def pool_file(path, pool):
    path.write_text("".join(to_json(row) + "\n" for row in pool.rows), "utf-8")
    return path


def curve(curves, panel, name):
    return next(c for c in curves if (c.panel, c.name) == (panel, name))


# --- beside luck, over the share kept --------------------------------------------------------------------------------


def test_the_draws_beside_a_choice_have_its_counts():
    pool = made()
    for how in (Choice("top", k=3), Choice("top-k", k=40), Choice("threshold", threshold=0.6), Choice("rso", k=2)):
        found = beside_luck(pool, how)
        counts = [[row for row, _ in one.chosen] for one in (found.chosen, found.per_prompt, found.whole_pool)]
        assert counts[0] == counts[1]  # as many of each prompt
        assert len(counts[2]) == len(counts[0])
        assert len(set(found.whole_pool.chosen)) == len(counts[0])
        assert found.chosen.figure("within").ci[0] > 0
        assert abs(found.per_prompt.figure("within").value) < found.chosen.figure("within").value / 2


def test_as_many_per_prompt_are_what_the_random_rule_draws():
    pool = made()
    for k in (1, 3, 8):
        assert drawn_per_prompt(pool, choose(pool, Choice("top", k=k)), seed=5) == choose(
            pool, Choice("random", k=k, seed=5)
        )


def test_luck_has_on_average_what_the_expectation_says():
    pool = made()
    chosen = choose(pool, Choice("top-k", k=50))
    one = describe_choice(pool, chosen, replicates=50)
    drawn = [
        fmean(pool.rows[r].gold[i] for r, i in drawn_per_prompt(pool, chosen, seed)) for seed in range(400)
    ]  # fmt: skip
    assert fmean(drawn) == pytest.approx(one.figure("gold").value - one.figure("within").value, abs=0.02)


@pytest.mark.parametrize("rule", RULES)
def test_a_sweep_goes_from_few_to_many_and_holds_the_choice_asked_for(rule):
    pool = made()
    how = Choice(rule, k=3 if rule in ("top", "rso", "random") else 33, threshold=0.77, seed=2)
    curves = sweep(pool, how)
    gold = curve(curves, "gold of the kept", rule)
    shares = [point.at for point in gold.points]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    asked = choose(pool, how)
    point = next(p for p in gold.points if p.n == len(asked))
    assert point.at == len(asked) / 240
    assert point.value == pytest.approx(fmean(pool.rows[r].gold[i] for r, i in asked))
    last = curve(curves, "uplift", "uplift").points[-1]
    assert last.value == pytest.approx(0)  # all are kept
    if rule == "top-k":
        assert curve(curves, "prompts kept", "coverage").points[0].value < 1
        assert curve(curves, "uplift", "easy prompts").points[0].value > 0


def test_a_sweep_without_gold_or_texts_says_so():
    bare = Pool("bare", tuple(PoolRow(f"p{i}", f"p{i}", 4, rewards=(0.1, 0.2, 0.3, 0.4)) for i in range(5)))
    curves = sweep(bare, Choice("top"))
    assert curve(curves, "gold of the kept", "top").undefined == "the pool has no gold"
    assert curve(curves, "drift", "variety").undefined == "the pool has no texts"
    assert [p.value for p in curve(curves, "prompts kept", "coverage").points] == [1, 1, 1]
    with pytest.raises(UsageError, match="no texts to train on"):
        training_rows(bare, choose(bare, Choice("top")))


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_reads_chooses_exports_and_draws(tmp_path):
    pool = made()
    path = pool_file(tmp_path / "pool.jsonl", pool)
    out, export = tmp_path / "out", tmp_path / "sft" / "chosen.jsonl"
    got = rmeval("probe", "rejection", path, "-k", 2, "-o", out, "--export", export, "--json")
    assert got.code == 0, got.stderr
    document = got.document
    assert json.loads((out / "rejection.json").read_text()) == document
    assert (out / "rejection.svg").stat().st_size > 5000
    assert (out / "rejection.png").stat().st_size > 5000
    asked = choose(pool, Choice("top", k=2))
    assert document["chosen"] == [[f"p{row}", i] for row, i in asked]
    assert document["rule"] == {"rule": "top", "k": 2, "normalise": "none", "seed": 0}
    figures = {one["name"]: one for one in document["figures"]}
    assert figures["uplift"]["ci"][0] > 0
    assert figures["uplift"]["per_prompt"]["value"] < figures["uplift"]["value"]
    rows = [json.loads(line) for line in export.read_text("utf-8").splitlines()]
    assert [(row["id"], row["candidate"]) for row in rows] == [(f"p{r}/{i}", i) for r, i in asked]
    # what train sft reads
    read = read_dialogues(str(export))
    assert [one.messages[-1]["content"] for one in read] == [pool.rows[r].completions[i] for r, i in asked]
    assert read[0].messages[0] == {"role": "user", "content": "Question 0?"}


def test_the_table_says_what_stands_in_it(tmp_path):
    got = rmeval("probe", "rejection", pool_file(tmp_path / "p.jsonl", made(8)), "--rule", "top-k", "-k", 10)
    assert "top-k (k 10, normalise none, seed 0)" in got.stdout
    assert "per prompt, whole pool: as many drawn of each prompt, and of all candidates" in got.stdout
    assert "easy prompts" in got.stdout


def test_missing_rewards_are_counted_and_never_chosen(tmp_path):
    pool = made(6, 4)
    rows = list(pool.rows)
    best = max(range(4), key=lambda i: rows[0].rewards[i])
    rewards = tuple(math.nan if i == best else r for i, r in enumerate(rows[0].rewards))
    rows[0] = PoolRow("p0", "p0", 4, rows[0].prompt, rows[0].completions, rewards, gold=rows[0].gold)
    got = rmeval("probe", "rejection", pool_file(tmp_path / "p.jsonl", Pool("p", tuple(rows))), "--json")
    assert ["p0", best] not in got.document["chosen"]
    assert got.document["notes"] == ["1 candidates have no reward and were never chosen for one"]


def test_constant_rewards_choose_the_first_and_gain_nothing_by_it(tmp_path):
    flat = Pool("flat", tuple(
        PoolRow(row.id, row.id, row.n, row.prompt, row.completions, (1.0,) * row.n, gold=row.gold) for row in made().rows
    ))  # fmt: skip
    document = rmeval("probe", "rejection", pool_file(tmp_path / "p.jsonl", flat), "--json").document
    assert {i for _, i in document["chosen"]} == {0}
    low, high = next(one for one in document["figures"] if one["name"] == "within")["ci"]
    assert low < 0 < high


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no pool: name a RESULT, POOL or SUITE"),
        (("POOL", "--generate", "x", "--prompts", "y"), "both a pool and --generate"),
        (("--generate", "x"), "go together"),
        (("POOL", "--prompts", "x"), "go together"),
        (("POOL", "--base-url", "http://127.0.0.1:1"), "--base-url: is where the model of --generate runs"),
        (("POOL", "--rule", "topk"), "Did you mean 'top-k'"),
        (("POOL", "--normalise", "z"), "--normalise z: one of none, zscore, rank"),
        (("POOL", "-k", 0), "k = 0: at least 1"),
        (("POOL", "--rule", "top-k", "-k", 999), "top-k of 999, and there are 240 candidates"),
        (("POOL", "--rule", "threshold", "--threshold", 99), "lower the threshold"),
        (("POOL", "--rule", "rso", "--beta", 0), "beta = 0.0: above 0"),
        (("POOL", "--rule", "threshold", "--threshold", "nan"), "threshold = nan"),
        (("POOL", "--finetune", "x"), "needs --held-out"),
        (("POOL", "--held-out", "x"), "--held-out: goes with --finetune"),
        (("POOL", "--temperature", 0), "--temperature 0: above 0"),
        (("POOL", "--scorer", "lenght"), "length"),
        (("--generate", "x", "--prompts", "none.jsonl"), "--prompts none.jsonl: no such file"),
    ],
)
def test_bad_input_is_named(tmp_path, arguments, said):
    path = pool_file(tmp_path / "pool.jsonl", made())
    got = rmeval("probe", "rejection", *(path if a == "POOL" else a for a in arguments))
    assert got.code == 2
    assert said in got.stderr


def test_a_pool_without_rewards_asks_for_a_scorer(tmp_path):
    bare = Pool("p", tuple(PoolRow(r.id, r.id, r.n, r.prompt, r.completions, gold=r.gold) for r in made().rows))
    path = pool_file(tmp_path / "p.jsonl", bare)
    got = rmeval("probe", "rejection", path)
    assert got.code == 2
    assert "Score the pool first" in got.stderr
    scored = rmeval(
        "probe", "rejection", path, "--scorer", "length", "-o", tmp_path, "--store", tmp_path / "s", "--json"
    )
    assert scored.code == 0, scored.stderr
    assert scored.document["scorer"]["name"] == "length"
    written = read_pool(tmp_path / "pool.jsonl")
    assert [row.rewards for row in written.rows] == [tuple(map(float, row.lengths)) for row in written.rows]


# --- pools that a model writes ---------------------------------------------------------------------------------------


def test_the_answer_of_a_suites_prompt_is_the_one_its_right_candidates_state():
    drawn = itertools.islice(draw_problems("test", seeded("arithmetic", 0)), 400)
    truth = {problem.text: str(problem.answer) for problem in drawn}
    asked = prompts_of("arithmetic")
    assert len({one.prompt for one in asked}) == len(asked)
    known = [one for one in asked if one.prompt[0].content in truth]
    assert len(known) > 100
    assert all(one.answer == truth[one.prompt[0].content] for one in known)


def test_prompts_of_a_file_and_their_faults(tmp_path):
    path = tmp_path / "prompts.jsonl"

    def write(*rows):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    write({"prompt": "2+2?", "answer": 4}, {"id": "b", "prompt": "Who?"}, {"prompt": "3+3?", "answer": "3+3=6\n#### 6"})
    assert [(one.id, one.answer) for one in prompts_of(str(path))] == [("1", "4"), ("b", None), ("3", "6")]
    write({"prompt": "2+2?", "answer": 4}, {"prompt": "2+2?", "answer": "4.0"})
    assert len(prompts_of(str(path))) == 1
    for rows, said in (
        (({"text": "2+2?"},), "no 'prompt'"),
        (({"prompt": ""},), "prompt is empty"),
        (({"id": "a", "prompt": "2+2?"}, {"id": "a", "prompt": "3?"}), "id 'a' stands in a row above"),
        (({"prompt": "2+2?", "answer": 4}, {"prompt": "2+2?", "answer": 5}), "with another answer"),
        (({"prompt": "2+2?", "answer": True},), "'answer' must be a text or a number"),
        (
            ({"prompt": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "4"}]},),
            "ends with a turn of",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            prompts_of(str(write(*rows)))


@pytest.mark.parametrize(
    ("way", "said"), [({"n": 0}, "--n 0"), ({"temperature": 0.0}, "--temperature 0"), ({"top_p": 1.1}, "--top-p 1.1")]
)
def test_ways_to_draw_no_or_only_one_completion_are_refused(way, said):
    with pytest.raises(UsageError, match=said):
        Way(**way)


class Silent:
    """An engine that has a reason instead of a text for some prompts."""

    name = "silent"

    def __init__(self, **reasons):
        self.reasons = reasons

    def fingerprint(self):
        return {"name": self.name}

    describe = fingerprint

    def plan(self, requests):
        return Plan((tuple(range(len(requests))),), (1,) * len(requests), {})

    def run(self, requests):
        asked = [request.parts[0].messages[0].content for request in requests]
        return [Reply(text="The answer is 3.", reason=self.reasons.get(one)) for one in asked]


def test_completions_that_fail_are_counted_and_none_at_all_is_an_error(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"id": name, "prompt": name, "answer": 3}) + "\n" for name in "abc"))
    asked, way = prompts_of(str(path)), Way(n=2)
    got = write_pool(asked, Silent(b="api_error"), None, way, name="said")
    assert [row.id for row in got.pool.rows] == ["a", "c"]
    assert (dict(got.failed), got.pool.complete) == ({"api_error": 2}, False)
    assert "2 completions have no text" in got.pool.notes[0]
    assert "1 prompts have no completion at all" in got.pool.notes[1]
    with pytest.raises(UsageError, match=r"not one completion was written \(2 api_error, 4 refused\)"):
        write_pool(asked, Silent(a="refused", b="api_error", c="refused"), None, way, name="said")


SAYS = ("So the answer is 3.", "So surely the answer is 7.")


def prompt(name):
    return f"Is it {name} 3 or 7?"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A small language model that has learnt to say one or the other, whatever it is asked."""
    folder = tmp_path_factory.mktemp("policy")
    rows = [{"prompt": prompt(name), "response": says} for name in "abcdefgh" * 4 for says in SAYS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model": "tiny", "data": str(folder / "rows.jsonl"), "epochs": 10, "val_ratio": 0.0}
    train(make_config("sft", {**settings, "verify_export": False, "out": folder / "model"}))
    return folder / "model"


def prompt_rows(path, *names, answer=3):
    path.write_text("".join(json.dumps({"id": n, "prompt": prompt(n), "answer": answer}) + "\n" for n in names))
    return path


def test_what_is_written_has_the_gold_and_the_answers_that_its_texts_have(policy, tmp_path):
    asked = prompts_of(str(prompt_rows(tmp_path / "p.jsonl", "a", "b", "c")))
    engine = TransformersEngine(Checkpoint(str(policy), None))
    way = Way(n=8, temperature=1.0, max_tokens=20)
    found = write_pool(asked, engine, None, way, name="said")
    assert write_pool(asked, engine, None, way, name="said").pool == found.pool
    other = write_pool(asked, engine, None, replace(way, seed=1), name="said")
    assert [row.completions for row in other.pool.rows] != [row.completions for row in found.pool.rows]
    rows = found.pool.rows
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert {gold for row in rows for gold in row.gold} == {0.0, 1.0}
    for row in rows:
        said = [final_answer(text) for text in row.completions]
        assert row.gold == tuple(float(one is not None and same_answer(one, "3")) for one in said)
        assert all(g == 1 for g, text in zip(row.gold, row.completions, strict=True) if "answer is 3 ." in text)
        for (a, one), (b, other) in itertools.combinations(zip(row.answers, said, strict=True), 2):
            assert (a == b) == (None not in (one, other) and same_answer(one, other))
    # cut off before it had stated anything: wrong, and like no other
    cut = write_pool(asked, engine, None, replace(way, max_tokens=2), name="said")
    assert cut.cut == 24
    assert {gold for row in cut.pool.rows for gold in row.gold} == {0.0}
    assert all(len(set(row.answers)) == 8 for row in cut.pool.rows)


def test_the_whole_way_from_a_policy_to_a_better_one(policy, tmp_path):
    """-length rewards the shorter texts, which are the right ones here, and the policy that is trained on them is."""
    prompts = prompt_rows(tmp_path / "p.jsonl", "a", "b", "c", "d", "e", "f")
    held_out = prompt_rows(tmp_path / "h.jsonl", *(f"{a} {b}" for a in "abcdef" for b in "gh"))
    config = tmp_path / "sft.toml"
    config.write_text("lr = 0.01\nbatch_size = 6\nepochs = 10\nverify_export = false\n")
    command = (
        *("probe", "rejection", "--generate", policy, "--prompts", prompts, "--n", 8, "--temperature", 1.0, "-k", 3),
        *("--max-tokens", 20, "--scorer", "\N{MINUS SIGN}length", "--finetune", policy, "--held-out", held_out),
        *("--config", config, "-o", tmp_path / "out", "--store", tmp_path / "s.sqlite", "--json"),
    )
    got = rmeval(*command)
    assert got.code == 0, got.stderr
    document = got.document
    assert document["written"]["computed"] == 48
    assert read_pool(tmp_path / "out" / "pool.jsonl").rows[0].n == 8
    tuned = document["finetuned"]
    assert (tuned["rows"], tuned["held_out_prompts"]) == (18, 12)
    base, chosen, matched = (point["value"] for point in tuned["gold"])
    assert chosen > 0.75
    assert tuned["difference"]["value"] == pytest.approx(chosen - matched)
    assert tuned["difference"]["ci"][0] > 0
    assert tuned["gain"]["value"] == pytest.approx(chosen - base)
    assert tuned["each"] == [pytest.approx(chosen - matched)]
    # again: nothing is written or trained anew
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/model.safetensors")}
    assert len(before) == 2
    repeated = rmeval(*command)
    assert repeated.document["written"]["computed"] == 0
    assert repeated.document["finetuned"] == tuned
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/model.safetensors")}
    # other settings do not pass for the same; the same prompts on both sides, or no answers, compare nothing
    refusals = [
        ({held_out: prompts}, "6 prompts stand in the pool too"),
        ({held_out: prompt_rows(tmp_path / "n.jsonl", "n", answer=None)}, "no prompt has an answer"),
        ({3: 2}, "holds a policy of other rows or settings"),
    ]
    for change, said in refusals:
        refused = rmeval(*(change.get(a, a) for a in command))
        assert refused.code == 2
        assert said in refused.stderr


def test_a_pool_whose_rewards_are_all_missing_says_so(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "completions": ["x", "y"], "rewards": [null, null], "gold": [0, 1]}\n')
    found = rmeval("probe", "rejection", path)
    assert (found.code, "every reward is missing" in found.stderr) == (2, True)
