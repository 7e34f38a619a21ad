"""Runs requests in vLLM, in this process: `VllmEngine` where vLLM can be imported (see `test_vllm_offline`).

python vllm_offline.py FOLDER REQUESTS.pickle REPLIES.pickle [OPTIONS as JSON]
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path


def main(folder: str, asked: str, said: str, options: str = "{}") -> None:
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.vllm import VllmEngine

    requests = pickle.loads(Path(asked).read_bytes())
    engine = VllmEngine(Checkpoint(folder), dtype="float32", eager=True, **json.loads(options))
    planned = engine.plan(requests)
    found = dict(planned.settled)
    for batch in planned.batches:
        found |= dict(zip(batch, engine.run([requests[i] for i in batch]), strict=True))
    found |= {i: found[first] for i, first in planned.twins.items()}
    Path(said).write_bytes(
        pickle.dumps(([found[i] for i in range(len(requests))], engine.fingerprint(), engine.describe()))
    )


if __name__ == "__main__":  # vLLM starts processes that import this file
    main(*sys.argv[1:])
