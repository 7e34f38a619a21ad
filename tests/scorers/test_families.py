"""Every family's card on a tiny model of its architecture: which token, which class, which order, which link.

The expectation is written out by hand: the whole text, the places counted as the ends of its parts, the model of
transformers run on it alone, the formula. `wrong` are readings that somebody could take for the right one; the test says
that they differ, so it would notice them.
"""

from __future__ import annotations

import json
import math
import tomllib

import pytest
import step_models as sm
import torch

from rmeval import runner
from rmeval.cards import ScorerCard, read_card
from rmeval.content import content_folder
from rmeval.errors import UsageError
from rmeval.models import _card_of, load_model
from rmeval.plugins import SCORER_CARDS
from rmeval.types import Candidate, Example, Labels, Message

STEPS = ("Two and two\nare added.", "So + is - 4.")
Q = "What is 2 + 2?"
PLUS, MINUS = sm.ids_of("+-")


def example(*steps: str, question: str = Q) -> Example:
    steps = steps or STEPS
    text = "\n\n".join(steps)
    return Example("x", (Message("user", question),), (Candidate(text, steps),), Labels((1.0,)), "s", cluster="x")


def as_toml(value) -> str:
    """A value in one line; a JSON text, number or boolean is a TOML one too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@pytest.fixture
def model_of(tmp_path, monkeypatch):
    """The model of a card of ours, its checkpoint replaced by a tiny one, its token ids by the tiny vocabulary's."""

    def load(card: str, folder, **changes):
        raw = tomllib.loads((content_folder("scorers") / f"{card}.toml").read_text())
        raw |= {"name": f"tiny-{card}", "model": str(folder), **changes}
        steps = raw.get("steps", {})
        for token in [*steps.get("tokens", []), *([steps["token"]] if "token" in steps else [])]:
            token.pop("id", None)
            token.setdefault("text", "<tag>")
        cards = tmp_path / "cards" / "scorers"
        cards.mkdir(parents=True, exist_ok=True)
        (cards / f"tiny-{card}.toml").write_text("".join(f"{k} = {as_toml(v)}\n" for k, v in raw.items()))
        monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
        return load_model(f"tiny-{card}")

    return load


def steps_of(model, *steps: str) -> list[float]:
    [judged] = runner.run([example(*steps)], model.scorer, model.engine, by_step=True).judgements
    assert judged.reasons == ()
    return list(judged.step_scores[0])


def score_of(model, *steps: str) -> float:
    [judged] = runner.run([example(*steps)], model.scorer, model.engine).judgements
    assert judged.reasons == ()
    return judged.scores[0]


def check(found: list[float], expected: torch.Tensor, *wrong: torch.Tensor) -> None:
    assert found == pytest.approx(expected.tolist(), abs=1e-5)
    for other in wrong:
        assert max(abs(a - b) for a, b in zip(found, other.tolist(), strict=True)) > 1e-3


# --- process ---------------------------------------------------------------------------------------------------------

SYSTEM = "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
ASKED = f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("card", "system"),
    [("qwen2.5-math-prm-7b", SYSTEM), ("qwen2.5-math-7b-prm800k", SYSTEM), ("reasonflux-prm-7b", "")],
)
def test_qwen_prm_reads_class_1_at_every_extra_0_the_last_one_too(tmp_path, model_of, card, system):
    layers = {"score.0": (32, 32), "score.2": (2, 32)}
    body, weights = sm.saved_with_layers(tmp_path / "m", "qwen2", layers, architecture="Qwen2ForProcessRewardModel")
    text, (_, one, two) = sm.ends(system + ASKED, f"{STEPS[0]}<extra_0>", f"{STEPS[1]}<extra_0>", "<|im_end|>\n")
    raw = sm.mlp(sm.hidden(body, text), weights, "score.0", "score.2")
    right = raw.softmax(-1)[:, 1]
    check(
        steps_of(model_of(card, tmp_path / "m")), right[[one, two]],
        1 - right[[one, two]], right[[one - 1, two - 1]], raw[[one, two], 1].sigmoid(),
    )  # fmt: skip


def test_qwen_prm_is_known_by_its_class_and_told_by_its_card_what_to_do(tmp_path):
    layers = {"score.0": (32, 32), "score.2": (2, 32)}
    sm.saved_with_layers(tmp_path / "m", "qwen2", layers, architecture="Qwen2ForProcessRewardModel")
    with pytest.raises(UsageError, match="step separator"):
        load_model(str(tmp_path / "m"))


