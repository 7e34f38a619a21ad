"""Built-in chat templates byte for byte, templates from files, and Harmony."""

from __future__ import annotations

import pytest
from jinja2.exceptions import TemplateError

from rmeval import chat_templates as templates
from rmeval.errors import UsageError
from rmeval.training.harmony import HarmonyMessage, final_text, is_harmony, parse, render
from rmeval.training.masks import byte_tokenizer
from rmeval.training.templates import BUILT_IN, load_template, use_template

PIRATE = [
    {"role": "system", "content": "You are a friendly chatbot who always responds in the style of a pirate"},
    {"role": "user", "content": "How many helicopters can a human eat in one sitting?"},
]
TWO_TURNS = [
    *PIRATE,
    {"role": "assistant", "content": "Oh just 6."},
    {"role": "user", "content": "Are you sure about that?"},
]
S9 = (
    "<|im_start|>system\n"
    "You are a friendly chatbot who always responds in the style of a pirate<|im_end|>\n"
    "<|im_start|>user\n"
    "How many helicopters can a human eat in one sitting?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
S10 = S9 + "Oh just 6.<|im_end|>\n<|im_start|>user\nAre you sure about that?<|im_end|>\n<|im_start|>assistant\n"
ZEPHYR = (
    "<|system|>\n"
    "You are a friendly chatbot who always responds in the style of a pirate</s>\n"
    "<|user|>\n"
    "How many helicopters can a human eat in one sitting?</s>\n"
    "<|assistant|>\n"
)
TULU = (
    "<|user|>\n"
    "How are you doing?\n"
    "<|assistant|>\n"
    "I'm just a computer program, so I don't have feelings, but I'm functioning as expected. "
    "How can I assist you today?<|endoftext|>"
)


def rendered(name, messages, *, prompt=False, eos="</s>"):
    tok = byte_tokenizer()
    tok.eos_token = eos
    use_template(tok, name)
    return tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


@pytest.mark.parametrize(("messages", "golden"), [(PIRATE, S9), (TWO_TURNS, S10)], ids=["S9", "S10"])
def test_s9_s10_chatml_byte_for_byte(messages, golden):
    assert rendered("chatml", messages, prompt=True) == golden
    # what is left out without the generation prompt, and nothing else
    assert rendered("chatml", messages) == golden.removesuffix("<|im_start|>assistant\n")


def test_s11_zephyr_byte_for_byte():
    assert rendered("zephyr", PIRATE, prompt=True) == ZEPHYR
    answered = [*PIRATE, {"role": "assistant", "content": "Arr, six."}]
    assert rendered("zephyr", answered) == ZEPHYR + "Arr, six.</s>"


def test_s11_tulu_byte_for_byte():
    asked, _, answer = TULU.partition("<|assistant|>\n")
    messages = [
        {"role": "user", "content": "How are you doing?"},
        {"role": "assistant", "content": answer.removesuffix("<|endoftext|>")},
    ]
    assert rendered("tulu", messages, eos="<|endoftext|>") == TULU
    assert rendered("tulu", messages[:1], prompt=True) == asked + "<|assistant|>\n"


def test_s9_the_jinja_that_is_usually_printed_renders_something_else(tmp_path):
    """Indented blocks without whitespace control: the trap beside the example."""
    printed = tmp_path / "printed.jinja"
    printed.write_text(
        "{{ bos_token }}\n{% for message in messages %}\n    {{ '<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n' }}\n{% endfor %}"
    )
    found = rendered(str(printed), PIRATE)
    assert found != rendered("chatml", PIRATE)
    assert "\n    <|im_start|>" in found
    assert found.startswith("<s>")


@pytest.mark.parametrize("name", ["chatml", "zephyr", "tulu"])
@pytest.mark.parametrize(
    "roles", [["user", "user"], ["assistant"], ["user", "system"], ["system", "assistant"], ["user", "tool"]]
)
def test_s12_roles_take_turns(name, roles):
    with pytest.raises(TemplateError, match="is expected"):
        rendered(name, [{"role": role, "content": "x"} for role in roles])


def test_t12_plain_writes_one_bos_and_one_eos():
    text = rendered("plain", [*TWO_TURNS, {"role": "assistant", "content": "Aye."}])
    assert text.startswith("<s>You are")
    assert text.endswith("Assistant: Aye.</s>")
    assert (text.count("<s>"), text.count("</s>")) == (1, 1)


def test_a_template_comes_from_a_file_and_faults_name_it(tmp_path, monkeypatch):
    good = tmp_path / "own.jinja"
    good.write_text("{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}")
    assert rendered(str(good), PIRATE[1:]) == "<user>" + PIRATE[1]["content"]
    bad = tmp_path / "bad.jinja"
    bad.write_text("a\n{% for m in messages %}")
    with pytest.raises(UsageError, match=r"bad\.jinja line 2: not a Jinja template"):
        load_template(str(bad))
    monkeypatch.setattr(templates, "SECONDS", 0.2)
    bad.write_text("{% for _ in range(10 ** 5) %}{% for _ in range(10 ** 5) %}{% endfor %}{% endfor %}")
    with pytest.raises(UsageError, match=r"bad\.jinja: does not end within 0.2 seconds"):
        load_template(str(bad))
    with pytest.raises(UsageError, match=r"Did you mean 'zephyr'\?"):
        load_template("zephry")
    with pytest.raises(UsageError, match="Built in are chatml, zephyr, tulu, plain"):
        load_template("q")


def test_a_tokenizer_gets_the_marks_that_chatml_needs():
    tok = byte_tokenizer()
    assert use_template(tok, "chatml") == 0
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    assert use_template(bare, "chatml") == 2
    assert bare.chat_template == BUILT_IN["chatml"]
    assert len(bare("<|im_start|>a<|im_end|>", add_special_tokens=False)["input_ids"]) == 3
    with pytest.raises(UsageError, match="the tokenizer has none"):
        use_template(bare, "tulu")


# --- Harmony ---

WEATHER = [
    HarmonyMessage("system", "You are ChatGPT."),
    HarmonyMessage("user", "Weather in Tokyo?"),
    HarmonyMessage("assistant", "Need the tool.", "analysis"),
    HarmonyMessage("assistant", '{"city":"Tokyo"}', "commentary", "functions.get_weather", "json", end="call"),
    HarmonyMessage("functions.get_weather", '{"sunny":true}', "commentary", "assistant"),
    HarmonyMessage("assistant", "It says sunny.", "analysis"),
    HarmonyMessage("assistant", "It is sunny.", "final"),
]
WEATHER_TEXT = (
    "<|start|>system<|message|>You are ChatGPT.<|end|>"
    "<|start|>user<|message|>Weather in Tokyo?<|end|>"
    "<|start|>assistant<|channel|>analysis<|message|>Need the tool.<|end|>"
    '<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city":"Tokyo"}<|call|>'
    '<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{"sunny":true}<|end|>'
    "<|start|>assistant<|channel|>analysis<|message|>It says sunny.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>It is sunny.<|return|>"
)


def test_s14_harmony_for_training_and_back():
    assert render(WEATHER, purpose="training") == WEATHER_TEXT
    found = parse(WEATHER_TEXT)
    assert found[:-1] == tuple(WEATHER[:-1])
    assert (found[-1].content, found[-1].end) == ("It is sunny.", "return")


def test_s14_harmony_for_completion_leaves_out_reasoning_that_was_answered():
    text = render([*WEATHER, HarmonyMessage("user", "And Rome?"), HarmonyMessage("assistant", "Ask.", "analysis")])
    assert "Need the tool." not in text
    assert "<|channel|>analysis<|message|>Ask.<|end|>" in text
    assert text.endswith("<|start|>assistant")
    assert parse(text)[-1].content == "Ask."


def test_s14_final_alone_is_scored_and_reasoning_where_asked_for():
    completion = WEATHER_TEXT.partition("Tokyo?<|end|><|start|>assistant")[2]
    assert final_text(completion) == "It is sunny."
    assert final_text(completion, analysis=True) == "Need the tool.\n\nIt says sunny.\n\nIt is sunny."
    assert final_text("2 <|channel|> 3") == "2 <|channel|> 3"
    assert not is_harmony("plain")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<|channel|>analysis<|message|>x<|end|>", "without a final channel"),
        ("<|channel|>thoughts<|message|>x<|end|>", "channel 'thoughts'"),
        ("<|channel|>final", "no <|message|>"),
        ("<|channel|>final<|message|>a<|end|>b", "<|start|> is expected at character 35"),
        ("<|channel|>final<|message|>a<|start|>user", "<|start|> inside a message"),
    ],
)
def test_s14_broken_harmony_is_refused(text, says):
    with pytest.raises(ValueError, match=says.replace("|", r"\|")):
        final_text(text)
