"""T4, T6, T12: which tokens carry which label, by hand-written masks; the same ids as engines and pipelines make."""

from __future__ import annotations

import math

import pytest
import tiny
from hypothesis import given, settings, strategies

from rmeval.engines.checkpoint import Checkpoint
from rmeval.engines.transformers import TransformersEngine
from rmeval.errors import UsageError
from rmeval.training import encode
from rmeval.training.encode import (
    encode_comparisons,
    encode_dialogues,
    encode_outcomes,
    encode_rankings,
    encode_returns,
    encode_steps,
)
from rmeval.training.masks import byte_tokenizer, marked, read_at_last, segments
from rmeval.training.render import Renderer
from rmeval.training.schemas import Comparison, Dialogue, Outcome, Ranking, Return, Steps
from rmeval.training.templates import CHATML, use_template
from rmeval.types import Chat, Message, Request

ASK = ({"role": "user", "content": "1 + 1?"},)
PIRATE = (
    {"role": "system", "content": "Pirate."},
    {"role": "user", "content": "How many?"},
    {"role": "assistant", "content": "Oh just 6."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Aye  "},
)
LIMIT = {"max_length": 10_000}
TAGGED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
)
SPACED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} \n{% endgeneration %}"
    "{% else %}{{ m['role'] }} : {{ m['content'] }}\n{% endif %}{% endfor %}"
)