def test_math_shepherd_reads_plus_against_minus_at_its_tag(tmp_path, model_of):
    model = sm.saved(tmp_path / "m", "mistral", "AutoModelForCausalLM", template=None)
    text, (_, one, _, two) = sm.ends(f"<s>{Q} ", f"Step 1: {STEPS[0]} ки", "\n", f"Step 2: {STEPS[1]} ки", "\n")
    text = text.removesuffix("\n") + "\n"
    both = sm.logits(model, text)[:, [PLUS, MINUS]]
    right = both.softmax(-1)[:, 0]
    check(
        steps_of(model_of("math-shepherd-mistral-7b-prm", tmp_path / "m")), right[[one, two]],
        1 - right[[one, two]], right[[one + 1, two + 1]], right[[one - 1, two - 1]],
        sm.logits(model, text).softmax(-1)[:, PLUS][[one, two]],
    )  # fmt: skip


def test_math_shepherd_keeps_numbers_that_are_there(tmp_path, model_of):
    sm.saved(tmp_path / "m", "mistral", "AutoModelForCausalLM", template=None)
    loaded = model_of("math-shepherd-mistral-7b-prm", tmp_path / "m")
    assert steps_of(loaded, "Step 1: a", "step 2. b") == pytest.approx(steps_of(loaded, "Step 1: a", "step 2. b"))
    assert steps_of(loaded, "Step 1: a", "b") == pytest.approx(steps_of(loaded, "a", "b"))


@pytest.mark.parametrize("card", ["rlhflow-prm-mistral", "rlhflow-prm-deepseek"])
def test_rlhflow_reads_the_place_before_each_sign_in_one_pass(tmp_path, model_of, card):
    model = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=sm.LLAMA3)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    text, (one, _, two) = sm.ends(
        f"<s>{head('user')}{Q} {STEPS[0]}<|eot_id|>{head('assistant')}", "+<|eot_id|>",
        f"{head('user')}{STEPS[1]}<|eot_id|>{head('assistant')}", "+<|eot_id|>",
    )  # fmt: skip
    right = sm.logits(model, text)[:, [PLUS, MINUS]].softmax(-1)[:, 0]
    loaded = model_of(card, tmp_path / "m")
    check(
        steps_of(loaded), right[[one, two]], 1 - right[[one, two]], right[[one + 1, two + 1]],
        sm.logits(model, text).softmax(-1)[:, PLUS][[one, two]],
    )  # fmt: skip
    assert score_of(loaded) == pytest.approx(float(right[[one, two]].mean()), abs=1e-5)
    [judged] = runner.run([example()], loaded.scorer, loaded.engine).judgements
    assert len(judged.step_scores[0]) == 2


def test_skywork_o1_reads_a_value_head_at_one_line_break_per_step(tmp_path, model_of):
    body, weights = sm.saved_with_layers(tmp_path / "m", "qwen2", {"v_head.summary": (1, 32)})
    text, (_, one, two) = sm.ends(f"<s>{Q}\n", f"{STEPS[0]}\n", f"{STEPS[1]}\n", "")
    raw = sm.mlp(sm.hidden(body, text), weights, "v_head.summary")[:, 0]
    for size in ("1.5b", "7b"):
        check(
            steps_of(model_of(f"skywork-o1-open-prm-qwen-2.5-{size}", tmp_path / "m")), raw[[one, two]].sigmoid(),
            raw[[one, two]], raw[[one - 1, two - 1]].sigmoid(),
        )  # fmt: skip


def test_versaprm_has_minus_first(tmp_path, model_of):
    model = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM")
    text, (_, one, two) = sm.ends(f"<s>{Q} \n\n", f"{STEPS[0]}<tag>", f"{STEPS[1]}<tag>", "")
    right = sm.logits(model, text)[:, [MINUS, PLUS]].softmax(-1)[:, 1]
    loaded = model_of("versaprm", tmp_path / "m")
    check(steps_of(loaded), right[[one, two]], 1 - right[[one, two]], right[[one - 1, two - 1]])


