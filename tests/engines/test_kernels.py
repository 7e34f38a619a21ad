"""Kernels that attend to a packed row at once give what each text alone gives, and give way where they do not.

On this machine FlexAttention runs step by step, and compiled in the slow tests; `varlen_attn` runs on GPUs only, and
what is written of it stands in for it here.
"""

from __future__ import annotations

import random
import shutil
import weakref

import pytest
import tiny
import torch
from test_prefix_tree import groups, one_by_one, requests, words
from torch.nn.attention import flex_attention as torch_flex

from rmeval.engines import budget, kernels, states
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.prefix_tree import pack
from rmeval.engines.transformers import TransformersEngine


@pytest.fixture
def force(monkeypatch):
    """Have these kernels be tried, and no others."""
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)  # or it would be traced each time

    def forced(*names: str) -> None:
        monkeypatch.setattr(kernels, "offered", lambda device: names)

    return forced


def scores(engine, cases) -> list[float]:
    return [reply.values[0][0] for reply in engine.run(requests(cases))]


def as_it_is_written(query, key, value, *ends, scale, window_size, enable_gqa=False):
    """torch.nn.attention.varlen.varlen_attn: text by text, a text's last query and last key aligned."""
    query_ends, key_ends, most_queries, most_keys = ends
    assert window_size[1] == 0
    assert enable_gqa == (query.shape[1] != key.shape[1])
    found = torch.empty_like(query)
    for i in range(len(query_ends) - 1):
        mine, seen = (slice(int(each[i]), int(each[i + 1])) for each in (query_ends, key_ends))
        q, k, v = query[mine], key[seen], value[seen]
        assert len(q) <= most_queries
        assert len(k) <= most_keys
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
        back = torch.arange(len(q))[:, None] + len(k) - len(q) - torch.arange(len(k))[None, :]
        hidden = (back < 0) | ((back > window_size[0]) if window_size[0] >= 0 else (back < 0))
        weights = torch.einsum("qhd,khd->hqk", q, k) * scale
        found[mine] = torch.einsum("hqk,khd->qhd", weights.masked_fill(hidden, -torch.inf).softmax(-1), v)
    return found


@pytest.mark.parametrize(
    "kind",
    [
        *("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gemma", "phi", "phi3", "gpt2")),
    ],
)
def test_flex_scores_a_text_as_if_it_were_alone(tmp_path, kind, force):
    force("flex")
    folder = tiny.classifier(tmp_path, kind=kind)
    alone = one_by_one(folder, [text for _, text in groups()])
    for most in (None, 60):  # all in one pass; parts, with keys kept from part to part
        engine = TransformersEngine(Checkpoint(str(folder)), batch_tokens=most)
        assert scores(engine, groups()) == pytest.approx(alone, abs=1e-5)
        assert (engine.describe()["layout"], engine.reader.states.kernel) == ("prefix tree", "flex")


def as_it_was(query, key, value, *ends, scale, window_size):
    """The same in torch 2.11, which has every query head its own keys."""
    return as_it_is_written(query, key, value, *ends, scale=scale, window_size=window_size)


@pytest.mark.parametrize(("kind", "function"), [("llama", as_it_is_written), ("mistral", as_it_was)])
def test_texts_of_various_lengths_on_gathered_keys_score_as_if_alone(tmp_path, kind, function, force, monkeypatch):
    force("varlen")
    monkeypatch.setattr(kernels, "_varlen_attention", lambda: function)
    folder = tiny.classifier(tmp_path, kind=kind)
    alone = one_by_one(folder, [text for _, text in groups()])
    for most in (None, 24):
        engine = TransformersEngine(Checkpoint(str(folder)), batch_tokens=most)
        assert scores(engine, groups()) == pytest.approx(alone, abs=1e-5)
        assert (engine.describe()["layout"], engine.reader.states.kernel) == ("prefix tree", "varlen")


