"""Places to read are known by construction: as training found them, whatever merges, repeats or is cut."""

from __future__ import annotations

import math

import pytest
import step_models as sm
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmeval import runner
from rmeval.checks import check as checks
from rmeval.conventions import StepsCard
from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.encoding import NOWHERE, Encoder
from rmeval.engines.roles import PolicyAndReference
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.models import load_model
from rmeval.scorers.process import ProcessScorer, parts
from rmeval.store import request_key
from rmeval.training.render import Renderer
from rmeval.types import Candidate, Chat, Example, Labels, Mark, Message, Request, Special, Text, Turn

PROMPT = (Message("user", "What is 2 + 2?"),)
TURNS = ({"role": "user", "content": "What is 2 + 2?"},)


def merging_tokenizer():
    """Byte pairs that merge over the places where steps meet: a full stop with a line break, line breaks with letters."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("Ċ", "Ċ"), (".", "Ċ"), (".", "ĊĊ"), ("ĊĊ", "a"), ("Ċ", "a"), ("a", "a"), ("Ġ", "a"), ("user", "Ċ")]
    pairs = [(a, b) for a, b in pairs if a != "user"]
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    names = [*special, *letters, *dict.fromkeys(a + b for a, b in pairs)]
    inner = Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, pairs, unk_token="<unk>"))
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    made.chat_template = sm.CHATML
    return made


MERGING = Encoder(merging_tokenizer())
TEXTS = st.text(alphabet="a.b \n<", min_size=0, max_size=6)


@settings(derandomize=True, max_examples=80, deadline=None, database=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(["\n\n", "\n", "\n<step>\n"]))
def test_steps_are_read_where_training_labelled_them(steps, separator):
    card = StepsCard(step=f"{{step}}{separator}")
    [ours] = MERGING.encode([Request(parts(card, PROMPT, steps), at="marks")])
    [theirs] = Renderer(MERGING.tokenizer).steps([(TURNS, steps)], separator=separator)
    assert (ours.ids, ours.at) == (theirs.ids, theirs.step_ends)
    assert len(set(ours.at)) == len(steps)  # none merges with another


@settings(derandomize=True, max_examples=80, deadline=None, database=None)
@given(TEXTS)
def test_responses_are_read_where_training_labelled_them(text):
    [ours] = MERGING.encode([Request((Chat((*PROMPT, Message("assistant", text))),), at="completion")])
    [theirs] = Renderer(MERGING.tokenizer).responses([(TURNS, text)])
    assert ours.ids == theirs.ids
    assert list(ours.at) == list(range(theirs.response.start, theirs.response.stop))


def test_joined_text_would_have_merged():
    whole = MERGING.tokenizer("b.\n\na", add_special_tokens=False)["input_ids"]
    pieces = MERGING.encode([Request((Text("b."), Mark(), Text("\n\n"), Text("a"), Mark()), at="marks")])[0]
    assert len(pieces.ids) > len(whole)  # joined as text, the full stop and the line breaks are one token
    assert MERGING.tokenizer.decode([pieces.ids[pieces.at[0]]]) == "."


def test_a_mark_in_literal_text_says_when_no_token_ends_there():
    text = "b.\n\nab"
    [encoded] = MERGING.encode([Request((Text(text, (2, 4, 5, 6)),), at="marks")])
    assert encoded.at[0] == NOWHERE  # ".\n\n" goes on
    assert encoded.at[-1] == len(encoded.ids) - 1


def test_a_response_that_repeats_its_prompt_is_itself():
    question = "What is 2 + 2?"
    [encoded] = Encoder(sm.byte_tokenizer()).encode(
        [Request((Chat((Message("user", question), Message("assistant", question))),), at="completion")]
    )
    text, (start, end) = sm.ends(
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", f"{question}<|im_end|>", "\n"
    )
    assert encoded.ids == sm.ids_of(text)
    assert list(encoded.at) == list(range(start + 1, end + 1))


def test_a_separator_inside_a_step_is_only_text():
    card = StepsCard.model_validate({"token": {"text": "<extra_0>"}})
    [encoded] = Encoder(sm.byte_tokenizer()).encode([Request(parts(card, PROMPT, ("a <extra_0> b", "c")), at="marks")])
    text, (_, one, two) = sm.ends(
        "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n",
        "a <extra_0> b<extra_0>", "c<extra_0>", "<|im_end|>\n",
    )  # fmt: skip
    assert (encoded.ids, encoded.at) == (sm.ids_of(text), (one, two))


def test_without_a_template_of_its_own_special_tokens_stand_once():
    tok = tiny.tokenizer(template=None, bos=True)
    [encoded] = Encoder(tok).encode(
        [Request((Chat((*PROMPT, Turn("assistant", (Text("good"), Mark())))),), at="marks")]
    )
    assert encoded.ids.count(tok.bos_token_id) == 1 == encoded.ids.count(tok.eos_token_id)
    assert (encoded.ids[0], encoded.ids[-1]) == (tok.bos_token_id, tok.eos_token_id)
    assert tok.decode([encoded.ids[encoded.at[0]]]) == "good"


def test_a_prompt_may_hold_what_stands_in_for_a_turn():
    odd = (Message("user", "rmeval0turn1x and rmeval0answer"),)
    encoder = Encoder(sm.byte_tokenizer())
    whole, stepwise = encoder.encode(
        [
            Request((Chat((*odd, Message("assistant", "a"))),), at="completion"),
            Request((Chat((*odd, Turn("assistant", (Text("a"), Mark())))),), at="marks"),
        ]
    )[:2]
    assert whole.ids == stepwise.ids
    assert whole.at[0] == stepwise.at[0]


def test_old_replies_keep_their_keys_and_everything_new_has_its_own():
    chat = (Chat((*PROMPT, Message("assistant", "4"))),)
    assert request_key(Request(chat), "f") == "3c465092199e2a29695a1f47d9c24d6724f426da97bf143eb9735d690b3df4cd"
    keys = {
        request_key(one, "f")
        for one in (
            Request(chat), Request(chat, at="completion"), Request(chat, at="completion", read="next_logprob"),
            Request(chat, at="completion", read="next_logprob", role="reference"),
            Request(chat, read="tokens", tokens=(Special("+"), Special("-"))),
            Request(chat, read="tokens", tokens=(Special("-"), Special("+"))),
            Request((*chat, Mark())), Request((*chat, Mark(ahead=1))), Request((*chat, Special("+"))),
            Request((*chat, Text("+"))), Request((*chat, Text("+", (1,)))),
        )
    }  # fmt: skip
    assert len(keys) == 11


# --- whole runs ------------------------------------------------------------------------------------------------------

PRM = {"kind": "prm", "aggregate": "min", "step_separator": "\n\n", "boundary": "last-token"}


@pytest.fixture(scope="module")
def prm(tmp_path_factory):
    """A checkpoint as `rmeval train prm` leaves it, with random weights."""
    folder = tmp_path_factory.mktemp("prm")
    labels = {0: "incorrect", 1: "neutral", 2: "correct"}
    sm.saved(
        folder, "qwen2", "AutoModelForTokenClassification", num_labels=3, id2label=labels, rmeval=PRM,
        problem_type="single_label_classification",
    )  # fmt: skip
    return folder


def solved(*steps: str, name: str = "x") -> Example:
    return Example(name, PROMPT, (Candidate("\n\n".join(steps), steps),), Labels((1.0,)), "s", cluster=name)


def judged(folder, *steps: str, **options):
    model = load_model(str(folder), given={"engine": options, "scorer": {}})
    return runner.run([solved(*steps)], model.scorer, model.engine, by_step=True)


def test_a_checkpoint_of_ours_is_read_at_its_separator_with_its_classes(prm):
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(prm).eval()
    text, (_, one, two) = sm.ends(
        "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n", "a.\n\n", "b\n\n", "<|im_end|>\n"
    )
    p = sm.logits(model, text).softmax(-1)[[one, two]]
    for neutral, expected in (("wrong", p[:, 2]), ("right", p[:, 2] + p[:, 1]), ("half", p[:, 2] + p[:, 1] / 2)):
        loaded = load_model(str(prm), given={"scorer": {"neutral": neutral}})
        assert loaded.kind == "process"
        [row] = runner.run([solved("a.", "b")], loaded.scorer, loaded.engine).judgements
        assert row.step_scores[0] == pytest.approx(expected.tolist(), abs=1e-6)
        assert row.scores == (min(row.step_scores[0]),)


@pytest.mark.parametrize("scorer", [{"split": "line"}, {"split": "sentence"}])
def test_a_response_may_be_cut_anew_but_not_where_steps_have_labels(prm, scorer):
    loaded = load_model(str(prm), given={"scorer": scorer})
    example = solved("One. Two.\nThree.", "Four.")
    [row] = runner.run([example], loaded.scorer, loaded.engine).judgements
    assert len(row.step_scores[0]) == {"line": 3, "sentence": 4}[scorer["split"]]
    with pytest.raises(UsageError, match="labels for its own steps"):
        runner.run([example], loaded.scorer, loaded.engine, by_step=True)


def test_a_solution_over_the_limit_loses_all_or_what_was_cut_and_is_counted(prm):
    steps = ["a" * 20, "b" * 20, "c" * 20]
    [whole] = judged(prm, *steps).judgements
    refused = judged(prm, *steps, max_length=60)
    [row] = refused.judgements
    assert row.step_reasons == (("truncated",) * 3,)
    assert row.reasons == ("truncated",)
    assert (refused.counts.errors, refused.counts.truncated) == (1, 1)
    cut = judged(prm, *steps, max_length=60, truncation="right")
    [row] = cut.judgements
    assert row.step_reasons == ((None, "truncated", "truncated"),)
    assert row.step_scores[0][0] == pytest.approx(whole.step_scores[0][0], abs=1e-6)
    assert (cut.counts.errors, row.reasons) == (1, ("truncated",))


def test_a_number_that_is_none_at_one_step_is_reported_there_and_kept_elsewhere(tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"  # without layers, so that one token's numbers stay its own
    sm.saved(broken, "qwen2", "AutoModelForTokenClassification", num_labels=2, num_hidden_layers=0, layer_types=[])
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][sm.ids_of("~")[0]] = math.nan  # whoever reads this letter, or past it
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    bare = ProcessScorer(("wrong", "right"), steps=StepsCard())
    outcome = runner.run([solved("a", "b~", "c")], bare, TransformersEngine(Checkpoint(str(broken))), by_step=True)
    [row] = outcome.judgements
    assert row.step_reasons == ((None, "non_finite", None),)
    assert math.isfinite(row.step_scores[0][0])
    assert outcome.counts.errors == 1


def test_an_empty_step_is_read_at_its_separator_and_without_one_it_is_missing(prm):
    [row] = judged(prm, "a", "", "c").judgements
    assert len(set(row.step_scores[0])) == 3
    bare = ProcessScorer(("w", "n", "r"), steps=StepsCard())
    [row] = runner.run([solved("a", "", "c")], bare, TransformersEngine(Checkpoint(str(prm))), by_step=True).judgements
    assert row.step_reasons == ((None, "empty_step", None),)


@pytest.mark.parametrize("kind", ["orm", "prm", "value"])
def test_checks_of_a_checkpoint_of_each_kind(tmp_path, kind):
    n = 3 if kind == "prm" else 1
    labels = {0: "incorrect", 1: "neutral", 2: "correct"} if n == 3 else {0: "x"}
    about = PRM | {"kind": kind, "aggregate": "min" if n == 3 else "last"}
    sm.saved(tmp_path, "qwen2", "AutoModelForTokenClassification", num_labels=n, id2label=labels, rmeval=about)
    report = checks.check_model(str(tmp_path))
    assert {c.name for c in report.checks} >= {"text", "missing scores", "shuffled, batches of 8"}
    report.raise_if_failed()


def test_check_of_an_implicit_reward_and_of_two_models_in_turn(tmp_path):
    sm.saved(tmp_path / "p", "qwen2", "AutoModelForCausalLM", seed=1)
    sm.saved(tmp_path / "r", "qwen2", "AutoModelForCausalLM", seed=2)
    loaded = load_model(
        str(tmp_path / "p"), scorer="implicit", given={"scorer": {"reference": str(tmp_path / "r"), "beta": 0.1}}
    )
    examples = [solved(f"a{i}", "b", name=str(i)) for i in range(6)]
    together = runner.run(examples, loaded.scorer, loaded.engine).judgements
    assert "model" not in loaded.engine.engines["policy"].reader.__dict__  # given back before the reference came
    alone = [runner.run([e], loaded.scorer, loaded.engine).judgements[0] for e in examples]
    assert [j.scores[0] for j in together] == pytest.approx([j.scores[0] for j in alone], abs=1e-4)
    assert len({j.scores[0] for j in together}) == 6


def test_models_that_split_text_differently_have_no_log_ratio(tmp_path):
    sm.saved(tmp_path / "p", "qwen2", "AutoModelForCausalLM")
    sm.saved(tmp_path / "r", "qwen2", "AutoModelForCausalLM", template=sm.LLAMA3)
    engines = [TransformersEngine(Checkpoint(str(tmp_path / name))) for name in "pr"]
    with pytest.raises(UsageError, match="do not share the chat template"):
        PolicyAndReference(*engines)
    merging_tokenizer().save_pretrained(tmp_path / "r")
    with pytest.raises(UsageError, match="do not share the token"):
        PolicyAndReference(engines[0], TransformersEngine(Checkpoint(str(tmp_path / "r"))))


def test_a_language_model_that_does_more_than_its_head_is_read_by_its_own_forward(tmp_path, monkeypatch):
    from transformers import Qwen2ForCausalLM

    model = sm.saved(tmp_path, "qwen2", "AutoModelForCausalLM")
    plain = Qwen2ForCausalLM.forward

    def capped(self, *args, **kwargs):
        out = plain(self, *args, **kwargs)
        out.logits = torch.tanh(out.logits / 2) * 2
        return out

    monkeypatch.setattr(Qwen2ForCausalLM, "forward", capped)
    engine = TransformersEngine(Checkpoint(str(tmp_path)))
    request = Request((Text("2 + 2"), Mark()), at="marks", read="tokens", tokens=(Special("4"),))
    [reply] = engine.run([request])
    assert engine.path.startswith("the model's own logits")
    assert reply.values[0][0] == pytest.approx(float(sm.logits(model, "2 + 2")[-1, sm.ids_of("4")[0]]), abs=1e-5)
