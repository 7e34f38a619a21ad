"""Outcome, value and implicit scorers: aggregates by hand, prefixes, the same weights as other heads, the way to results."""

from __future__ import annotations

import json
import math

import pytest
import step_models as sm
import torch
from command import rmeval

import rmeval as package
from rmeval import runner
from rmeval.errors import UsageError
from rmeval.models import load_model
from rmeval.scorers.implicit import ImplicitScorer
from rmeval.scorers.outcome import OVER_TOKENS, OutcomeScorer, tenths
from rmeval.scorers.value import ValueScorer, advantages
from rmeval.types import Candidate, Example, Labels, Message, Reply, View

ASKED = "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"


def example(*steps: str, name: str = "x", between: str = "\n") -> Example:
    return Example(
        name, (Message("user", "What is 2 + 2?"),), (Candidate(between.join(steps), steps),), Labels((1.0,)), "s",
        cluster=name,
    )  # fmt: skip


def trained(folder, kind: str, **more):
    """A checkpoint as `rmeval train orm` or `value` leaves it, with random weights."""
    about = {"kind": kind, "aggregate": "last"}
    return sm.saved(folder, "qwen2", "AutoModelForTokenClassification", num_labels=1, rmeval=about, **more)


def answers(scorer, *tokens: float):
    """The score that a scorer gives when a response's tokens read so."""
    view = View("x", (Message("user", "?"),), (Candidate("a b c"),), (0,))
    talk = scorer.score(view)
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send([Reply(tuple((z,) for z in tokens), n_tokens=9)])
    return end.value.value


def test_aggregates_of_three_tokens_by_hand():
    p = [0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))]  # .5 .731059 .880797
    expected = {
        "last": 0.880797, "mean": 0.703952, "min": 0.5, "prod": 0.321957, "logprod": math.log(0.321957),
        "mean_logit": p[1],
    }  # fmt: skip
    assert {name: answers(OutcomeScorer(aggregate=name), 0.0, 1.0, 2.0).value for name in OVER_TOKENS} == pytest.approx(
        expected, abs=1e-6
    )


def test_a_product_over_many_tokens_vanishes_and_its_logarithm_does_not():
    long, longer = [-3.0] * 400, [-3.0] * 500
    assert OVER_TOKENS["prod"](long) == OVER_TOKENS["prod"](longer) == 0.0
    assert OVER_TOKENS["logprod"](long) > OVER_TOKENS["logprod"](longer)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_token_without_a_number_leaves_the_response_without(bad):
    score = answers(OutcomeScorer(), 0.0, bad, 2.0)
    assert (math.isnan(score.value), score.reason) == (True, "non_finite")


def test_misspelt_aggregates_name_the_near_one():
    with pytest.raises(UsageError, match="mean_logit"):
        OutcomeScorer(aggregate="mean_logits")
    with pytest.raises(UsageError, match="no such aggregate over tokens"):
        ValueScorer(aggregate="prod")


def test_the_advantage_table():
    values = (0.45, 0.55, 0.62, 0.68, 0.73)
    found = advantages(values, 0.73)
    assert found == pytest.approx((0.28, 0.18, 0.11, 0.05, 0.0))
    assert sum(a * a for a in found) / 5 == pytest.approx(0.02508)
    assert answers(ValueScorer(), *values).value == 0.73
    assert answers(ValueScorer(aggregate="min"), *values).value == 0.45


def test_tenths_are_the_last_tokens_of_each_tenth():
    assert tenths(100) == [9, 19, 29, 39, 49, 59, 69, 79, 89, 99]
    assert answers(ValueScorer(), *map(float, range(20))).prefixes == (1, 3, 5, 7, 9, 11, 13, 15, 17, 19)


