"""Labels never reach a scorer; a run resumes and ends equal; missing stays missing."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random

import pytest
import tiny

from rmeval import runner
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.scorers.baseline import Constant, Length, Markdown, Random, Shortness
from rmeval.scorers.scalar import ScalarScorer
from rmeval.store import Store
from rmeval.types import Candidate, Example, Labels, Message, Reply, Score, Text, View
from rmeval.types import Request as Asked
from rmeval.views import views


def example(name: str, *texts: str, grades=None) -> Example:
    return Example(
        id=name,
        prompt=(Message("user", f"question {name} ?"),),
        candidates=tuple(Candidate(t) for t in texts),
        labels=Labels(tuple(grades or (1.0,) + (0.0,) * (len(texts) - 1))),
        subset="all",
        cluster=name,
    )


def many(n: int, k: int = 2, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    return [
        example(f"e{i}", *(" ".join(rng.choices(tiny.WORDS, k=rng.randint(2, 30))) for _ in range(k))) for i in range(n)
    ]


class Spy:
    """A scorer that keeps all it is shown."""

    name = "spy"
    arity = "one"

    def __init__(self):
        self.views: list[View] = []

    def identity(self):
        return {}

    def score(self, view):
        self.views.append(view)
        return Score(0.0)
        yield []


def reachable(value: object, depth: int = 6) -> set[type]:
    """Every type that can be reached from a value through its fields."""
    found = {type(value)}
    if depth and dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            found |= reachable(getattr(value, field.name), depth - 1)
    elif depth and isinstance(value, tuple):
        for item in value:
            found |= reachable(item, depth - 1)
    return found


def test_labels_cannot_be_reached_from_a_view():
    spy = Spy()
    runner.run(many(20, k=4), spy)
    assert Labels not in set().union(*(reachable(v) for v in spy.views))
    assert not {"grades", "labels", "subset", "group"} & {f.name for f in dataclasses.fields(View)}
    assert not {"grade", "label"} & {f.name for f in dataclasses.fields(Candidate)}


def test_what_a_scorer_is_shown_does_not_depend_on_the_labels():
    # the same texts, graded the other way round and listed the other way round, look the same
    forward, backward = Spy(), Spy()
    runner.run([example("x", "long answer", "short", "third")], forward)
    runner.run([example("x", "third", "short", "long answer", grades=(0.0, 1.0, 0.0))], backward)
    assert forward.views == backward.views


def test_position_in_a_view_says_nothing_about_the_label():
    spy = Spy()
    examples = many(2000)
    runner.run(examples, spy)
    chosen = {e.id: e.candidates[0].text for e in examples}
    first = sum(v.order == (0,) and v.candidates[0].text == chosen[v.id] for v in spy.views)
    assert 900 < first < 1100


def test_scores_come_back_in_data_set_order():
    examples = [example("a", "xx", "x", "xxx"), example("b", "", "xxxx")]
    outcome = runner.run(examples, Length())
    assert [j.scores for j in outcome.judgements] == [(2.0, 1.0, 3.0), (0.0, 4.0)]
    assert [j.lengths for j in outcome.judgements] == [(2, 1, 3), (0, 4)]
    assert runner.run(examples, Shortness()).judgements[0].scores == (-2.0, -1.0, -3.0)
    assert runner.run(examples, Constant()).judgements[1].scores == (0.0, 0.0)


def test_random_is_uniform_seeded_and_blind_to_order():
    examples = many(500)
    draws = [s for j in runner.run(examples, Random(seed=1)).judgements for s in j.scores]
    assert draws == [s for j in runner.run(examples, Random(seed=1)).judgements for s in j.scores]
    assert draws != [s for j in runner.run(examples, Random(seed=2)).judgements for s in j.scores]
    assert 0.45 < sum(draws) / len(draws) < 0.55
    assert 0 <= min(draws) <= max(draws) < 1


def test_markdown_counts_marks():
    text = "# Title\n\n- one **bold**\n- two\n1. three\n"
    [judgement] = runner.run([example("m", text, "plain text, 2 * 3 - 1")], Markdown()).judgements
    assert judgement.scores == (6.0, 0.0)


def model(folder, **options):
    return ScalarScorer(), TransformersEngine(Checkpoint(str(folder)), **options)


class Killed(BaseException):
    """As sudden as a signal."""


@pytest.mark.fault("F19")
def test_f19_a_killed_run_resumes_and_ends_equal(tiny_reward_model, tmp_path, monkeypatch):
    examples = many(40)
    scorer, engine = model(tiny_reward_model, batch_tokens=120)
    undisturbed = runner.run(examples, scorer, engine)
    batches = len(engine.plan([r for _, v in views(examples, scorer) for r in next(scorer.score(v))]).batches)
    assert batches > 10

    calls = itertools.count()
    plain = TransformersEngine.run

    def dies(self, requests):
        if next(calls) == 7:
            raise Killed
        return plain(self, requests)

    with Store(tmp_path / "s.sqlite") as store:
        monkeypatch.setattr(TransformersEngine, "run", dies)
        with pytest.raises(Killed):
            runner.run(examples, scorer, engine, store)
        monkeypatch.setattr(TransformersEngine, "run", plain)
        resumed = runner.run(examples, *model(tiny_reward_model, batch_tokens=120), store)
    assert resumed.judgements == undisturbed.judgements  # to the last bit
    assert resumed.counts.cached > 0
    assert resumed.counts.cached + resumed.counts.computed == undisturbed.counts.computed


@pytest.mark.fault("F19")
def test_a_batch_that_is_partly_stored_is_computed_whole(tiny_reward_model, tmp_path):
    examples = many(12)
    with Store(tmp_path / "s.sqlite") as store:
        runner.run(examples[:1], *model(tiny_reward_model), store)
        outcome = runner.run(examples, *model(tiny_reward_model, batch_size=1000, batch_tokens=10**6), store)
    assert (outcome.counts.cached, outcome.counts.computed) == (0, 24)


@pytest.mark.fault("F27")
def test_stored_replies_are_used_whatever_the_batch_size_and_not_after_a_change(tiny_reward_model, tmp_path):
    examples = many(12)
    with Store(tmp_path / "s.sqlite") as store:
        runner.run(examples, *model(tiny_reward_model, batch_size=8), store)
        again = runner.run(examples, *model(tiny_reward_model, batch_size=3), store)
        shorter = runner.run(examples, *model(tiny_reward_model, max_length=100), store)
    assert (again.counts.cached, again.counts.computed) == (24, 0)
    assert (shorter.counts.cached, shorter.counts.computed) == (0, 24)


def test_identical_texts_are_asked_once(tiny_reward_model):
    outcome = runner.run([example("a", "good", "good"), example("b", "good", "bad")], *model(tiny_reward_model))
    assert outcome.judgements[0].scores[0] == outcome.judgements[0].scores[1]
    assert (outcome.counts.requests, outcome.counts.computed) == (4, 3)


@pytest.mark.fault("F15")
def test_a_missing_score_keeps_its_reason(tiny_reward_model):
    outcome = runner.run([example("a", "good " * 50, "bad")], *model(tiny_reward_model, max_length=30))
    [judgement] = outcome.judgements
    assert math.isnan(judgement.scores[0])
    assert judgement.reasons == ("truncated", None)
    assert judgement.truncated == (True, False)
    assert (outcome.counts.errors, outcome.counts.truncated) == (1, 1)


@pytest.mark.fault("F10")
def test_non_finite_logits_are_missing(tiny_reward_model, monkeypatch):
    monkeypatch.setattr(TransformersEngine, "run", lambda self, rs: [Reply(((math.inf,),)) for _ in rs])
    outcome = runner.run([example("a", "good", "bad")], *model(tiny_reward_model))
    assert outcome.judgements[0].reasons == ("non_finite", "non_finite")
    assert outcome.counts.errors == 2


def test_several_rounds_are_one_conversation(tiny_reward_model):
    class TwoRounds:
        name, arity = "two rounds", "one"

        def identity(self):
            return {}

        def score(self, view):
            [first] = yield [Asked((Text(view.candidates[0].text),))]
            if first.values[0][0] < 0:
                return Score(-1.0)
            second = yield [Asked((Text("good"),)), Asked((Text("bad"),))]
            return Score(second[0].values[0][0] - second[1].values[0][0])

    examples = many(10)
    _, engine = model(tiny_reward_model)
    outcome = runner.run(examples, TwoRounds(), engine)
    values = {s for j in outcome.judgements for s in j.scores}
    assert -1.0 in values
    assert len(values) == 2


def test_score_only_examples_cannot_be_scored_by_text():
    bare = dataclasses.replace(example("a", "x", "y"), candidates=(Candidate(None), Candidate(None)))
    with pytest.raises(UsageError, match="score-only"):
        runner.run([bare], Length())
