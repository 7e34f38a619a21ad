"""What all tests share: one thread, no network, and the development data where it is at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# the same cases every time, and none fails for a machine that is busy
settings.register_profile("rmeval", derandomize=True, deadline=None, database=None)
settings.load_profile("rmeval")

# before torch, tokenizers or huggingface_hub are imported anywhere
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", NO_COLOR="1", COLUMNS="120")


# a background shell has its children ignore Ctrl-C, and those theirs: tests that press it would wait for ever
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def dev_data() -> Path:
    """The folder of public data sets used in development; never part of the project."""
    folder = Path(os.environ.get("RMEVAL_DEV_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"development data not at hand: set RMEVAL_DEV_DATA (looked in {folder})")
    return folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's store, results or card folders."""
    monkeypatch.setenv("RMEVAL_HOME", str(tmp_path / "rmeval-home"))
    monkeypatch.delenv("RMEVAL_PATH", raising=False)


@pytest.fixture
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command leaves where it stands is left in the test's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Contended threads make small models slow and change the last bits."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama classifier with seeded weights."""
    import tiny

    return tiny.classifier(tmp_path_factory.mktemp("models") / "tiny-rm")