@pytest.mark.parametrize(("kind", "link"), [("orm", torch.sigmoid), ("value", lambda z: z)])
def test_a_checkpoint_of_ours_is_read_at_every_response_token_closing_included(tmp_path, kind, link):
    model = trained(tmp_path, kind)
    loaded = load_model(str(tmp_path))
    text, (before, closing, _) = sm.ends(ASKED, "It is\n4.<|im_end|>", "\n", "")
    read = link(sm.logits(model, text)[:, 0])
    [row] = runner.run([example("It is", "4.")], loaded.scorer, loaded.engine).judgements
    assert row.scores[0] == pytest.approx(float(read[closing]), abs=1e-6)
    assert row.prefix_scores[0][0] == pytest.approx(float(read[before + 1]), abs=1e-6)
    assert row.prefix_scores[0][-1] == row.scores[0]
    mean = load_model(str(tmp_path), given={"scorer": {"aggregate": "mean"}})
    [row] = runner.run([example("It is", "4.")], mean.scorer, mean.engine).judgements
    assert row.scores[0] == pytest.approx(float(read[before + 1 : closing + 1].mean()), abs=1e-6)


@pytest.mark.parametrize(("kind", "link"), [("orm", torch.sigmoid), ("value", lambda z: z)])
def test_on_steps_it_says_what_it_says_of_the_prefix_alone(tmp_path, kind, link):
    model = trained(tmp_path, kind)
    loaded = load_model(str(tmp_path))
    [row] = runner.run([example("It is", "2 + 2", "4.")], loaded.scorer, loaded.engine, by_step=True).judgements
    alone = [ASKED + "It is\n", ASKED + "It is\n2 + 2\n", ASKED + "It is\n2 + 2\n4."]
    expected = [float(link(sm.logits(model, prefix)[-1, 0])) for prefix in alone]
    assert row.step_scores[0] == pytest.approx(expected, abs=1e-5)


def test_the_same_weights_say_the_same_as_a_preference_head_at_the_last_token(tmp_path):
    import transformers

    model = trained(tmp_path / "orm", "orm")
    with torch.no_grad():
        model.score.bias.zero_()
    model.save_pretrained(tmp_path / "orm")
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "orm")
    whole.save_pretrained(tmp_path / "bt")
    tokens = sm.byte_tokenizer(sm.CHATML.replace("<|im_end|>\n", "<|im_end|>"))  # the last token is the closing one
    for name in ("orm", "bt"):
        tokens.save_pretrained(tmp_path / name)
    sm.change_config(tmp_path / "bt", rmeval={"kind": "bt"})
    scores = []
    for name in ("orm", "bt"):
        loaded = load_model(str(tmp_path / name))
        [row] = runner.run([example("It is", "4.")], loaded.scorer, loaded.engine).judgements
        scores.append(row.scores[0])
    assert scores[0] == pytest.approx(1 / (1 + math.exp(-scores[1])), abs=1e-6)


@pytest.mark.parametrize("mode", ["ratio", "sum", "avg", "norm"])
def test_implicit_rewards_of_a_response_in_every_mode(tmp_path, mode):
    policy = sm.saved(tmp_path / "p", "qwen2", "AutoModelForCausalLM", seed=1)
    reference = sm.saved(tmp_path / "r", "qwen2", "AutoModelForCausalLM", seed=2)
    question = "What is 2 + 2?"  # the response repeats the prompt, and is counted once
    given = {"mode": mode} | ({"reference": str(tmp_path / "r"), "beta": 0.1} if mode == "ratio" else {})
    loaded = load_model(str(tmp_path / "p"), scorer="implicit", given={"scorer": given})
    text, (before, closing, _) = sm.ends(ASKED, f"{question}<|im_end|>", "\n", "")
    ids = torch.tensor(sm.ids_of(text))
    seen = [sm.logits(m, text).log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0] for m in (policy, reference)]
    p, r = (row[before:closing] for row in seen)  # of tokens before+1 .. closing
    expected = {"ratio": 0.1 * (p - r).sum(), "sum": p.sum(), "avg": p.mean(), "norm": -p.norm()}[mode]
    [row] = runner.run([example(question)], loaded.scorer, loaded.engine).judgements
    assert row.scores[0] == pytest.approx(float(expected), abs=1e-4)


