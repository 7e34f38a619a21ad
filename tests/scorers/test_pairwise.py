"""Pairwise families on tiny models of their architecture: which token, which order, which link, by hand.

The expectation is written out: the whole text, the places counted, the model of transformers run on it alone, the
formula. `far` says that a reading which somebody could take for the right one differs.
"""

from __future__ import annotations

import gzip
import json
import math
import tomllib

import pytest
import step_models as sm
import torch
from command import rmeval
from tokenizers import AddedToken

from rmeval import runner
from rmeval.api import score_many
from rmeval.cards import ScorerCard, read_card
from rmeval.checks import doctor
from rmeval.content import content_folder
from rmeval.conventions import PairCard
from rmeval.errors import UsageError
from rmeval.metrics.rules import accuracy
from rmeval.models import load_model
from rmeval.plugins import SCORER_CARDS
from rmeval.scorers.pairwise import PairwiseScorer, written
from rmeval.store import request_key
from rmeval.types import Candidate, Chat, Example, Labels, Message, Reply, Request, View

A, B = "It is four.", "I {first} do not know: {second}"
PROMPT = (Message("user", "What is 2 + 2?"), Message("assistant", "Why?"), Message("user", "Just say."))
PAIR = Example("x", PROMPT, (Candidate(A), Candidate(B)), Labels((1.0, 0.0)), "s", cluster="x")
MARKS = ("[CLS]", "[SEP]", "<|source|>", "<|candidate1|>", "<|candidate2|>")


def pair_tokenizer(template=None):
    """A token per byte, and the tokens of PairRM."""
    made = sm.byte_tokenizer(template)
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    return made


@pytest.fixture
def card_for(tmp_path, monkeypatch):
    """The model of a card of ours whose checkpoint lies in a folder."""

    def load(card, folder):
        lines = (content_folder("scorers") / f"{card}.toml").read_text().splitlines()
        lines = [f"model = {json.dumps(str(folder))}" if line.startswith("model =") else line for line in lines]
        lines = [f'name = "tiny-{card}"' if line.startswith("name =") else line for line in lines]
        cards = tmp_path / "cards" / "scorers"
        cards.mkdir(parents=True, exist_ok=True)
        (cards / f"tiny-{card}.toml").write_text("\n".join(lines))
        monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
        return load_model(f"tiny-{card}")

    return load


def log_odds(model, example=PAIR) -> dict[tuple[int, ...], float]:
    """Order shown (data set indices) -> v, from what the verdict carries."""
    [judged] = runner.run([example], model.scorer, model.engine).judgements
    assert judged.reasons == ()
    assert [v.verdict for v in judged.verdicts] == [
        "A" if v.logmass[0] > v.logmass[1] else "B" for v in judged.verdicts
    ]
    assert all(math.exp(v.logmass[0]) + math.exp(v.logmass[1]) == pytest.approx(1) for v in judged.verdicts)
    return {v.order: v.logmass[0] - v.logmass[1] for v in judged.verdicts}


def far(found: float, *others: float) -> None:
    assert all(abs(found - other) > 1e-3 for other in others)