def words(*, template=CHATML):
    """Words and runs of line ends as tokens, white space dropped: as forgiving a tokenizer as there is."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = (
        "<unk> <s> </s> <|im_start|> <|im_end|> <step> \n user assistant system a b c d . : , ? 1 2 3 + =".split(" ")
    )
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|\w+|[^\w\s]"), behavior="removed", invert=True)
    tok = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tok.add_tokens(["<|im_start|>", "<|im_end|>", "<step>"], special_tokens=True)
    tok.chat_template = template
    return tok


def built_in(name):
    tok = byte_tokenizer()
    use_template(tok, name)
    return tok


def shown(row, tok, **options):
    return marked(segments(row.ids, row.labels, tok, **options))


# --- T4: six conversations and their masks by hand ---


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        (
            "chatml",
            (
                "<|im_start|>system\nPirate.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
                "[Oh just 6.<|im_end|>]\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n[Aye  <|im_end|>]\n"
            ),
        ),
        (
            "zephyr",
            (
                "<|system|>\nPirate.</s>\n<|user|>\nHow many?</s>\n<|assistant|>\n[Oh just 6.</s>]\n"
                "<|user|>\nSure?</s>\n<|assistant|>\n[Aye  </s>]"
            ),
        ),
        (
            "tulu",
            (
                "<|system|>\nPirate.\n<|user|>\nHow many?\n<|assistant|>\n[Oh just 6.</s>]\n"
                "<|user|>\nSure?\n<|assistant|>\n[Aye  </s>]"
            ),
        ),
        (
            "plain",
            "<s>Pirate.\n\nUser: How many?\n\nAssistant: [Oh just 6.]\n\nUser: Sure?\n\nAssistant: [Aye  </s>]",
        ),
    ],
)
def test_t4_s3_s10_masks_of_two_turns(name, masked):
    tok = built_in(name)
    rows = [Dialogue("x", PIRATE, "g")]
    [every], _ = encode_dialogues(rows, tok, **LIMIT)
    assert shown(every, tok, of_tokens=True) == masked
    [final], _ = encode_dialogues(rows, tok, loss_on="final", **LIMIT)
    first = masked.index("[")
    only_last = masked[:first] + masked[first:].replace("[", "", 1).replace("]", "", 1)
    assert shown(final, tok, of_tokens=True) == only_last
    assert {*final.at} < {*every.at}
    [whole], _ = encode_dialogues(rows, tok, loss_on="all", **LIMIT)
    assert whole.at == [*range(whole.length)]
    assert whole.targets == [float(i) for i in whole.ids]


def test_t4_one_turn_is_final_and_every_turn():
    tok = built_in("chatml")
    row = [Dialogue("x", PIRATE[:3], "g")]
    assert encode_dialogues(row, tok, loss_on="final", **LIMIT) == encode_dialogues(row, tok, **LIMIT)


@pytest.mark.parametrize(
    ("separator", "masked"),
    [
        # with bytes for tokens, every separator is a multi-byte one, and only its last byte is labelled
        ("\n\n", "User: 1 + 1?\n\nAssistant: 1 + 1\n[⏎]=2\n\n[⏎]=1\nIt is 3 🙂\n[⏎]=0\n</s>"),
        ("\nки\n", "User: 1 + 1?\n\nAssistant: 1 + 1\nки[⏎]=2\n\nки[⏎]=1\nIt is 3 🙂\nки[⏎]=0\n</s>"),
        (" §", "User: 1 + 1?\n\nAssistant: 1 + 1 {}[{}]=2 {}[{}]=1It is 3 🙂 {}[{}]=0</s>"),
    ],
)
def test_t4_steps_are_judged_at_the_last_token_of_their_separator(separator, masked):
    """With an empty step, unicode, and separators of several tokens."""
    tok = built_in("plain")
    [row], dropped = encode_steps(
        [Steps("x", ASK, ("1 + 1", "", "It is 3 🙂"), (1.0, 0.0, -1.0), "g")], tok, separator=separator, **LIMIT
    )
    first, last = (tok.decode([i]) for i in tok(separator, add_special_tokens=False)["input_ids"][-2:])
    assert shown(row, tok).removeprefix("<s>") == masked.replace("{}[{}]", f"{first}[{last}]")
    assert row.targets == [2.0, 1.0, 0.0]
    assert not dropped


def test_t4_every_labelled_position_decodes_to_the_end_of_its_step():
    tok = words()
    steps = ("a b", "c .", "d")
    for separator, expected in (("\n\n", "\n"), (" .", "."), ("", None)):
        [row], _ = encode_steps([Steps("x", ASK, steps, (1.0,) * 3, "g")], tok, separator=separator, **LIMIT)
        ends = [tok.decode([row.ids[i]]) for i in row.at]
        assert ends == ([expected] * 3 if expected else ["b", ".", "d"])


def test_t4_boundary_token_and_its_absence():
    tok = words()
    one = [Steps("x", ASK, ("a b", "", "c"), (1.0, -1.0, math.nan), "g")]
    [row], _ = encode_steps(one, tok, boundary="special:<step>", **LIMIT)
    assert [tok.decode([row.ids[i]]) for i in row.at] == ["<step>", "<step>"]
    assert tok.decode(row.ids[-8:]).split() == "a b <step> <step> c <step> <|im_end|>".split()
    with pytest.raises(UsageError, match="no token '<stop>'"):
        encode_steps(one, tok, boundary="special:<stop>", **LIMIT)


def test_t4_a_step_without_a_token_drops_the_row_and_is_counted():
    rows = [Steps("x", ASK, ("a", "", "b"), (1.0, 1.0, 1.0), "g"), Steps("y", ASK, ("a",), (1.0,), "g")]
    found, dropped = encode_steps(rows, words(), separator=" ", **LIMIT)
    assert [one.id for one in found] == ["y"]
    assert dropped == {encode.NO_TOKEN: 1}


def test_t4_steps_do_not_depend_on_their_neighbours():
    tok = built_in("chatml")
    parts = [tok(text, add_special_tokens=False)["input_ids"] for text in ("First.\n\n", "\n\nSecond\n\n", "\n\n")]
    rendered = Renderer(tok).steps([(ASK, ("First.", "\n\nSecond", ""))])[0]
    assert rendered.ids[rendered.response][: sum(map(len, parts))] == [*parts[0], *parts[1], *parts[2]]
    ends = [sum(map(len, parts[: i + 1])) - 1 + rendered.response.start for i in range(3)]
    assert rendered.step_ends == tuple(ends)


def test_t4_an_outcome_is_told_to_every_token_of_the_response():
    tok = built_in("zephyr")
    [right, wrong], _ = encode_outcomes(
        [Outcome("x", ASK, "2!", 1.0, "g"), Outcome("y", ASK, "ü", 0.0, "g")], tok, **LIMIT
    )
    assert shown(right, tok) == "<|user|>\n1 + 1?</s>\n<|assistant|>\n[2!</s>]=1"
    assert shown(wrong, tok) == "<|user|>\n1 + 1?</s>\n<|assistant|>\n[ü</s>]=0"
    assert (len(right.at), len(wrong.at)) == (3, 3)  # ü has two bytes


@pytest.mark.parametrize(
    ("classes", "neutral", "expected"),
    [
        (3, "keep", [2, 1, 0]),
        (3, "positive", [2, 2, 0]),
        (3, "drop", [2, 0]),
        (2, "positive", [1, 1, 0]),
        (2, "drop", [1, 0]),
    ],
)
def test_p1_p2_classes_of_steps(classes, neutral, expected):
    rows = [Steps("x", ASK, ("a", "b", "c"), (1.0, 0.0, -1.0), "g")]
    [row], _ = encode_steps(rows, words(), num_classes=classes, neutral=neutral, **LIMIT)
    assert row.targets == expected
    with pytest.raises(UsageError, match="--neutral positive"):
        encode_steps(rows, words(), num_classes=2, **LIMIT)


def test_p2_soft_labels_stay_rates():
    [row], _ = encode_steps([Steps("x", ASK, ("a", "b"), (0.92, 0.0), "g")], words(), num_classes=2, soft=True, **LIMIT)
    assert row.targets == [0.92, 0.0]


def test_v1_returns_stand_at_every_token():
    tok = words()
    rows = [Return("x", ASK, "a b", 1.0, (), "g"), Return("y", ASK, "a b", math.nan, (1.0, 0.0, 2.0), "g")]
    found, _ = encode_returns(rows, tok, gamma=0.5, **LIMIT)
    assert [one.targets for one in found] == [[0.25, 0.5, 1.0], [1.5, 1.0, 2.0]]
    with pytest.raises(UsageError, match="row 'z': 2 token_rewards, and its response has 3 tokens"):
        encode_returns([Return("z", ASK, "a b", math.nan, (1.0, 2.0), "g")], tok, **LIMIT)


# --- T6: the mask of transformers, and where it is wrong ---


def own_mask(tok, messages):
    [row], _ = encode_dialogues([Dialogue("x", messages, "g")], tok, **LIMIT)
    return [int(i in set(row.at)) for i in range(row.length)]


def their_mask(tok, messages):
    made = tok.apply_chat_template(list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    return made["assistant_masks"]


@pytest.mark.parametrize("make", [lambda: words(template=TAGGED), lambda: built_in("plain")], ids=["words", "bytes"])
def test_t6_own_mask_is_that_of_the_generation_tags(make):
    tok = make()
    tok.chat_template = TAGGED
    assert own_mask(tok, PIRATE) == their_mask(tok, PIRATE)
    assert 0 < sum(own_mask(tok, PIRATE)) < len(own_mask(tok, PIRATE))


def test_t6_a_span_that_ends_in_white_space_ends_there():
    """Transformers finds no token at the span's last character and takes everything to the end."""
    tok = words(template=SPACED)
    tok.backend_tokenizer.pre_tokenizer = __import__("tokenizers").pre_tokenizers.WhitespaceSplit()
    messages = (*ASK, {"role": "assistant", "content": "a b"}, *ASK, {"role": "assistant", "content": "c"})
    assert own_mask(tok, messages) == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1]
    assert their_mask(tok, messages)[7:12] == [1] * 5


