"""What comes from elsewhere: weights that lie outside of a checkpoint's digest, a stranger's result, closed streams."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import batch_server
import judge_server
import own_rows
import pytest
import tiny
import torch
from command import PROGRAM, environment, rmeval
from safetensors.torch import load_file, save_file

from rmeval.engines.checkpoint import Checkpoint
from rmeval.errors import LockHeld, ResourceError, UsageError
from rmeval.locks import locked
from rmeval.models import load_model
from rmeval.whole_files import draft_folder, write_whole


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["part.bin", "../beside/part.safetensors", "sub/part.safetensors"])
def test_an_index_names_files_beside_the_config_alone(tiny_reward_model, tmp_path, where):
    """transformers follows it to other folders and to pickles, of which the digest of the checkpoint knows nothing."""
    folder = copied(tiny_reward_model, tmp_path / "model")
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-a.safetensors")
    (folder / where).parent.mkdir(exist_ok=True)
    if where.endswith(".bin"):
        torch.save(held, folder / where)
    else:
        save_file(held, folder / where, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(held, where)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"only safetensors files beside its config"):
        Checkpoint(str(folder)).load(dtype="float32", device="cpu", attention=None)


def test_a_name_in_the_config_leads_to_no_other_folder(tiny_reward_model, tmp_path):
    folder = copied(tiny_reward_model, tmp_path / "model")
    (folder / "sub").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "sub/other.safetensors")
    config = json.loads((folder / "config.json").read_text())
    for named, fits in (("sub/other.safetensors", False), ("model.safetensors", True), (7, False)):
        (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": named}))
        if fits:
            Checkpoint(str(folder)).refuse_unless_loadable()
        else:
            with pytest.raises(UsageError, match=r"only safetensors files beside its config"):
                Checkpoint(str(folder)).refuse_unless_loadable()


def test_an_adapter_beside_weights_is_not_added_in_silence(tiny_reward_model, tmp_path):
    """It may be a pickle, and is in no digest."""
    folder = copied(tiny_reward_model, tmp_path / "model")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"}))
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    for asked in (
        ("run", folder, "--suite", "pairs", "--data", rows),
        ("train", "bt", "--model", folder, "--data", rows, "--out", tmp_path / "run"),
    ):
        got = rmeval(*asked)
        assert got.code == 2, got.stderr
        assert "an adapter lies beside its weights" in got.stderr


def test_two_models_of_the_hub_share_no_replies_where_their_config_is_read_by_us(tmp_path, monkeypatch):
    """Theirs needs code of the checkpoint, so that transformers does not say which commit it is."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = []
    for name, commit in (("acme/small", "a" * 40), ("acme/large", "b" * 40)):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs/main").write_text(commit)
        snapshot = folder / "snapshots" / commit
        tiny.tokenizer().save_pretrained(snapshot)
        config = {
            "architectures": ["InternLM2ForRewardModel"], "model_type": "internlm2", "vocab_size": 64,
            "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config"}, "hidden_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "reward_token_id": 5,
        }  # fmt: skip
        (snapshot / "config.json").write_text(json.dumps(config))
        found.append(Checkpoint(name))
    assert [one.identity for one in found] == ["a" * 40, "b" * 40]
    assert [one.revision for one in found] == ["a" * 40, "b" * 40], "what main is now may be another commit"


def test_a_folder_with_an_at_sign_is_no_other_folder_with_a_revision(tmp_path):
    """The reference `ref@2` was read as `ref`, where both are folders."""
    from transformers import LlamaConfig, LlamaForCausalLM

    for i, name in enumerate(("policy", "ref", "ref@2")):
        torch.manual_seed(i)
        config = LlamaConfig(
            vocab_size=80, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        LlamaForCausalLM(config).save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)

    def reference(name):
        said = {"scorer": {"reference": str(tmp_path / name)}}
        model = load_model(str(tmp_path / "policy"), scorer="implicit", given=said)
        return model.engine.fingerprint()["reference"]["weights"]

    assert reference("ref@2") == Checkpoint(str(tmp_path / "ref@2")).identity != reference("ref")
    with pytest.raises(UsageError, match="a folder has no revisions"):
        reference("ref@3")


def test_several_models_behind_one_server_share_no_replies(tiny_reward_model):
    """Where they cannot be held against the weights, nothing but their names tells them apart."""
    found = [
        load_model(
            str(tiny_reward_model),
            engine="http",
            given={"engine": {"base_url": "http://127.0.0.1:9", "check": "off", "served": name}},
        ).engine.fingerprint()
        for name in ("first", "second", "")
    ]
    assert [one.get("served") for one in found] == ["first", "second", None]