def test_math_psa_says_what_to_convert_and_is_read_so_afterwards(tmp_path, model_of):
    model = sm.saved(tmp_path / "m", "qwen2", "AutoModelForCausalLM")
    with pytest.raises(UsageError, match="LoRA adapter.*merge_and_unload"):
        load_model("math-psa")
    text, (_, one, two) = sm.ends(f"{Q}\n", f"{STEPS[0]}<tag>", f"{STEPS[1]}<tag>", "")
    right = sm.logits(model, text)[:, [PLUS, MINUS]].softmax(-1)[:, 0]
    check(steps_of(model_of("math-psa", tmp_path / "m", needs="")), right[[one, two]], 1 - right[[one, two]])


def test_pure_joins_ids_and_reads_the_blank_line(tmp_path, model_of):
    model = sm.saved(tmp_path / "m", "qwen2", "AutoModelForTokenClassification", num_labels=2)
    text, (_, one, two) = sm.ends(Q, f"{STEPS[0]}\n\n", f"{STEPS[1]}\n\n", "")
    raw = sm.logits(model, text)
    right = raw.softmax(-1)[:, 1]
    found = steps_of(model_of("pure-prm-7b", tmp_path / "m"))
    check(found, right[[one, two]], 1 - right[[one, two]], right[[one - 2, two - 2]])
    differences = (raw.softmax(-1)[:, 1] - raw.softmax(-1)[:, 0])[[one, two]]
    assert [p > 0.5 for p in found] == [d > 0 for d in differences.tolist()]


@pytest.mark.parametrize("card", ["reasoneval-7b", "reasoneval-34b"])
def test_reasoneval_adds_neutral_and_positive_at_the_last_token_of_the_step_itself(tmp_path, model_of, card):
    kind = "mistral" if card.endswith("7b") else "llama"
    body, weights = sm.saved_with_layers(tmp_path / "m", kind, {"score_head": (3, 32)})
    start = f"<s>Question:\n{Q}\nAnswer:\nLet's think step by step.\n"
    text, (_, one, two) = sm.ends(start, STEPS[0], STEPS[1], "")
    p = sm.mlp(sm.hidden(body, text), weights, "score_head").softmax(-1)
    check(
        steps_of(model_of(card, tmp_path / "m")), p[[one, two], 1] + p[[one, two], 2],
        p[[one, two], 2], p[[one, two], 0] + p[[one, two], 1], p[[one, two], 1],
    )  # fmt: skip


def test_llemma_reads_the_mean_of_the_whole_vocabulary(tmp_path, model_of):
    model = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=None)
    start = f"<s># Question\n\n{Q}\n\n# Solution\n\n"
    text, (_, one, two) = sm.ends(start, f"{STEPS[0]}\n\n", f"{STEPS[1]}\n\n", "")
    mean = sm.logits(model, text).mean(-1)
    found = steps_of(model_of("llemma-prm800k-7b", tmp_path / "m"))
    check(found, mean[[one, two]].sigmoid(), mean[[one, two]], mean[[one - 2, two - 2]].sigmoid())


def test_trl_prms_need_their_separator_said_and_are_read_at_its_last_token(tmp_path):
    model = sm.saved(tmp_path / "m", "qwen2", "AutoModelForTokenClassification", num_labels=2)
    with pytest.raises(UsageError, match="scores tokens.*--scorer process -a scorer.separator"):
        load_model(str(tmp_path / "m"))
    with pytest.raises(UsageError, match="scorer.separatr: no such argument. Did you mean 'separator'"):
        load_model(str(tmp_path / "m"), scorer="process", given={"scorer": {"separatr": "\n"}})
    loaded = load_model(str(tmp_path / "m"), scorer="process", given={"scorer": {"separator": "\n\n"}})
    text, (_, one, two) = sm.ends(f"<s>{Q}", f"{STEPS[0]}\n\n", f"{STEPS[1]}\n\n", "")
    right = sm.logits(model, text).softmax(-1)[:, 1]
    check(steps_of(loaded), right[[one, two]], 1 - right[[one, two]], right[[one - 1, two - 1]])


# --- implicit --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def logprobs(model, text: str) -> torch.Tensor:
    """[tokens], of each token as seen from the one before; the first has none."""
    ids = torch.tensor(sm.ids_of(text))
    seen = sm.logits(model, text).log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    return torch.cat([torch.tensor([math.nan]), seen])


