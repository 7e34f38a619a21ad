"""Hostile and broken checkpoints and suites through the command line: nothing of theirs runs, and one message says why."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import own_hub
import own_rows
import pytest
import tiny
from command import rmeval

from rmeval.errors import UsageError

CANARY = "import pathlib; pathlib.Path({!r}).write_text('ran')\n"


@pytest.fixture
def pairs(tmp_path):
    return own_rows.pairs(tmp_path / "mine.jsonl", 8)


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def checkpoint(tiny_reward_model, tmp_path):
    """A copy of the tiny reward model, to be spoilt."""
    return Path(shutil.copytree(tiny_reward_model, tmp_path / "spoilt"))


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return self.canary.write_text, ("ran",)


def run(model, pairs, *more):
    out = pairs.parent / "out"
    return rmeval("run", model, "--suite", "pairs", "--data", pairs, "--out", out, *more)


def refused(got) -> str:
    assert (got.code, got.stdout) == (2, ""), got.stderr
    assert got.stderr.count("error: ") == 1
    return got.stderr


@pytest.mark.fault("F1")
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "weights.pkl", "model.ckpt"])
def test_pickled_weights_alone_are_refused(checkpoint, pairs, canary, name):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / name).write_bytes(pickle.dumps(Evil(canary)))
    message = refused(run(checkpoint, pairs))
    assert f"only pickled weights ({name})" in message
    assert "safetensors" in message
    assert not canary.exists()


@pytest.mark.fault("F2")
def test_pickles_beside_good_weights_are_left_alone(checkpoint, pairs, canary):
    before = run(checkpoint, pairs, "--json").document
    for name in ("pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "scores.pkl", "last.ckpt"):
        (checkpoint / name).write_bytes(pickle.dumps(Evil(canary)))
    after = run(checkpoint, pairs, "--store", pairs.parent / "other.sqlite", "--json").document
    assert after["counts"]["cached"] == 0
    assert after["metrics"] == before["metrics"]
    assert not canary.exists()


@pytest.mark.fault("F3")
@pytest.mark.parametrize("known", [False, True])
def test_code_of_a_checkpoint_never_runs(checkpoint, pairs, canary, known):
    (checkpoint / "modeling_x.py").write_text(CANARY.format(str(canary)))
    config = json.loads((checkpoint / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_x.X", "AutoModelForSequenceClassification": "modeling_x.X"}
    if not known:
        config |= {"model_type": "x", "architectures": ["XForReward"]}
    (checkpoint / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer_config.json",):
        content = json.loads((checkpoint / name).read_text())
        content["auto_map"] = {"AutoTokenizer": ["modeling_x.X", "modeling_x.X"]}
        (checkpoint / name).write_text(json.dumps(content))
    for more in ((), ("--engine", "transformers"), ("--scorer", "scalar")):
        got = run(checkpoint, pairs, *more)
        if known:  # transformers has this class itself, so that the checkpoint's own is not needed
            assert got.code == 0, got.stderr
            assert "spoilt brings Python code of its own (auto_map), which is not run: read as" in got.stderr
        else:
            assert "runs no code from checkpoints" in refused(got)
    assert not canary.exists()


@pytest.mark.fault("F4")
def test_python_files_of_a_suite_are_never_imported(tmp_path, pairs, canary, monkeypatch):
    made = own_rows.card_folder(tmp_path / "cards", "mine")
    shutil.copy(pairs, made / "sample.jsonl")
    for name in ("__init__.py", "suite.py", "conftest.py", "mine.py", "reader.py", "card.py", "sitecustomize.py"):
        (made / name).write_text(CANARY.format(str(canary)))
        (tmp_path / name).write_text(CANARY.format(str(canary)))  # beside the rows
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    monkeypatch.chdir(tmp_path)
    assert "mine" in {one["name"] for one in rmeval("list", "suites", "--json").document["suites"]}
    assert rmeval("show", "mine").code == 0
    checked = rmeval("check", made)
    assert checked.code == 0, checked.stderr
    got = rmeval("run", "length", "--suite", "mine", "--data", pairs, "--out", tmp_path / "out")
    assert got.code == 0, got.stderr
    assert "code in suite ignored" in got.stderr
    assert "conftest.py" in got.stderr
    assert not canary.exists()


@pytest.mark.fault("F5")
def test_yaml_that_runs_a_command_does_not(tmp_path, canary, monkeypatch):
    evil = f"name: mine\nversion: !!python/object/apply:os.system ['touch {canary}']\n"
    made = own_rows.card_folder(tmp_path / "cards", "mine")
    for path in (tmp_path / "card.yaml", tmp_path / "card.yml", made / "card.toml"):
        path.write_text(evil)
        refused(rmeval("check", path))
    monkeypatch.setenv("RMEVAL_PATH", str(tmp_path / "cards"))
    refused(rmeval("run", "length", "--suite", "mine"))
    assert not canary.exists()


@pytest.mark.fault("F5")
def test_the_card_of_a_data_set_is_read_by_a_safe_loader(tmp_path, canary, monkeypatch):
    from huggingface_hub import constants

    from rmeval.readers.hub import read_hub

    evil = f"---\nconfigs: !!python/object/apply:os.system ['touch {canary}']\n---\n# Ours\n"
    rows = own_hub.jsonl([{"prompt": "q", "chosen": "a", "rejected": "b"}])
    own_hub.cache(tmp_path, "me/evil", "c" * 40, {"README.md": evil.encode(), "train.jsonl": rows})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UsageError, match=r"me/evil@c{40}.*python/object/apply"):
        list(read_hub("me/evil", "c" * 40, None, "train", ()))
    assert not canary.exists()


def memory(field: str) -> int:
    """Bytes of this process by the kernel's count: `VmRSS` now, `VmHWM` at most since it was reset."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024