def test_t6_tags_and_stand_ins_agree():
    plain = TAGGED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert own_mask(words(template=plain), PIRATE) == own_mask(words(template=TAGGED), PIRATE)


# --- T12: one BOS, EOS once, the ids of everybody else ---


@pytest.mark.parametrize("name", ["plain", "chatml", "zephyr", "tulu", None])
def test_t12_the_same_ids_as_the_engine_and_as_the_pipeline(tmp_path, name):
    tok = tiny.tokenizer(bos=True)
    if name:
        use_template(tok, name)
    folder = tiny.classifier(tmp_path / "m", tok=tok)
    engine = TransformersEngine(Checkpoint(str(folder)), lint="warn")
    turns = [{"role": "user", "content": "what is two + two ?"}, {"role": "assistant", "content": "four ."}]
    [[chosen, rejected]] = [
        [row.chosen, row.rejected]
        for row in encode_comparisons([Comparison("x", tuple(turns[:1]), "four .", "three .", 0.0, "g")], tok, **LIMIT)[
            0
        ]
    ]
    request = Request((Chat(tuple(Message(t["role"], t["content"]) for t in turns)),))
    assert engine._encode([request]) == [chosen]
    assert tok.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"] == chosen
    text = tok.apply_chat_template(turns, tokenize=False)
    assert tok(text, add_special_tokens=False)["input_ids"] == chosen
    assert Renderer(tok).responses([(tuple(turns[:1]), "four .")])[0].ids == chosen
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder), device="cpu")
    assert classify.preprocess(text, add_special_tokens=False)["input_ids"][0].tolist() == chosen
    assert chosen != rejected
    assert chosen.count(tok.bos_token_id) <= 1
    if name == "plain":
        assert (chosen[0], chosen[-1]) == (tok.bos_token_id, tok.eos_token_id)
        assert (chosen.count(tok.bos_token_id), chosen.count(tok.eos_token_id)) == (1, 1)