@pytest.mark.parametrize("card", ["eurusprm-stage1", "eurusprm-stage2"])
def test_eurusprm_accumulates_the_log_ratio_from_the_first_response_token(tmp_path, model_of, card):
    policy = sm.saved(tmp_path / "m", "qwen2", "AutoModelForCausalLM", seed=1)
    reference = sm.saved(tmp_path / "r", "qwen2", "AutoModelForCausalLM", seed=2)
    loaded = model_of(card, tmp_path / "m", reference=str(tmp_path / "r"), beta=0.05)
    text, (before, one, _, two) = sm.ends(ASKED, f"Step 1: {STEPS[0]}", "\n\n", f"Step 2: {STEPS[1]}", "<|im_end|>\n")
    gained = logprobs(policy, text) - logprobs(reference, text)
    q = torch.stack([gained[before + 1 : end + 1].sum() for end in (one, two)]) * 0.05
    late = torch.stack([q[0], gained[one + 1 : two + 1].sum() * 0.05])
    check(steps_of(loaded), q.sigmoid(), q, late.sigmoid(), (q * 20).sigmoid())


# --- scalar ----------------------------------------------------------------------------------------------------------

WHOLE = f"{ASKED}{STEPS[0]}\n\n{STEPS[1]}<|im_end|>\n"


@pytest.mark.parametrize(("card", "kind"), [("qwen2.5-math-rm-72b", "qwen2"), ("inf-orm-llama3.1-70b", "llama")])
def test_two_layers_at_the_last_token(tmp_path, model_of, card, kind):
    body, weights = sm.saved_with_layers(tmp_path / "m", kind, {"score.0": (32, 32), "score.2": (1, 32)})
    raw = sm.mlp(sm.hidden(body, WHOLE), weights, "score.0", "score.2")[:, 0]
    check([score_of(model_of(card, tmp_path / "m"))], raw[-1:], raw[-2:-1], raw[-1:].sigmoid())


def test_nemotron_is_the_logit_of_id_0(tmp_path, model_of):
    model = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM")
    loaded = model_of("llama-3.1-nemotron-70b-reward", tmp_path / "m")
    raw = sm.logits(model, WHOLE)
    check([score_of(loaded)], raw[-1:, 0], raw[-2:-1, 0], raw[-1:, 1], raw[-1:].log_softmax(-1)[:, 0])


def test_armorm_mixes_objectives_by_the_token_that_closes_the_users_turn(tmp_path, model_of):
    k = 3
    layers = {
        "regression_layer": (k, 32),
        "gating.layers.0": (8, 32),
        "gating.layers.1": (8, 8),
        "gating.layers.2": (k, 8),
    }
    extra = {"reward_transform_matrix": torch.randn(k, k), "gating.logit_scale": torch.tensor([1.5])}
    body, w = sm.saved_with_layers(tmp_path / "m", "llama", layers, template=sm.LLAMA3, extra=extra)
    sm.change_config(tmp_path / "m", gating_temperature=10)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    text, (closing, _) = sm.ends(
        f"<s>{head('user')}{Q}<|eot_id|>", f"{head('assistant')}{STEPS[0]}\n\n{STEPS[1]}", "<|eot_id|>"
    )
    states = sm.hidden(body, text)
    gates = sm.mlp(states, w, "gating.layers.0", "gating.layers.1", "gating.layers.2")
    objectives = sm.mlp(states[-1:], w, "regression_layer") @ w["reward_transform_matrix"]
    mixed = lambda place: ((gates[place] / 10).softmax(-1) * 1.5 * objectives).sum(-1)  # noqa: E731
    check([score_of(model_of("armorm-llama3-8b-v0.1", tmp_path / "m"))], mixed(closing), mixed(closing - 1), mixed(-1))


def test_a_gated_head_of_another_shape_is_refused(tmp_path):
    layers = {"regression_layer": (6, 32), "gating.layers.0": (8, 32), "gating.layers.1": (3, 8)}
    extra = {"reward_transform_matrix": torch.randn(3, 3), "gating.logit_scale": torch.tensor([1.5])}
    sm.saved_with_layers(tmp_path, "llama", layers, extra=extra, architecture="LlamaForRewardModelWithGating")
    sm.change_config(tmp_path, gating_temperature=10)
    with pytest.raises(UsageError, match="not ArmoRM's .6 objectives.*quantile head"):
        score_of(load_model(str(tmp_path)))