def test_without_a_reference_there_is_no_ratio_and_no_step(tmp_path, capsys):
    sm.saved(tmp_path / "p", "qwen2", "AutoModelForCausalLM")
    load_model(str(tmp_path / "p"), scorer="implicit", given={"scorer": {"reference": str(tmp_path / "p")}})
    assert "policy and reference are the same weights" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"-a scorer.reference=MODEL.*scorer.mode=avg"):
        load_model(str(tmp_path / "p"), scorer="implicit")
    with pytest.raises(UsageError, match=r"scorer.referense: no such argument. Did you mean 'reference'"):
        load_model(str(tmp_path / "p"), scorer="implicit", given={"scorer": {"referense": "r"}})
    sm.saved(tmp_path / "bt", "qwen2", "AutoModelForSequenceClassification", num_labels=1)
    with pytest.raises(UsageError, match="reference .*bt: Qwen2ForSequenceClassification is no language model"):
        load_model(str(tmp_path / "p"), scorer="implicit", given={"scorer": {"reference": str(tmp_path / "bt")}})
    loaded = load_model(str(tmp_path / "p"), scorer="implicit", given={"scorer": {"mode": "avg"}})
    with pytest.raises(UsageError, match="no sound conversion to steps"):
        runner.run([example("a", "b")], loaded.scorer, loaded.engine, by_step=True)
    assert ImplicitScorer().by_step
    assert not ImplicitScorer(mode="sum").by_step


def numbers(document) -> tuple[float | None, ...]:
    return tuple(metric["value"] for metric in document["metrics"] if metric["name"] == "accuracy")


def test_from_the_command_line_to_results_and_back(tmp_path):
    trained(tmp_path / "orm", "orm")
    out, store = tmp_path / "results", tmp_path / "s.sqlite"
    run = ("run", tmp_path / "orm", "--limit", 20, "--out", out, "--store", store, "--json")
    steps = rmeval(*run, "--suite", "arithmetic-steps")
    assert steps.code == 0, steps.stderr
    assert steps.document["scorer"]["kind"] == "outcome"
    assert steps.document["headline"]["name"] == "F1"
    whole = rmeval(*run, "--suite", "arithmetic")
    assert whole.code == 0, whole.stderr
    [path] = (out / "orm" / "arithmetic").glob("*Z-*[0-9a-f].json")
    rows = package.load_result(path).judgements
    assert all(len(curve) == 10 for j in rows for curve in j.prefix_scores)
    again = rmeval(*run[:-1], "--suite", "arithmetic", "-a", "scorer.aggregate=min", "--json")
    counts = again.document["counts"]
    assert counts["cached"] > 0  # the stored readings of all tokens, no model
    assert numbers(again.document) != numbers(whole.document)


def test_aggregates_of_steps_are_swept_without_a_model(tmp_path):
    labels = {0: "incorrect", 1: "neutral", 2: "correct"}
    about = {"kind": "prm", "aggregate": "min", "step_separator": "\n\n"}
    sm.saved(tmp_path / "prm", "qwen2", "AutoModelForTokenClassification", num_labels=3, id2label=labels, rmeval=about)
    done = rmeval(
        "run", tmp_path / "prm", "--suite", "arithmetic", "--limit", 30, "--out", tmp_path, "--store", tmp_path / "s"
    )
    assert done.code == 0, done.stderr
    [path] = (tmp_path / "prm" / "arithmetic").glob("*Z-*[0-9a-f].json")
    assert json.loads(path.read_text())["metric_options"] == {}  # its own aggregate is the scorer's, and official
    values = {}
    for name in ("own", "min", "prod", "mean", "last"):
        again = rmeval("rescore", path, "-a", f"metric.aggregate={name}", "--json")
        assert again.code == 0, again.stderr
        values[name] = numbers(again.document)
    assert values["own"] == values["min"]
    assert len(set(values.values())) > 2


