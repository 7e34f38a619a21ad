"""A real OpenAI-compatible server on loopback: vLLM's build for CPUs, from the venv that `make test-vllm` makes.

python tests/servers/vllm_server.py FOLDER [PORT]     serve a model until Ctrl-C, as the tests do
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[2] / ".venv-vllm" / "bin" / "python"
DEADLINE_S = 240
"""Start-up takes 20 to 70 seconds on a free core."""

# the server goes when this process goes, even by SIGKILL: 1 is PR_SET_PDEATHSIG, and an exec keeps it
LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *sys.argv[1:]])
"""

SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    # one thread, wherever the system puts it: by default vLLM pins its threads to cores that others may be using
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@dataclass(frozen=True)
class Server:
    """A server that has said it is healthy."""

    base_url: str
    model: str
    log: Path


@contextlib.contextmanager
def serving(folder: Path, log: Path, *more: str, name: str = "smollm2", port: int | None = None) -> Iterator[Server]:
    """Serve the model of a folder in fp32 until the block ends, however it ends."""
    port = port or _free_port()
    arguments = [
        *("--model", str(folder), "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "4096", "--enforce-eager"),
        # only what a request says counts: without this the checkpoint's generation_config.json fills in the rest
        *("--generation-config", "vllm"),
        # JSON on one line: left free, a weak model breaks lines until it may write no more
        *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
        *more,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [PYTHON, "-c", LAUNCH, *arguments],
            stdout=out,
            stderr=out,
            env={**os.environ, **SETTINGS},
            start_new_session=True,
        )
    try:
        _wait_until_healthy(process, port, log)
        yield Server(f"http://127.0.0.1:{port}/v1", name, log)
    finally:
        _end(process)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{_tail(log)}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        time.sleep(0.5)
    raise RuntimeError(f"the server was not healthy after {DEADLINE_S} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """It and the processes it made, which are of its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    with serving(where, Path(os.devnull), port=int(sys.argv[2]) if len(sys.argv) > 2 else None) as server:
        print(f"{server.model} at {server.base_url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