# --- length, refusals ---


def pair(chosen, rejected, prompt=ASK):
    return Comparison("x", prompt, chosen, rejected, 0.5, "g", 0.5)


def test_pairs_over_the_limit_are_dropped_cut_or_refused(capsys):
    tok = words(template="{% for m in messages %}{{ m['content'] }} {% endfor %}</s>")
    one = [pair("a a a a", "b b b b")]  # 1 + 1 ? and four words and </s>: nine tokens
    assert encode_comparisons(one, tok, max_length=9)[0][0].target == 0.5
    assert encode_comparisons(one, tok, max_length=8) == ([], {encode.TOO_LONG: 1})
    with pytest.raises(UsageError, match=r"row 'x' has 9 tokens and --max-length is 8"):
        encode_comparisons(one, tok, max_length=8, overlong="error")
    [left], _ = encode_comparisons(one, tok, max_length=5, overlong="truncate-left")
    assert tok.decode(left.chosen) == "1 a a a </s>"
    assert capsys.readouterr().err == "note: 2 texts cut to the 5 tokens of --max-length (truncate-left)\n"
    assert encode_comparisons(one, tok, max_length=5, overlong="truncate-right") == ([], {encode.SAME: 1})


def test_rows_that_lose_labels_by_a_cut_are_dropped_and_counted(capsys):
    tok = words(template="{% for m in messages %}{{ m['content'] }}{% endfor %}</s>")
    steps = [Steps("x", ASK, ("a", "b", "c"), (1.0, -1.0, math.nan), "g")]  # 4, then 2 each with a line end, then </s>
    [kept], _ = encode_steps(steps, tok, separator="\n", max_length=9, overlong="truncate-right")
    assert kept.targets == [2.0, 0.0]
    found = encode_steps(steps, tok, separator="\n", max_length=8, overlong="truncate-right")
    assert found == ([], {encode.CUT_OFF: 1})
    outcome = [Outcome("x", ASK, "a b", 1.0, "g")]
    [short], _ = encode_outcomes(outcome, tok, max_length=6, overlong="truncate-right")
    assert short.targets == [1.0, 1.0]
    assert "note: 1 texts cut to the 6 tokens" in capsys.readouterr().err
    assert encode_outcomes(outcome, tok, max_length=5, overlong="truncate-right") == ([], {encode.CUT_OFF: 1})
    none = [Steps("x", ASK, ("a",), (math.nan,), "g")]
    assert encode_steps(none, tok, **LIMIT) == ([], {encode.NO_LABEL: 1})


def test_s12_conversations_that_the_template_refuses_are_counted():
    twice = (*ASK, *ASK)
    tok = words()
    assert encode_comparisons([pair("a", "b", twice)], tok, **LIMIT) == ([], {encode.REFUSED: 1})
    assert encode_outcomes([Outcome("x", twice, "a", 1.0, "g")], tok, **LIMIT) == ([], {encode.REFUSED: 1})
    assert encode_steps([Steps("x", twice, ("a",), (1.0,), "g")], tok, **LIMIT) == ([], {encode.REFUSED: 1})