def test_rewards_and_step_scores_of_a_users_own_texts(tmp_path):
    labels = {0: "incorrect", 1: "neutral", 2: "correct"}
    about = {"kind": "prm", "aggregate": "min", "step_separator": "\n\n"}
    sm.saved(tmp_path / "prm", "qwen2", "AutoModelForTokenClassification", num_labels=3, id2label=labels, rmeval=about)
    rows = [
        {"prompt": "What is 2 + 2?", "response": "Two and two.\n\nFour."},
        {"prompt": "What is 2 + 2?", "response": "x" * 3000},
        {"prompt": "What is 2 + 2?", "response": " "},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = rmeval("score", tmp_path / "prm", tmp_path / "rows.jsonl", "--store", tmp_path / "s")
    assert done.code == 3  # two have no score
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first["score"] == min(first["step_scores"])
    assert len(first["step_scores"]) == 2
    assert (second["score"], second["reason"], second["step_scores"]) == (None, "truncated", [None])
    assert (third["score"], third["reason"]) == (None, "no_steps")


@pytest.mark.parametrize(
    ("kind", "config", "scorer", "said"),
    [
        ("AutoModelForSequenceClassification", {"num_labels": 1}, "process", "gives one number per text"),
        ("AutoModelForTokenClassification", {"num_labels": 1}, "scalar", "it has nothing to read"),
        ("AutoModelForTokenClassification", {"num_labels": 1}, None, "does not say what they mean"),
        ("AutoModelForCausalLM", {}, "value", "language model without a reward head"),
        ("AutoModelForTokenClassification", {"num_labels": 1}, "implicit", "as implicit it has nothing to read"),
    ],
)
def test_what_a_checkpoint_cannot_be_read_as_is_said(tmp_path, kind, config, scorer, said):
    sm.saved(tmp_path, "qwen2", kind, **config)
    with pytest.raises(UsageError, match=said):
        load_model(str(tmp_path), scorer=scorer)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beta": 0.0}, r"scorer.beta=0.0: above 0"),
        ({"beta": math.nan}, "above 0"),
        ({"link": "tanh"}, "one of sigmoid"),
    ],
)
def test_implicit_settings_that_mean_nothing_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        ImplicitScorer(**given)


@pytest.mark.parametrize("scorer", [OutcomeScorer(), ImplicitScorer(mode="sum")])
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(reason="too_long", n_tokens=9, truncated=True), "too_long"),
        (Reply(((1.0,), (), (2.0,)), n_tokens=9, truncated=True), "truncated"),
        (Reply((), n_tokens=9, truncated=True), "no_tokens"),
        (Reply(((1.0,), (math.nan,)), n_tokens=9, truncated=True), "non_finite"),
    ],
)
def test_what_was_not_read_has_its_reason_and_no_value(scorer, reply, reason):
    talk = scorer.score(View("x", (Message("user", "?"),), (Candidate("a b c"),), (0,)))
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send([reply])
    got = end.value.value
    assert math.isnan(got.value)
    assert (got.reason, got.n_tokens, got.truncated) == (reason, 9, True)


@pytest.mark.parametrize("scorer", [OutcomeScorer(), ImplicitScorer()])
def test_steps_that_a_model_could_not_read_are_missing_each(scorer):
    view = View("x", (Message("user", "?"),), (Candidate("a\n\nb", ("a", "b")),), (0,), by_step=True)
    talk = scorer.score(view)
    asked = next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send([Reply(reason="too_long", n_tokens=9)] * len(asked))
    got = end.value.value
    assert (got.reason, got.step_reasons) == ("too_long", ("too_long", "too_long"))
    assert all(map(math.isnan, got.steps))