def header(content: dict, *, length: int | None = None, data: int = 0) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * data


DAMAGED = {
    "a header of 2^63 bytes": header({}, length=2**63),
    "a header of 90 MB that is not there": header({}, length=90_000_000),
    "shorter than its header": header({"score.weight": {"dtype": "F32", "shape": [1, 32], "data_offsets": [0, 128]}}),
    "another dtype than its size": header(
        {"score.weight": {"dtype": "F64", "shape": [1, 32], "data_offsets": [0, 128]}}, data=128
    ),
    "a dtype that there is not": header(
        {"score.weight": {"dtype": "F31", "shape": [1, 32], "data_offsets": [0, 128]}}, data=128
    ),
    "a terabyte by its shape": header(
        {"score.weight": {"dtype": "F32", "shape": [2**19, 2**19], "data_offsets": [0, 2**40]}}, data=128
    ),
    "nothing": b"",
    "no header at all": b"\x01" * 64,
}


@pytest.mark.fault("F6")
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's peak memory cannot be reset here")
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_weights_are_one_line_and_take_no_memory(checkpoint, pairs, damage):
    (checkpoint / "model.safetensors").write_bytes(DAMAGED[damage])
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    message = refused(run(checkpoint, pairs))
    assert memory("VmHWM") - before < 200 * 2**20
    assert message.count("\n") == 1
    assert "spoilt" in message


@pytest.mark.fault("F6")
def test_weights_that_are_cut_short_name_their_file(checkpoint, pairs):
    whole = (checkpoint / "model.safetensors").read_bytes()
    for length in (7, 8, 200, len(whole) - 1):
        (checkpoint / "model.safetensors").write_bytes(whole[:length])
        *_, message = refused(run(checkpoint, pairs)).splitlines()
        assert message.startswith("error: ")
        assert "spoilt" in message


@pytest.mark.fault("F6")
def test_weights_whose_dtype_is_not_theirs_are_refused(checkpoint, pairs):
    path = checkpoint / "model.safetensors"
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    content = json.loads(whole[8 : 8 + size])
    content["score.weight"]["dtype"] = "I32"  # of the same size: it would be read as numbers of nine digits
    path.write_bytes(header(content) + whole[8 + size :])
    message = refused(run(checkpoint, pairs))
    assert "spoilt/model.safetensors: score.weight is stored as I32" in message


