"""Where and with what a run was made: recorded beside every result, never part of what "equal" means.

What this module does not know: results, engines, models. It imports no package to learn its version.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from rmeval.secrecy import HIDDEN, hide, known_secrets, names_a_secret
from rmeval.types import JSON

PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "accelerate", "safetensors", "huggingface_hub"),
    *("peft", "vllm", "openai", "ray", "numpy", "scipy", "pandas", "pydantic"),
)


def without_secrets(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """Command line arguments with every secret replaced.

    A secret is the value of an option, of a `key=value` or of an environment variable that is named like one, a token
    by its published prefix, or the user part of a URL.

    >>> without_secrets(["run", "m", "--api-key", "abc", "-a", "engine.token=abc", "http://me:pw@host/v1"], {})
    ['run', 'm', '--api-key', '[hidden]', '-a', 'engine.token=[hidden]', 'http://[hidden]@host/v1']
    """
    known = known_secrets(os.environ if environ is None else environ)
    shown, hide_next = [], False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if hide_next:
            argument = HIDDEN  # noqa: PLW2901
        elif equals and names_a_secret(name):
            argument = f"{name}={HIDDEN}" if value else argument  # noqa: PLW2901
        hide_next = not equals and argument.startswith("-") and names_a_secret(argument)
        shown.append(hide(argument, known))
    return shown


def describe(
    *,
    device: str = "cpu",
    threads: int | None = None,
    engine: Mapping[str, JSON] | None = None,
    argv: Sequence[str] | None = None,
) -> dict[str, JSON]:
    """The fields of `results.Environment`: versions, machine, device and the command line without secrets.

    `engine` is what an engine's `describe()` says. `threads` defaults to what torch uses, if torch is loaded already.
    """
    if threads is None and "torch" in sys.modules:
        threads = sys.modules["torch"].get_num_threads()
    commit, dirty = _checkout(Path(__file__).resolve().parent.parent)
    arguments = list(sys.argv if argv is None else argv)
    if arguments:
        arguments[0] = Path(arguments[0]).name  # where it is installed says nothing about the run
    return {
        "rmeval": package_version(),
        "git": commit,
        "dirty": dirty,
        "packages": dict(_versions()),
        "python": platform.python_version(),
        # the number alone: what a builder appends to it names whose machine this is
        "os": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "cpu": _said("/proc/cpuinfo", "model name") or platform.processor(),
        "cpus": os.cpu_count() or 1,
        "device": device,
        "driver": _said("/proc/driver/nvidia/version", "NVRM version"),
        "threads": threads,
        "engine": dict(engine or {}),
        "command": list(without_secrets(arguments)),
    }


def package_version() -> str:
    """The version of the rmeval that is running."""
    try:
        return metadata.version("rmeval")
    except metadata.PackageNotFoundError:
        return "unknown"


def _versions() -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _said(path: str, field: str) -> str | None:
    """What a file of the kernel says of a field, where it has one."""
    with contextlib.suppress(OSError), Path(path).open(encoding="utf-8", errors="replace") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)
    return None


def _checkout(folder: Path) -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it) where rmeval runs from a checkout, else (None, None)."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None, None

    def ask(*arguments: str) -> str:
        command = [git, "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603

    try:
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None