def test_internlm2_is_llama_under_other_names_and_reads_its_reward_token(tmp_path, model_of):
    from safetensors.torch import load_file, save_file

    body, weights = sm.saved_with_layers(tmp_path / "m", "llama", {"v_head": (1, 32)})
    stored = load_file(tmp_path / "m" / "model.safetensors")
    renamed = {
        "model.tok_embeddings.weight": stored["model.embed_tokens.weight"],
        "model.norm.weight": stored["model.norm.weight"],
        "v_head.weight": weights["v_head.weight"],
    }
    names = {
        "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for i in range(2):
        for ours, theirs in names.items():
            renamed[f"model.layers.{i}.{theirs}.weight"] = stored[f"model.layers.{i}.{ours}.weight"]
        q, k, v = (stored[f"model.layers.{i}.self_attn.{n}_proj.weight"] for n in "qkv")
        # 4 query heads of size 8 over 2 key heads: each key head follows its two queries, its value follows it
        fused = [row for g in range(2) for row in (q[16 * g : 16 * g + 16], k[8 * g : 8 * g + 8], v[8 * g : 8 * g + 8])]
        renamed[f"model.layers.{i}.attention.wqkv.weight"] = torch.cat(fused)
    save_file({n: t.contiguous() for n, t in renamed.items()}, tmp_path / "m" / "model.safetensors")
    sm.change_config(
        tmp_path / "m", model_type="internlm2", architectures=["InternLM2ForRewardModel"], bias=False,
        reward_token_id=sm.SPECIAL.index("<reward>"), rope_theta=10000.0, rope_scaling=None,
        auto_map={"AutoConfig": "configuration_internlm2.InternLM2Config"},
    )  # fmt: skip
    raw = sm.hidden(body, WHOLE + "<reward>") @ weights["v_head.weight"][0]
    for card in ("internlm2-1.8b-reward", "internlm2-7b-reward"):
        check([score_of(model_of(card, tmp_path / "m"))], raw[-1:], raw[-2:-1])


# --- cards as such ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORER_CARDS.names())
def test_every_card_is_valid_and_called_as_its_file(name):
    assert read_card(SCORER_CARDS.get(name), ScorerCard).name == name


@pytest.mark.parametrize(
    ("card", "token", "channels"),
    [
        ("qwen2.5-math-prm-7b", ("<extra_0>", 151651), []),
        ("math-shepherd-mistral-7b-prm", None, [("+", 648), ("-", 387)]),
        ("rlhflow-prm-mistral", None, [("+", 10), ("-", 12)]),
        ("versaprm", ("", 23535), [("-", 12), ("+", 10)]),
        ("math-psa", ("", 76325), [("+", 488), ("-", 481)]),
    ],
)
def test_ids_of_the_real_vocabularies(card, token, channels):
    steps = read_card(SCORER_CARDS.get(card), ScorerCard).steps
    assert (steps.token and (steps.token.text, steps.token.id)) == token
    assert [(t.text, t.id) for t in steps.tokens] == channels


@pytest.mark.parametrize("name", ["qrm-llama3.1-8b", "urm-llama-3.1-8b", "reasonflux-prm-1.5b"])
def test_what_cannot_be_run_says_why_and_what_would_help(name):
    with pytest.raises(UsageError, match="its class is its own|is a pickle"):
        load_model(name)


def test_a_hub_id_is_read_as_the_one_card_that_names_it_says():
    assert _card_of("Qwen/Qwen2.5-Math-PRM-7B").name == "qwen2.5-math-prm-7b"
    assert _card_of("nobody/nothing") is None
    with pytest.raises(UsageError, match=r"reasonflux-prm-1.5b .* is a pickle"):
        load_model("Gen-Verse/ReasonFlux-PRM-1.5B")


def test_another_models_tokens_are_refused(tmp_path, model_of):
    sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM")
    card = read_card(SCORER_CARDS.get("versaprm"), ScorerCard)
    loaded = model_of("versaprm", tmp_path / "m")
    loaded.scorer.steps = card.steps.model_copy(update={"token": loaded.scorer.steps.token})
    with pytest.raises(UsageError, match="should be '-'"):
        steps_of(loaded)