# --- PairRM ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairrm(tmp_path_factory):
    """(folder, backbone, head): a DeBERTa-v3 with PairRM's head and two tasks, saved under PairRM's names."""
    from safetensors.torch import save_file
    from transformers import DebertaV2Config, DebertaV2Model

    folder = tmp_path_factory.mktemp("pairrm")
    tokenizer = pair_tokenizer()
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False, type_vocab_size=0,
        initializer_range=0.3, architectures=["DebertaV2PairRM"],
    )  # fmt: skip
    backbone = DebertaV2Model(config).eval()
    head = torch.nn.Sequential(
        torch.nn.Dropout(), torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Dropout(), torch.nn.Linear(32, 2)
    ).eval()
    weights = {f"pretrained_model.{k}": v for k, v in backbone.state_dict().items()}
    weights |= {f"head_layer.{k}": v for k, v in head.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    sm.change_config(folder, architectures=["DebertaV2PairRM"], n_tasks=2, drop_out=0.05)
    tokenizer.save_pretrained(folder)
    return folder, backbone, head


@torch.no_grad()
def outputs(backbone, head, source: str, first: str, second: str) -> torch.Tensor:
    """The head's outputs [2, tasks] at both candidates, and the same of the last token of the first, by hand."""
    texts = [
        f"[CLS]<|source|>{source}[SEP]", f"[CLS]<|candidate1|>{first}[SEP]", f"[CLS]<|candidate2|>{second}[SEP]"
    ]  # fmt: skip
    ids = [pair_tokenizer()(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [len(part) for part in ids] == [len(t.encode()) + 3 for t in (source, first, second)]
    states = backbone(input_ids=torch.tensor([[*ids[0], *ids[1], *ids[2]]])).last_hidden_state[0]
    at = [1, len(ids[0]) + 1, len(ids[0]) + len(ids[1]) + 1]
    return torch.stack([head(torch.cat([states[at[0]], states[place]])) for place in at[1:]])


OPENING = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
CONVERSATION = f"{OPENING}USER: What is 2 + 2?\nAssistant: <Response 1>\nUSER: Just say.\nAssistant: <Response 2>"


def answered(text: str) -> str:
    return f"<Response 1>: Why?\n<Response 2>: {text}"


def test_pairrm_takes_the_mean_difference_of_the_head_at_the_tokens_that_open_the_candidates(pairrm, card_for):
    folder, backbone, head = pairrm
    found = log_odds(card_for("pairrm-hf", folder))
    for order, (first, second) in {(0, 1): (A, B), (1, 0): (B, A)}.items():
        out = outputs(backbone, head, CONVERSATION, answered(first), answered(second))
        expected = float((out[0] - out[1]).mean())
        assert found[order] == pytest.approx(expected, abs=1e-5)
        far(expected, float((out[1] - out[0]).mean()), float((out[0] - out[1]).sum()), float(out[0].mean()))
        plain = outputs(backbone, head, "What is 2 + 2?", first, second)
        far(expected, float((plain[0] - plain[1]).mean()))


def test_better_pairrm_writes_turns_as_vicuna_and_candidates_as_they_stand(pairrm, card_for):
    folder, backbone, head = pairrm
    gap = "\n    \n    "
    source = gap.join(["USER: What is 2 + 2?", "ASSISTANT: Why?", "USER: Just say.", "ASSISTANT: "])
    out = outputs(backbone, head, source, A, B)
    assert log_odds(card_for("better-pairrm", folder))[0, 1] == pytest.approx(float((out[0] - out[1]).mean()), abs=1e-5)


def test_a_pair_does_not_depend_on_its_neighbours(pairrm, card_for):
    model = card_for("pairrm-hf", pairrm[0])
    others = [
        Example(str(n), (Message("user", "w" * n),), (Candidate("v" * n), Candidate("u")), Labels((1.0, 0.0)), "s")
        for n in (1, 40, 200)
    ]
    [judged, *_] = runner.run([PAIR, *others], model.scorer, model.engine).judgements
    alone = log_odds(model)
    for verdict in judged.verdicts:
        assert verdict.logmass[0] - verdict.logmass[1] == pytest.approx(alone[verdict.order], abs=1e-4)


def test_a_text_over_the_limit_has_no_verdict_and_says_so(pairrm, card_for):
    model = card_for("pairrm-hf", pairrm[0])
    long = Example("long", PROMPT, (Candidate("a" * 3000), Candidate("b")), Labels((1.0, 0.0)), "s")
    found = runner.run([long], model.scorer, model.engine)
    assert [(v.verdict, v.reason) for v in found.judgements[0].verdicts] == [(None, "truncated")] * 2
    assert found.counts.errors == 2


def test_a_place_that_was_cut_off_is_never_read_against_another(card_for):
    card = read_card(SCORER_CARDS.get("pairrm-hf"), ScorerCard)
    talk = PairwiseScorer(pair=card.pair).score(View("x", PROMPT, PAIR.candidates, (0, 1)))
    next(talk)
    with pytest.raises(StopIteration) as end:  # the prompt's place went to a cut on the left
        talk.send([Reply(values=((), (1.0,), (0.5,)), truncated=True)])
    assert (end.value.value.reason, end.value.value.verdicts) == ("truncated", ())


def test_pairrm_is_known_by_its_class_and_needs_to_be_told_how_turns_are_written(pairrm):
    with pytest.raises(UsageError, match=r"as its card says \(\[pair\]\)"):
        load_model(str(pairrm[0]))
    with pytest.raises(UsageError, match="reads two responses together; as scalar"):
        load_model(str(pairrm[0]), scorer="scalar")


def test_a_head_that_the_files_lack_is_refused(tmp_path, pairrm, card_for):
    from safetensors.torch import load_file, save_file

    for file in pairrm[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    kept = {k: v for k, v in load_file(tmp_path / "model.safetensors").items() if "layer.1." not in k}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = card_for("pairrm-hf", tmp_path)
    with pytest.raises(UsageError, match="does not hold"):
        log_odds(model)


# --- RLHFlow ---------------------------------------------------------------------------------------------------------

GENERATES = sm.LLAMA3 + "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
"""A template that always opens the assistant's turn, as Llama 3's did when this family was trained."""


def test_rlhflow_reads_a_against_b_at_the_end_of_the_turn_without_bos(tmp_path, card_for):
    model = sm.saved(tmp_path / "m", "llama", "AutoModelForCausalLM", template=GENERATES)
    found = log_odds(card_for("rlhflow-pair-preference-llama3-8b", tmp_path / "m"))
    context = "\n\n<turn> user\n What is 2 + 2?\n<turn> assistant\n Why?\n<turn> user\n Just say.\n"
    token_a, token_b = sm.ids_of("AB")
    for order, (first, second) in {(0, 1): (A, B), (1, 0): (B, A)}.items():
        text = (
            f"<|start_header_id|>user<|end_header_id|>\n\n[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second}"
            "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        )
        last, before, with_bos = (
            sm.logits(model, t)[place] for t, place in ((text, -1), (text, -2), (f"<s>{text}", -1))
        )  # fmt: skip
        expected = float(last[token_a] - last[token_b])
        assert found[order] == pytest.approx(expected, abs=1e-5)
        far(expected, -expected, float(before[token_a] - before[token_b]), float(with_bos[token_a] - with_bos[token_b]))
    both = sum(math.exp(v) / (1 + math.exp(v)) for v in (found[0, 1], -found[1, 0])) / 2
    assert (both > 0.5) == (found[0, 1] > found[1, 0])  # the official mean of probabilities, and the difference


def test_the_context_is_what_the_families_own_template_renders():
    from transformers.utils.chat_template_utils import _compile_jinja_template

    card = read_card(SCORER_CARDS.get("rlhflow-pair-preference-llama3-8b"), ScorerCard).pair
    stated = (
        "\n{% for message in messages %}{% if loop.index0 % 2 == 0 %}\n\n<turn> user\n {{ message['content'] }}"
        "{% else %}\n\n<turn> assistant\n {{ message['content'] }}{% endif %}{% endfor %}\n\n\n"
    )
    rendered = _compile_jinja_template(stated).render(messages=[{"role": m.role, "content": m.content} for m in PROMPT])
    assert written(card, View("x", PROMPT, PAIR.candidates, (0, 1)))[0] == rendered


# --- shared ----------------------------------------------------------------------------------------------------------


def test_a_bos_that_is_left_out_is_another_request():
    said = (Message("user", "hi"),)
    with_bos, without = (request_key(Request((Chat(said, bos=bos),)), "f") for bos in (True, False))
    assert with_bos != without
    assert with_bos == request_key(Request((Chat(said),)), "f")


def test_a_tie_is_a_verdict():
    card = read_card(SCORER_CARDS.get("rlhflow-pair-preference-llama3-8b"), ScorerCard)
    talk = PairwiseScorer(pair=card.pair).score(View("x", PROMPT, PAIR.candidates, (1, 0)))
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send([Reply(values=((0.25, 0.25),))])
    [verdict] = end.value.value.verdicts
    assert (verdict.order, verdict.verdict, verdict.logmass) == ((1, 0), "tie", (-math.log(2), -math.log(2)))


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"form": "chat", "tokens": [{"text": "A"}, {"text": "B"}]}, "must show"),
        ({"form": "marked", "tokens": [{"text": "A"}]}, "needs 3"),
    ],
)
def test_a_pair_table_that_cannot_be_read_is_refused(said, fault):
    with pytest.raises(ValueError, match=fault):
        PairCard.model_validate(said)


@pytest.mark.parametrize("name", ["pairrm-hf", "better-pairrm", "rlhflow-pair-preference-llama3-8b"])
def test_no_pairwise_card_refuses_to_run(name):
    raw = tomllib.loads(SCORER_CARDS.get(name).read_text())
    assert (raw["kind"], raw.get("needs", "")) == ("pairwise", "")


def test_a_run_asks_in_both_orders_or_in_one(tmp_path, pairrm, card_for):
    card_for("pairrm-hf", pairrm[0])
    said = ("run", "tiny-pairrm-hf", "--suite", "arithmetic", "--limit", "3", "--json")
    said = (*said, "--out", tmp_path / "r", "--store", tmp_path / "s.sqlite")
    both, single = rmeval(*said), rmeval(*said, "-a", "scorer.orders=single")
    assert (both.code, single.code) == (0, 0), both.stderr + single.stderr
    for answer, orders, readings in ((both, "both", 2), (single, "single", 1)):
        assert answer.document["scorer"]["orders"] == orders
        [samples] = (tmp_path / "r").rglob(answer.document["samples"]["file"])
        rows = [json.loads(line) for line in gzip.decompress(samples.read_bytes()).splitlines()]
        shown = pairs_of(rows)
        assert answer.document["counts"]["requests"] == len(shown) == readings * len(set(shown))
        assert all(len(verdict["logmass"]) == 2 for row in rows for verdict in row["verdicts"])


def test_check_compares_pairs_alone_and_in_company(pairrm, card_for, monkeypatch):
    monkeypatch.setattr(doctor, "TEXTS", 8)
    monkeypatch.setattr(doctor, "LONGER", 3)
    card_for("pairrm-hf", pairrm[0])
    done = rmeval("check", "tiny-pairrm-hf", "--json")
    assert done.code == 0, done.stderr
    found = {check["name"]: check for check in done.document["checks"]}
    assert found["missing scores"]["found"] == "none"
    assert all("decisions flip" in found[name]["found"] for name in ("batches of 8", "shuffled, batches of 8"))


def test_the_families_own_decision_is_the_mean_probability_over_both_orders(pairrm, card_for):
    model = card_for("pairrm-hf", pairrm[0])
    examples = [
        Example(
            f"e{n}", (Message("user", f"q{n}"),), (Candidate("a" * n), Candidate(f"b {n}")), Labels((1.0, 0.0)), "s"
        )
        for n in range(1, 13)
    ]
    judged = runner.run(examples, model.scorer, model.engine).judgements
    official = []
    for j in judged:
        v = {row.order: row.logmass[0] - row.logmass[1] for row in j.verdicts}
        official.append(float(v[0, 1] - v[1, 0] > 0))
    assert 0 < sum(official) < len(official)
    found = accuracy(judged, {"verdicts": "swap_mean_prob"})
    assert [row.value for row in found.rows] == official


def test_a_users_own_responses_get_the_share_of_comparisons_won(pairrm, card_for):
    model = card_for("pairrm-hf", pairrm[0])
    texts = (A, B, "Five.")
    [judged] = runner.run(
        [Example("0", PROMPT, tuple(map(Candidate, texts)), Labels((0.0,) * 3), "s")], model.scorer, model.engine
    ).judgements
    won = [0.0, 0.0, 0.0]
    for row in judged.verdicts:
        won[row.order["AB".index(row.verdict)]] += 1 / 4
    [found] = score_many(model, [(PROMPT, texts)])
    assert [one.value for one in found] == pytest.approx(won)
    [cut] = score_many(model, [(PROMPT, (A, "long " * 1000))])
    assert [(math.isnan(one.value), one.reason) for one in cut] == [(True, "truncated")] * 2
    with pytest.raises(UsageError, match="compares two responses, and a prompt has one"):
        score_many(model, [(PROMPT, (A,))])


def pairs_of(rows):
    return [(row["id"], tuple(sorted(verdict["order"]))) for row in rows for verdict in row["verdicts"]]
