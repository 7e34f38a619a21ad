"""Calls of a server per second, beside concurrency / latency: python -m benchmarks.judge_client.

The server is a process of its own on the loopback that waits before each answer and does nothing else. Start-up
(imports, first connections) stands in a column of its own; the rest is the engine's public `stream`. 2,000 calls 64 at
once are 31.25 rounds and take 32, so that 0.977 of the ideal is the most that can be reached.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

LATENCY, CONCURRENCY, CALLS = 0.5, 64, 2000

ANSWER = {
    "model": "scripted",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "[[A]]"}}],
    "usage": {"prompt_tokens": 900, "completion_tokens": 4},
}


def measure() -> dict[str, Any]:
    """Share of the ideal rate, with the store and without."""
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        rows = [_row(port, stored=stored) for stored in (False, True)]
    finally:
        server.terminate()
        server.wait()
    return {"title": f"judge client, {LATENCY} s latency, {CONCURRENCY} at once, {CALLS} calls", "rows": rows}


def _row(port: int, *, stored: bool) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    from rmeval.engines.openai import OpenAIEngine
    from rmeval.store import Store, fingerprint_digest, request_key
    from rmeval.types import Chat, Message, Request, Sampling

    engine = OpenAIEngine(model="scripted", base_url=f"http://127.0.0.1:{port}/v1", concurrency=CONCURRENCY)
    text = "Which answer is better? " * 150  # 3,600 characters, as a pair of short answers with a rubric
    requests = [
        Request((Chat((Message("user", f"{i} {text}"),)),), at="next", read="text", sampling=Sampling())
        for i in range(CALLS + CONCURRENCY)
    ]
    digest = fingerprint_digest(engine.fingerprint())
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "replies.db") as store:
        start = time.perf_counter()
        engine.run(requests[:CONCURRENCY])
        warm = time.perf_counter() - start
        start = time.perf_counter()
        for i, reply in engine.stream(requests[CONCURRENCY:]):
            if stored:
                store.put({request_key(requests[CONCURRENCY + i], digest): reply})
        seconds = time.perf_counter() - start
    return {
        "store": "each reply committed" if stored else "none",
        "warm-up s": round(warm, 2),
        "seconds": round(seconds, 2),
        "calls/s": round(CALLS / seconds, 1),
        "of the ideal": round(CALLS / seconds / (CONCURRENCY / LATENCY), 3),
    }


async def _serve() -> None:
    raw = json.dumps(ANSWER).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                fields = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(fields.split(b"content-length:")[1].split(b"\r\n")[0]))
                await asyncio.sleep(LATENCY)
                writer.write(head + raw)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(_serve())
    else:
        table = measure()
        print(table["title"])
        for row in table["rows"]:
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
