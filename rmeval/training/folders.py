"""Folders of training runs: the next free one, what can be resumed, what a finished one was asked to do.

What this module does not know: how a run is done.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rmeval.errors import UsageError
from rmeval.training.config import Kind, TrainConfig, make_config, read_config
from rmeval.whole_files import is_readable

CHECKPOINTS = "checkpoints"
"""Folder inside the run's, while it runs."""


def settings_of(out: Path, kind: Kind) -> dict[str, Any]:
    """The settings of a run that was cut off, from its folder. Raises `UsageError`."""
    path = out / "config.toml"
    if not path.is_file():
        raise UsageError(f"--resume {out}: no config.toml there, so no run of ours")
    if (out / "config.json").exists() and not has_checkpoint(out):  # those of a run go when all else is done
        raise UsageError(f"--resume {out}: this run has ended; its checkpoint is there")
    return {**read_config(path, kind), "out": out}


def last_checkpoint(out: Path) -> Path:
    """The newest whole checkpoint of a run. Raises `UsageError` where there is none."""
    if not (found := _checkpoints(out)):
        raise UsageError(f"--resume {out}: it has no checkpoint yet; remove the folder and start again")
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]))


def has_checkpoint(out: Path) -> bool:
    """Whether a run can be resumed."""
    return bool(_checkpoints(out))


def how_to_go_on(out: Path | None, kind: str) -> str:
    """What to do after an interruption."""
    if out is not None and has_checkpoint(out):
        return f"go on with: rmeval train {kind} --resume {out}"
    return "nothing was saved yet: the same command begins again"


def _checkpoints(out: Path) -> list[Path]:
    """Those that are whole: the state of the trainer is written last, and a loss of power may cut any file short."""
    found = [path for path in (out / CHECKPOINTS).glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return [path for path in found if all(map(is_readable, path.iterdir()))]


def next_free(runs: Path, kind: str) -> Path:
    """The first of `<runs>/<kind>-001`, `-002`, ... that is not there yet."""
    number = 1
    while (path := runs / f"{kind}-{number:03d}").exists():
        number += 1
    return path


def free_folder(out: Path | None, kind: str) -> Path:
    """The folder to write to: as asked, if it holds no run yet, else the next free `runs/<kind>-<NNN>`."""
    if out is None:
        if processes() > 1:
            raise UsageError("--out is required with several processes, which must agree on it")
        return next_free(Path("runs"), kind)
    if has_checkpoint(out):
        raise UsageError(f"--out {out}: holds a run that was cut off: --resume {out} goes on with it")
    if (out / "config.json").exists():
        raise UsageError(f"--out {out}: already holds a checkpoint; name another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    return out


def same_data(out: Path, digest: str) -> None:
    """Raise `UsageError` unless the run in a folder had the same data."""
    path = out / "data.json"
    try:
        before = json.loads(path.read_bytes())["sha256"] if path.is_file() else None
    except (OSError, KeyError, TypeError, ValueError):
        raise UsageError(f"--resume {out}: {path.name}, which says what data the run had, is damaged") from None
    if before != digest:
        raise UsageError(f"--resume {out}: the data have changed since this run began")


def load_run(out: Path) -> TrainConfig:
    """The settings of a finished run, with its folder. Raises `UsageError`."""
    try:
        kind = json.loads((out / "config.json").read_text(encoding="utf-8"))["rmeval"]["kind"]
    except (OSError, KeyError, TypeError, ValueError):
        raise UsageError(f"{out}: not the folder of a finished training run") from None
    return make_config(kind, read_config(out / "config.toml", kind))


def processes() -> int:
    """Processes of this launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))