def test_rankings_keep_all_their_responses():
    ranked = Ranking("x", ASK, ("a", "b", "c d"), (1, 0, 0), "g")
    [row], _ = encode_rankings([ranked], words(), **LIMIT)
    assert (len(row.texts), row.levels, row.group) == (3, [1, 0, 0], "g")
    assert encode_rankings([ranked], words(), max_length=12) == ([], {encode.TOO_LONG: 1})


def test_the_reward_of_a_comparison_is_read_at_the_last_token():
    tok = built_in("plain")
    [row], _ = encode_comparisons([Comparison("x", ASK, "2", "3", 0.0, "g")], tok, **LIMIT)
    better, worse = (marked(segments(ids, labels, tok)) for ids, labels in read_at_last(row))
    assert better.endswith("Assistant: 2[</s>]=1")
    assert worse.endswith("Assistant: 3[</s>]=0")


def test_reasoning_that_a_template_sets_apart_is_still_found():
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' and '</think>' in m['content'] %}"
        "{% set parts = m['content'].split('</think>') %}<|im_start|>assistant\n<think>{{ parts[0] | trim }}</think>\n"
        "{{ parts[1] | trim }}<|im_end|>\n{% else %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endif %}{% endfor %}"
    )
    tok = built_in("chatml")
    tok.chat_template = template
    [row], _ = encode_outcomes([Outcome("x", ASK, "hm  </think> 2", 1.0, "g")], tok, **LIMIT)
    assert shown(row, tok).endswith("assistant\n[<think>hm</think>\n2<|im_end|>]=1\n")


# --- a tokenizer that merges across every boundary ---


@pytest.fixture(scope="module")
def merging():
    """Byte-level BPE without a pre-tokenizer that keeps words apart, so that tokens span words, steps and line ends."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(["a. \n\nb. \n\nUser: ab\n\nAssistant: a. b 🙂\n\n"] * 50, trainer)
    tok = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    assert any(len(tok.decode([i])) > 3 and "\n\n" in tok.decode([i])[1:-1] for i in range(5, len(tok)))
    return tok


pieces = strategies.text("ab. \n🙂ü:", max_size=12)


@given(steps=strategies.lists(pieces, min_size=1, max_size=5), separator=strategies.sampled_from(["\n\n", "\n", " ки"]))
@settings(max_examples=60, deadline=None)
def test_t4_steps_end_where_they_end_whatever_they_hold(merging, steps, separator):
    merging.chat_template = CHATML
    rendered = Renderer(merging).steps([(ASK, steps)], separator=separator)[0]
    assert len(rendered.step_ends) == len(steps)
    for i, end in enumerate(rendered.step_ends):
        said = merging.decode(rendered.ids[rendered.response.start : end + 1])
        assert said == "".join(step + separator for step in steps[: i + 1])


@given(
    first=pieces.filter(str.strip),
    last=pieces.filter(str.strip),
    name=strategies.sampled_from(["chatml", "zephyr", "tulu", "plain"]),
)
@settings(max_examples=60, deadline=None)
def test_t12_the_whole_text_is_tokenised_once_and_answers_are_covered(merging, first, last, name):
    use_template(merging, name)
    messages = [*ASK, {"role": "assistant", "content": first}, *ASK, {"role": "assistant", "content": last}]
    rendered = Renderer(merging).dialogues([messages])[0]
    assert rendered.ids == merging.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    for turn, answer in zip(rendered.turns, (first, last), strict=True):
        covered = merging.decode(rendered.ids[turn])
        inside = merging.decode(rendered.ids[turn.start + 1 : turn.stop - 1])
        assert answer in covered  # all of it
        assert len(inside.strip("\N{REPLACEMENT CHARACTER}")) <= len(answer)  # and at most one token more at either end
    assert merging.decode(rendered.ids[rendered.turns[-1]]).endswith("<|im_end|>" if name == "chatml" else "</s>")