@pytest.mark.fault("F6")
def test_tokens_that_the_weights_do_not_know_are_refused_where_a_text_has_them(checkpoint, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    known = len(tokenizer)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(checkpoint)
    for answer, code in (("horse", 0), ("zebra", 2)):
        data = tmp_path / f"{answer}.jsonl"
        data.write_text(json.dumps({"prompt": "what ?", "chosen": answer, "rejected": "bad"}))
        got = run(checkpoint, data)
        assert got.code == code, got.stderr
    assert f"its tokenizer writes 'zebra' as {known}, and its weights know {known} tokens" in got.stderr


@pytest.mark.fault("F6")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json", "vocab.txt"])
def test_a_folder_or_a_link_to_nothing_in_place_of_a_file_is_one_message(checkpoint, pairs, name):
    (checkpoint / name).unlink(missing_ok=True)
    (checkpoint / name).mkdir()
    assert name in refused(run(checkpoint, pairs))
    (checkpoint / name).rmdir()
    (checkpoint / name).symlink_to("gone")
    assert name in refused(run(checkpoint, pairs))


@pytest.mark.fault("F8")
def test_the_doctor_finds_broken_weights_and_refusing_templates(checkpoint):
    from safetensors.torch import load_file, save_file

    with_template(checkpoint, "{{ raise_exception('no such turn') }}")
    got = rmeval("doctor", checkpoint)
    assert (got.code, got.stdout) == (2, "")
    assert "the chat template refuses a conversation: no such turn" in got.stderr
    assert "its chat template refuses the suite's texts" in got.stderr
    with_template(checkpoint, tiny.CHATML)
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    got = rmeval("doctor", checkpoint)
    assert got.code == 3
    assert "non_finite" in got.stdout
    assert "share=false" not in got.stderr


TEMPLATES = {
    "reaches for classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "reaches for globals": "{{ messages.append.__globals__ }}",
    "reaches through a filter": "{{ (messages | attr('__class__')).__mro__ }}",
    "changes what it is given": "{{ messages.append(1) }}",
    "a range without end": "{% for i in range(10**9) %}x{% endfor %}",
    "calls itself for ever": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "divides by zero": "{{ 1 // 0 }}",
    "no template": "{% for %}",
}


def with_template(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.fault("F7")
@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_stay_in_their_sandbox(checkpoint, pairs, template):
    with_template(checkpoint, TEMPLATES[template] + tiny.CHATML)
    got = run(checkpoint, pairs, "--json")
    assert got.code == 3, got.stderr
    assert "16 template_refused" in got.document["withheld"]
    assert got.document["headline"]["value"] is None
    assert "__subclasses__" not in got.stdout


ENDLESS = [
    "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
    "{% set x = 7 ** 99999999 %}",
    "{% set n = namespace(x=7) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
]


@pytest.mark.fault("F7")
@pytest.mark.parametrize("endless", ENDLESS[:2])
def test_templates_that_do_not_end_are_ended(checkpoint, pairs, endless, monkeypatch):
    from rmeval import chat_templates as templates

    monkeypatch.setattr(templates, "SECONDS", 0.2)
    with_template(checkpoint, endless + tiny.CHATML)
    got = run(checkpoint, pairs, "--json")
    assert got.code == 3, got.stderr
    assert got.stderr.count("did not end within 0.2 seconds") == 1  # one text waited for, not sixteen
    assert "16 template_refused" in got.document["withheld"]


def in_a_thread(work):
    """What `work` returns in another thread than the main one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()


@pytest.mark.fault("F7")
@pytest.mark.parametrize("endless", ENDLESS)
def test_templates_that_do_not_end_are_ended_in_any_thread(checkpoint, monkeypatch, capsys, endless):
    from transformers import AutoTokenizer

    from rmeval import chat_templates as templates

    with_template(checkpoint, endless + tiny.CHATML)
    monkeypatch.setattr(templates, "SECONDS", 0.2)
    rendering = templates.Rendering(AutoTokenizer.from_pretrained(checkpoint))
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    start = time.monotonic()
    assert in_a_thread(lambda: [rendering.text(turns) for _ in range(3)]) == [None] * 3
    assert time.monotonic() - start < 5
    said = capsys.readouterr().err
    assert ("did not end within 0.2 seconds" in said) != ("no time limit in a thread" in said)
    assert len(said.splitlines()) == 1


@pytest.mark.fault("F7")
def test_threads_render_at_once_and_only_the_late_one_is_ended(checkpoint):
    from transformers import AutoTokenizer

    from rmeval import chat_templates as templates

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    wanted = templates.Rendering(tokenizer).text(turns)
    rendering = templates.Rendering(tokenizer)  # one for all: renderings are shared by threads

    def honest():
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            assert rendering.text(turns) == wanted

    def late():
        with contextlib.suppress(templates.Endless):
            templates.within(0.2, lambda: str(any(x for x in iter(int, 1))))
            raise AssertionError("it ended")

    with ThreadPoolExecutor(max_workers=6) as pool:
        for done in [pool.submit(one) for one in (honest, late, honest, late, honest, late)]:
            done.result()
    assert not templates._WATCH._ends


@pytest.mark.fault("F8")
def test_weights_that_hold_nan_score_nothing(checkpoint, pairs):
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    weights["score.weight"] = torch.full_like(weights["score.weight"], float("nan"))
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    got = run(checkpoint, pairs, "--json")
    assert got.code == 3, got.stderr
    assert not got.document["complete"]
    assert "16 non_finite" in got.document["withheld"]
    assert {metric["value"] for metric in got.document["metrics"]} == {None}
    assert got.document["counts"]["errors"] == 16