@pytest.mark.parametrize("damage", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_training_goes_on_from_the_newest_checkpoint_that_is_there_in_full(tiny_reward_model, tmp_path, damage):
    """A loss of power may leave files that are named and empty; the pickle of a stranger is no archive of torch's."""
    from rmeval.training.folders import last_checkpoint

    for step in (1, 2):
        folder = tmp_path / f"checkpoints/checkpoint-{step}"
        folder.mkdir(parents=True)
        shutil.copy(tiny_reward_model / "model.safetensors", folder)
        torch.save({"state": {}}, folder / "optimizer.pt")
        (folder / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
    path = folder / damage
    path.write_bytes(path.read_bytes()[:-1])
    assert last_checkpoint(tmp_path).name == "checkpoint-1"
    shutil.rmtree(tmp_path / "checkpoints/checkpoint-1")
    with pytest.raises(UsageError, match="has no checkpoint"):
        last_checkpoint(tmp_path)


def test_a_seed_that_no_generator_takes_is_refused(tmp_path):
    got = rmeval("train", "bt", "--model", "tiny", "--data", "arithmetic", "--seed", "-1", "--out", tmp_path / "run")
    assert got.code == 2, got.stderr
    assert "seed" in got.stderr


@pytest.mark.slow
def test_checkpoints_are_loaded_again_without_modules_of_the_folder_one_is_in(tmp_path, monkeypatch):
    """`python -m` looks for modules there first, and there may be a data set of others with a `safetensors.py`."""
    from rmeval.training.export import _in_another_process

    canary = tmp_path / "canary"
    for name in ("safetensors", "torch", "transformers"):
        (tmp_path / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    asked = {"auto": "AutoModelForSequenceClassification", "folders": [], "threads": 1}
    assert _in_another_process(asked) == []
    assert not canary.exists()


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
def test_a_header_that_names_no_encoding_of_texts_is_passed_over(tmp_path, batch):
    """`charset=hex` is a codec that Python knows, and none of texts; with it the library failed with a traceback."""
    server = batch_server.BatchServer(lambda _: "[[A]]") if batch else judge_server.JudgeServer("[[A]]")
    rows = own_rows.pairs(tmp_path / "pairs.jsonl", n=2)
    with server:
        handler = server._http.RequestHandlerClass
        send = handler.send_header
        server._http.RequestHandlerClass = type(
            "Odd",
            (handler,),
            {
                "send_header": lambda self, name, value: send(
                    self, name, f"{value}; charset=hex" if name == "Content-Type" else value
                )
            },
        )
        asked = ["run", "judge:m", "--suite", "pairs", "--data", rows, "--base-url", server.url]
        more = ["-a", "engine.batch=true", "-a", "engine.poll=0.01"] if batch else []
        got = rmeval(*asked, "--out", tmp_path / "out", *more)
    assert got.code == 0, got.stderr


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_a_cache_on_a_full_disk_is_exit_4(tmp_path, monkeypatch):
    import huggingface_hub

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    got = rmeval("fetch", "judgebench")
    assert got.code == 4
    assert "the disk is full" in got.stderr


def test_a_revision_reads_no_file_outside_of_the_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    from rmeval.readers.hub import resolve_revision

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "datasets--acme--a/refs").mkdir(parents=True)
    (tmp_path / "mine").write_text("a secret of mine")
    assert resolve_revision("acme/a", "../../mine") == "../../mine"
    (tmp_path / "datasets--acme--a/refs/main").write_text("c" * 40)
    assert resolve_revision("acme/a", "main") == "c" * 40


# --- results of others -----------------------------------------------------------------------------------------------


def test_samples_that_were_altered_enter_no_ensemble(tmp_path):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    for name in ("length", "random"):
        assert rmeval("run", name, "--suite", "pairs", "--data", rows, "--out", tmp_path / "out").code == 0
    one, other = (path for path in (tmp_path / "out").rglob("*.json"))
    shutil.copy(*(path.with_name(f"{path.stem}-samples.jsonl.gz") for path in (one, other)))
    got = rmeval("run", f"ensemble:{one},{other}", "--suite", "pairs", "--data", rows, "--out", tmp_path / "out")
    assert got.code == 2, got.stdout
    assert "altered" in got.stderr


def test_a_result_of_others_sends_no_key_where_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-mine")
    asked = []
    monkeypatch.setattr("rmeval.engines.openai.key_for", lambda *said: asked.append(said) or 1 / 0)
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    rmeval("run", "length", "--suite", "pairs", "--data", rows, "--out", tmp_path / "out")
    [path] = (tmp_path / "out").rglob("*.json")
    held = json.loads(path.read_text())

    def reproduced(url: str, *said: object):
        command = ["rmeval", "run", "judge:m", "--suite", "pairs", "--data", str(rows), "--base-url", url]
        held["environment"]["command"] = [*command, "-a", "engine.key_env=AWS_SECRET_ACCESS_KEY"]
        path.write_text(json.dumps(held))
        return rmeval("reproduce", path, *said)

    got = reproduced("https://elsewhere.example/v1")
    assert (got.code, asked) == (2, [])
    assert "was asked of https://elsewhere.example/v1" in got.stderr
    with pytest.raises(ZeroDivisionError):
        reproduced("https://elsewhere.example/v1", "--base-url", "http://127.0.0.1:9/v1")
    assert asked == [("http://127.0.0.1:9/v1", "OPENAI_API_KEY")], "which key is the caller's to say, too"


def test_a_stated_number_that_its_scores_do_not_give_is_not_reproduced(tmp_path):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    rmeval("run", "length", "--suite", "pairs", "--data", rows, "--out", tmp_path / "out")
    [path] = (tmp_path / "out").rglob("*.json")
    assert rmeval("reproduce", path).code == 0
    held = json.loads(path.read_text())
    held["headline"]["value"] = held["metrics"][0]["value"] = 0.987
    path.write_text(json.dumps(held))
    got = rmeval("reproduce", path)
    assert got.code == 3, "every score is found again, and the number is made up"
    assert "states value 0.987, its samples give" in got.stderr


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_message_holds_a_secret(tmp_path, monkeypatch):
    """Libraries quote the address of the hub, where whoever has a mirror with a password has it in."""
    monkeypatch.setenv("MIRROR_PASSWORD", "correct horse")
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    for model in ("http://me:p@ss-word@127.0.0.1:9/acme/none", "the correct horse", "hf_0123456789abcdef"):
        got = rmeval("run", model, "--suite", "pairs", "--data", rows)
        assert got.code == 2
        assert "[hidden]" in got.stderr
        assert not any(secret in got.stderr for secret in ("ss-word", "correct horse", "0123456789"))


@pytest.mark.parametrize(
    "said",
    [
        ("-a", 'engine.extra={"metadata": {"api_key": "abc"}}'),
        ("-a", 'engine.extra={"user": "sk-0123456789abcdef0123"}'),
        ("--base-url", "http://127.0.0.1:9/v1/sk-0123456789abcdef0123/chat"),
    ],
)
def test_a_key_is_given_by_a_variable_and_nowhere_else(tmp_path, said):
    """What the engine is told is written into the store, the result and the notes."""
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    there = () if said[0] == "--base-url" else ("--base-url", "http://127.0.0.1:9/v1")
    got = rmeval("run", "judge:m", "--suite", "pairs", "--data", rows, "--out", tmp_path / "out", *there, *said)
    assert got.code == 2, got.stderr
    assert "key" in got.stderr
    assert "0123456789" not in got.stderr


# --- streams, rights, locks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>&- >&-"])
def test_closed_streams_take_nothing_with_them(tmp_path, closed):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    words = [*PROGRAM, "run", "length", "--suite", "pairs", "--data", rows, "--out", tmp_path / "out", "--json"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *map(str, words)],
        capture_output=True, encoding="utf-8", check=False, env=environment(RMEVAL_HOME=tmp_path / "home"), timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "out").rglob("*.json"))) == 1
    if closed == "2>&-":
        assert json.loads(done.stdout)["schema"] == 1, "notes went into the answer"
    else:
        assert done.stdout == ""


