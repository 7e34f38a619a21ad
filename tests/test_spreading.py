"""Engines that work on many planned batches at once: the same results, and a stop in the middle loses nothing."""

from __future__ import annotations

import pytest
import tiny

from rmeval import runner
from rmeval.models import load_model
from rmeval.protocols import Spreads
from rmeval.store import Store
from rmeval.suites import load_suite


class Backwards:
    """The transformers engine, its batches in reverse; stops after so many."""

    name = "transformers"

    def __init__(self, inner, most: int = 10**9) -> None:
        self.inner, self.most, self.ran = inner, most, 0
        self.fingerprint, self.describe, self.plan = inner.fingerprint, inner.describe, inner.plan

    def run(self, requests):
        return self.inner.run(requests)

    def run_all(self, batches):
        for n in reversed(range(len(batches))):
            if self.ran == self.most:
                raise KeyboardInterrupt
            self.ran += 1
            yield n, self.inner.run(batches[n])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny.classifier(tmp_path_factory.mktemp("models") / "tiny")
    return load_model(str(folder), given={"engine": {"batch_tokens": 256, "truncation": "left"}})


@pytest.fixture(scope="module")
def examples():
    return load_suite("arithmetic").load(None, 0).examples[:12]


def test_the_order_of_batches_changes_nothing(model, examples):
    engine = Backwards(model.engine)
    assert isinstance(engine, Spreads)
    spread, plain = (runner.run(examples, model.scorer, by) for by in (engine, model.engine))
    assert engine.ran > 2
    assert spread.judgements == plain.judgements
    assert (spread.counts.computed, spread.counts.tokens) == (plain.counts.computed, plain.counts.tokens)


def test_a_stop_in_the_middle_keeps_what_was_done_and_the_end_is_the_same(model, examples, tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(KeyboardInterrupt):
            runner.run(examples, model.scorer, Backwards(model.engine, most=2), store)
        again = Backwards(model.engine)
        resumed = runner.run(examples, model.scorer, again, store)
        whole = runner.run(examples, model.scorer, model.engine)
        batches = len(model.engine.plan(runner.plan(examples, model.scorer, None)[1]).batches)
        assert again.ran == batches - 2
        assert resumed.counts.cached > 0
        assert resumed.judgements == whole.judgements
        cached = runner.run(examples, model.scorer, again, store)
        assert cached.counts.computed == 0
        assert again.ran == batches - 2
