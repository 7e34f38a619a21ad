"""T7 over processes: one and two of them (gloo) end in the same weights, blanks and uneven rests included."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch
from command import environment
from made_tasks import VARIANTS

WORK = """
import os
import sys
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
from made_tasks import make
for variant, batch in {jobs!r}:
    made = make(variant, double=True, samples=12 if variant == "bt" else 2)
    made.rows = made.rows[:13]
    trainer = made.trainer({out!r}, batch=batch, accumulate=2, sgd=0.05, num_train_epochs=2)
    metrics = {{}}
    trainer.train()
    found = trainer.evaluate_rows(made.rows)
    if trainer.args.process_index == 0:
        torch.save((made.weights(), found["loss"]), {out!r} + "/" + variant.replace(" ", "-") + ".pt")
os._exit(0)  # as the command does, see `rmeval.cli.train`
"""
KINDS = ("bt", "orm", "prm", "value", "sft")


def start(processes, out, jobs):
    from pathlib import Path

    out.mkdir()
    here = Path(__file__).resolve().parent
    (out / "work.py").write_text(WORK.format(paths=[str(here), str(here.parent)], jobs=jobs, out=str(out)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        several = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        env = environment(**(several if processes > 1 else {}), OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
        running.append(subprocess.Popen([sys.executable, out / "work.py"], env=env, stderr=subprocess.PIPE, text=True))
    for one in running:
        _, said = one.communicate(timeout=240)
        assert one.returncode == 0, said[-2000:]
    return {v: torch.load(out / f"{v}.pt") for v, _ in jobs}


@pytest.mark.slow
def test_t7_one_process_and_two_are_the_same_training(tmp_path):
    assert set(KINDS) <= set(VARIANTS)
    one = start(1, tmp_path / "one", [(kind, 4) for kind in KINDS])
    two = start(2, tmp_path / "two", [(kind, 2) for kind in KINDS])
    for kind in KINDS:
        (ours, loss), (theirs, other) = one[kind], two[kind]
        worst = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
        assert worst < 1e-6, (kind, worst)
        assert loss == pytest.approx(other, abs=1e-6)