def test_nothing_is_written_over_what_is_read(tmp_path):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    rmeval("run", "length", "--suite", "pairs", "--data", rows, "--out", tmp_path / "out")
    [result] = (tmp_path / "out").rglob("*.json")
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"prompt": "why ?", "responses": ["so", "so it is"]}\n')
    for path, *asked in (
        (texts, "score", "length", texts, "-o", texts),
        (result, "report", result, "-o", result),
        (result, "report", result, "-o", tmp_path / "page.html", "--markdown", result),
        (result, "export", result, "--to", "json", "-o", result),
    ):
        before = path.read_bytes()
        got = rmeval(*asked)
        assert (got.code, path.read_bytes()) == (2, before), got.stderr
        assert "is the file that is read" in got.stderr
    page = tmp_path / "page.html"
    got = rmeval("report", result, "-o", page, "--markdown", page)
    assert (got.code, page.exists()) == (2, False)
    assert "is the page (--out)" in got.stderr


def test_files_have_the_rights_that_the_mask_leaves(tmp_path):
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "mine.json", b"{}")
        with draft_folder(tmp_path) as draft:
            draft.rename(tmp_path / "folder")
    finally:
        os.umask(before)
    assert (tmp_path / "mine.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


def test_a_lock_that_the_disk_has_no_room_for_locks_nobody_out(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "run.lock"
    with monkeypatch.context() as patched:
        patched.setattr("rmeval.locks.json.dump", full)
        with pytest.raises(ResourceError, match="the disk is full"), locked(path, "a run"):
            pass
    with locked(path, "a run"):
        pass


def test_one_of_many_takes_over_a_stale_lock(tmp_path):
    """Between reading that it is stale and removing it, another one may have taken it over."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for _ in range(30):
        path = tmp_path / "run.lock"
        path.write_text(json.dumps({"pid": gone.pid, "host": socket.gethostname(), "started": 0, "run": "a run"}))
        inside, most, start = [0], [0], threading.Barrier(8)
        counting, done = threading.Lock(), threading.Event()

        def take(*, inside=inside, most=most, start=start, counting=counting, done=done, path=path) -> None:
            start.wait()
            try:
                with locked(path, "a run"):
                    with counting:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    done.wait(0.02)
                    with counting:
                        inside[0] -= 1
            except LockHeld:
                pass

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most[0] == 1