def test_soft_capping_is_no_affair_of_texts_of_various_lengths(tmp_path, force, monkeypatch):
    force("varlen")
    monkeypatch.setattr(kernels, "_varlen_attention", lambda: as_it_is_written)
    engine = TransformersEngine(Checkpoint(str(tiny.classifier(tmp_path, kind="gemma2"))))
    scores(engine, groups()[:2])
    assert engine.describe()["layout"] == "padded: varlen_attn has no soft-capping"


def test_soft_capping_is_not_left_out_where_a_class_would(tmp_path, monkeypatch):
    """Some versions of transformers (5.17) take for Gemma 2 an attention that has none."""
    from transformers.models.gemma2.modeling_gemma2 import Gemma2PreTrainedModel

    folder = tiny.classifier(tmp_path, kind="gemma2", attn_logit_softcapping=1.0)
    alone = one_by_one(folder, [text for _, text in groups()[:5]])
    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)
    for share in (True, False):
        engine = TransformersEngine(Checkpoint(str(folder)), share=share)
        assert scores(engine, groups()[:5]) == pytest.approx(alone, abs=1e-5)
        assert engine.describe()["attention"] == "eager"


def plain(rule, text):
    """Rules as transformers writes them, on tensors of places."""
    size = text
    return {
        "causal": lambda b, h, q, k: k <= q,
        "window": lambda b, h, q, k: (k <= q) & (k > q - size),
        "chunks": lambda b, h, q, k: (k <= q) & (k // size == q // size),
        "ahead": lambda b, h, q, k: k <= q + 1,
        "gaps": lambda b, h, q, k: (k <= q) & ((q - k) % 2 == 0),
    }[rule]


@pytest.mark.parametrize("rule", ["causal", "window", "chunks"])
def test_each_token_sees_its_own_text_and_no_other(rule, monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 4)
    monkeypatch.setattr(kernels, "_ROWS", 3)
    drawn = random.Random(0)
    for most in (10**9, 12, 5):
        rows, names = [], []
        for group in range(4):
            start = [drawn.randrange(9) for _ in range(drawn.randrange(9))]
            for _ in range(drawn.randrange(1, 5)):
                rows.append([*start, *(drawn.randrange(9) for _ in range(drawn.randrange(9)))] or [1])
                names.append(str(group))
        asked = plain(rule, 5)
        for packed in pack(rows, names, 40):
            where = {}  # of a text's tokens in the row
            for text, shared, start, goes_on in packed.offsets():
                where[text] = [p + (start if p < shared else goes_on) for p in range(len(rows[text]))]
            for start, end in packed.cuts(most):
                parts, kept = kernels.segments(packed, start, end)
                stem = packed.open_at(start) if start else None
                keys = [*range(stem.start, stem.start + stem.shared)] if stem else []
                assert len(keys) == kept
                keys += range(start, end)
                expected = torch.zeros(end - start, len(keys), dtype=torch.bool)
                for places in where.values():
                    for query in range(len(places)):
                        for key in range(len(places)):
                            if start <= places[query] < end and asked(0, 0, query, key):
                                expected[places[query] - start, keys.index(places[key])] = True
                first = kernels._first_seen(asked, max(one.first + one.length for one in parts), "cpu")
                mask = kernels._block_mask(kernels.stretches(parts, first), len(keys))
                q, k = torch.meshgrid(torch.arange(end - start), torch.arange(len(keys)), indexing="ij")
                assert torch.equal(mask.mask_mod(0, 0, q, k), expected)
                assert_blocks(mask, expected)


def assert_blocks(mask, expected) -> None:
    """Blocks that are called full are, those that are left out are empty."""
    size = kernels.BLOCK
    kinds = ((mask.kv_num_blocks, mask.kv_indices), (mask.full_kv_num_blocks, mask.full_kv_indices))
    for i in range(mask.kv_indices.shape[2]):
        partly, full = ({int(b) for b in order[0, 0, i, : int(number[0, 0, i])]} for number, order in kinds)
        for j in range(mask.kv_indices.shape[3]):
            block = expected[i * size : (i + 1) * size, j * size : (j + 1) * size]
            if j in full:
                assert block.all()
                assert block.shape == (size, size)
            assert bool(block.any()) == (j in partly or j in full)


def test_rules_that_no_two_stretches_describe_are_refused():
    [packed] = pack([[1] * 9, [1] * 4 + [2] * 9], ["a", "a"], 99)
    for rule, why in (("ahead", "looks ahead"), ("gaps", "leaves out places")):
        for kernel in ("flex", "varlen"):
            with pytest.raises(kernels.NotShareableError, match=why):
                kernels.row(kernel, packed, (0, packed.length), plain(rule, 3), "cpu")
    assert kernels.row("flex", packed, (0, packed.length), plain("chunks", 3), "cpu").kernel == "flex"
    with pytest.raises(kernels.NotShareableError, match="no window of one size"):
        kernels.row("varlen", packed, (0, packed.length), plain("chunks", 3), "cpu")


def test_the_fastest_that_agrees_is_kept_and_named(tiny_reward_model, force, monkeypatch):
    force("pieces", "flex", "varlen")  # the last runs nowhere but on a GPU
    monkeypatch.setattr(states, "_TIMED", 200)
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    alone = one_by_one(tiny_reward_model, [text for _, text in groups()])
    monkeypatch.setattr(states.States, "_seconds", lambda self, tokens: {"pieces": 0.2, "flex": 0.1}[self.kernel])
    assert scores(engine, groups()) == pytest.approx(alone, abs=1e-5)
    told = engine.describe()
    assert told["attention"] == "sdpa, packed rows by flex"
    assert told["attention_tried"]["pieces"] == "200.0 ms"
    assert told["attention_tried"]["flex"] == "100.0 ms"
    assert told["attention_tried"]["varlen"].startswith("its code cannot be followed")
    monkeypatch.undo()
    alone_way = TransformersEngine(engine.checkpoint)  # no choice, as on any CPU
    scores(alone_way, groups()[:2])
    assert alone_way.describe()["attention"] in ("sdpa", "sdpa, oneDNN for long pieces")  # as this torch has it
    assert "attention_tried" not in alone_way.describe()
    assert alone_way.reader.states._seconds(200) > 0


def test_a_kernel_that_is_wrong_is_not_taken_and_one_that_fails_later_gives_way(
    tiny_reward_model, force, monkeypatch, capsys
):
    force("pieces", "flex")
    monkeypatch.setattr(states, "_TIMED", 200)
    alone = one_by_one(tiny_reward_model, [text for _, text in groups()])
    with monkeypatch.context() as changed:
        changed.setattr(kernels, "_flex", lambda mask, query, *_, **__: torch.zeros_like(query.transpose(1, 2)))
        engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
        assert scores(engine, groups()) == pytest.approx(alone, abs=1e-5)
        assert engine.describe()["attention"] == "sdpa, packed rows by pieces"
        assert engine.describe()["attention_tried"]["flex"].startswith("the two ways differ by")
    monkeypatch.setattr(states.States, "_fastest", lambda self, able: able[-1])
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    assert engine.reader.model is not None
    assert engine.describe()["attention"] == "sdpa, packed rows by flex"

    def broken(*given, **more):
        raise RuntimeError("Triton Error: an illegal instruction\nmore")

    monkeypatch.setattr(kernels, "_flex", broken)
    assert scores(engine, groups()) == pytest.approx(alone, abs=1e-5)
    assert engine.describe()["attention_tried"]["flex"] == "failed: RuntimeError: Triton Error: an illegal instruction"
    assert capsys.readouterr().err.count("piece by piece from here on") == 1


def test_what_ran_out_of_memory_is_let_go_before_less_is_tried(tiny_reward_model, force):
    force("flex")
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)))
    expected = scores(engine, groups())
    held = []

    def full(module, args, given):
        assert all(one() is None for one in held)
        if given["input_ids"].numel() > 90:
            held.append(weakref.ref(given["input_ids"]))
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    engine.reader.states.body.register_forward_pre_hook(full, with_kwargs=True)
    assert scores(engine, groups()) == pytest.approx(expected, abs=1e-5)
    assert len(held) > 1
    assert engine.reader.states.kernel == "flex"  # memory is no fault of a kernel's


