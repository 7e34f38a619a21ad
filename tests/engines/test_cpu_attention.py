"""Attention by blocks on a CPU is what torch's kernel makes of the same places, whatever hides some of them."""

from __future__ import annotations

import pytest
import test_prefix_tree as trees
import tiny
import torch

from rmeval.engines import attention, cpu_attention
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine

TORCH = torch.nn.functional.scaled_dot_product_attention
pytestmark = pytest.mark.skipif(not cpu_attention.available(), reason="this torch has no oneDNN")


def drawn(queries: int, keys: int, *, heads: int = 6, groups: int = 2, width: int = 16, dtype=torch.float32):
    torch.manual_seed(queries + keys)
    sizes = ((heads, queries), (groups, keys), (groups, keys))
    return tuple(torch.randn(1, n, count, width).transpose(1, 2).to(dtype) for count, n in sizes)


def mask(queries: int, keys: int, window: int | None = None, chunk: int | None = None):
    """What the last of as many places see."""
    mine, theirs = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
    seen = theirs <= mine
    if window:
        seen &= theirs > mine - window
    if chunk:
        seen &= theirs // chunk == mine // chunk
    return seen[None, None]


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(cpu_attention, "LEAST", 1)
    monkeypatch.setattr(cpu_attention, "_SCORES", 2000)  # several blocks


@pytest.mark.parametrize("how", [{}, {"window": 9}, {"window": 70}, {"chunk": 8}, {"window": 1}])
@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_what_torch_makes(always, how, shared, dtype):
    asked = drawn(60, 60 + shared, dtype=dtype)
    seen = mask(60, 60 + shared, **how)
    exact = TORCH(*(one.double() for one in asked), attn_mask=seen, scale=0.3, enable_gqa=True).transpose(1, 2)
    theirs = TORCH(*asked, attn_mask=seen, scale=0.3, enable_gqa=True).transpose(1, 2)
    with torch.no_grad():
        ours = cpu_attention.attend(*asked, None if not how and not shared else seen, scaling=0.3, blocks=[])
    assert ours.dtype == dtype
    allowed = 2 * float((theirs - exact).abs().max()) + 1e-6
    assert float((ours - exact).abs().max()) <= allowed


def test_what_it_does_not_do_is_left_to_torch(monkeypatch):
    asked = drawn(8, 8)
    with torch.no_grad():
        assert cpu_attention.attend(*asked, None, scaling=None, blocks=[]) is None  # too short to gain by it
        monkeypatch.setattr(cpu_attention, "LEAST", 1)
        assert cpu_attention.attend(*drawn(8, 8, dtype=torch.float16), None, scaling=None, blocks=[]) is None
        assert (
            cpu_attention.attend(*drawn(8, 9), None, scaling=None, blocks=[]) is None
        )  # which of them would be hidden?
        assert cpu_attention.attend(*asked, None, scaling=None, blocks=[]) is not None
    assert cpu_attention.attend(*asked, None, scaling=None, blocks=[]) is None  # gradients are wanted


@pytest.mark.parametrize("fault", ["none", "wrong", "refuses"])
def test_an_operator_that_is_not_what_it_was_is_not_used(monkeypatch, fault):
    def refuses(left, right):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(cpu_attention, "LEAST", 1)
    if fault == "none":
        monkeypatch.setattr(cpu_attention, "available", lambda: False)
    else:
        wrong = lambda left, right: left @ right.mT + 0.01  # noqa: E731
        monkeypatch.setattr(cpu_attention, "_product", wrong if fault == "wrong" else refuses)
    cpu_attention._agrees.cache_clear()
    with torch.no_grad():
        assert cpu_attention.attend(*drawn(8, 8, width=24), None, scaling=None, blocks=[]) is None
    cpu_attention._agrees.cache_clear()


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3", "phi3"])
def test_a_text_scores_as_if_it_were_alone(tmp_path, always, monkeypatch, kind):
    made = []
    monkeypatch.setattr(
        attention, "attend", lambda *given, **more: made.append(cpu_attention.attend(*given, **more)) or made[-1]
    )
    folder = tiny.classifier(tmp_path, kind=kind)
    cases = trees.groups()
    alone = trees.one_by_one(folder, [text for _, text in cases])
    for budget in (None, 24):
        engine = TransformersEngine(Checkpoint(str(folder)), batch_tokens=budget)
        found = [reply.values[0][0] for reply in engine.run(trees.requests(cases))]
        assert engine.describe()["layout"] == "prefix tree"
        assert found == pytest.approx(alone, abs=1e-5)
        assert len(made) > len(cases)
        assert not any(one is None for one in made)