def test_passes_are_as_large_as_free_memory_and_what_was_needed_say(tiny_reward_model, monkeypatch):
    engine = TransformersEngine(Checkpoint(str(tiny_reward_model)), batch_tokens=4096)
    engine._measure = True  # as on a GPU where nobody asked for a number of tokens
    sizes = []

    def peak(device, run):
        run()
        return 1000 + 50 * sizes[-1]

    needs = states.States.needs

    def asked(self, tokens, head):
        rows, names = self.sample(tokens)
        sizes.append(sum(one.length for one in pack(rows, names, 10**9)))
        found = needs(self, tokens, head)
        assert found[0] == sizes[-1] <= tokens
        return found

    monkeypatch.setattr(states.States, "needs", asked)
    monkeypatch.setattr(budget, "peak", peak)
    monkeypatch.setattr(budget, "free", lambda device: 101_250)  # 80 % of it, less 1,000, at 50 each: 1,600 tokens
    assert len(scores(engine, groups())) == len(groups())
    assert engine.describe()["pass_tokens"] == 1600
    assert sizes == sorted(sizes)
    assert len(sizes) == 2


def test_a_probe_costs_what_it_costs_whatever_its_size():
    small, large = (1000, 51_000), (8000, 401_000)
    assert budget.affordable(65536, 2_001_250, small, large) == 32_000
    assert budget.affordable(65536, 10, small, large) == 1000  # that much fitted
    assert budget.affordable(500, 10, small, large) == 500
    assert budget.affordable(65536, 10**9, small, large) == 65536
    assert (
        budget.affordable(65536, 10**6, small, (1000, 51_000)) == 65536
    )  # a row so long that both probes were one text
    assert budget.affordable(65536, 10**6, small, (8000, 40_000)) == 65536


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler has some of its own
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU by g++")
@pytest.mark.parametrize("kind", ["llama", "gemma2", "mistral"])
def test_flex_compiled_scores_the_same(tmp_path, kind, force, monkeypatch):
    """By torch's compiler for CPUs, which skips blocks as that for GPUs does."""
    from torch._dynamo.utils import counters

    force("flex")
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", False)
    compiled = kernels._flex_attention(True)
    monkeypatch.setattr(kernels, "_flex_attention", lambda on_gpu: compiled)
    # a head of 16 and rows of several blocks
    folder = tiny.classifier(tmp_path, kind=kind, hidden_size=64, **({"head_dim": 16} if kind == "gemma2" else {}))
    start = words(60, 1)
    cases = [("a", f"{start} {words(40, i)}") for i in range(4)] + groups()
    alone = one_by_one(folder, [text for _, text in cases])
    for most in (None, 150):
        engine = TransformersEngine(Checkpoint(str(folder)), batch_tokens=most)
        assert scores(engine, cases) == pytest.approx(alone, abs=1e-5)
        told = engine.describe()
        assert (told["layout"], told["attention"].partition(" by ")[2]) == ("prefix tree", "flex")
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
@pytest.mark.parametrize("kernel", ["pieces", "flex", "varlen"])
def test_on_a_gpu_each_kernel_scores_what_the_model_does(tmp_path, kind, kernel, monkeypatch):
    if kernel == "varlen" and (kind == "gemma2" or "varlen" not in kernels.offered("cuda")):
        pytest.skip("not for this model, or not in this torch")
    monkeypatch.setattr(kernels, "offered", lambda device: (kernel,))
    more = {"head_dim": 16} if kind == "gemma2" else {}
    folder = tiny.classifier(tmp_path, kind=kind, hidden_size=64, max_position_embeddings=1024, **more)
    alone = one_by_one(folder, [text for _, text in groups()])
    dtype, near = ("bfloat16", 0.1) if kernel == "varlen" else ("float32", 1e-4)
    engine = TransformersEngine(Checkpoint(str(folder)), device="cuda", dtype=dtype)
    assert scores(engine, groups()) == pytest.approx(alone, abs=near * max(map(abs, alone)))
    assert engine.describe()["layout"] == "prefix tree"
    assert engine.reader.states.kernel == kernel
    assert 1 <= engine.describe()["pass_tokens"] <= 65536
