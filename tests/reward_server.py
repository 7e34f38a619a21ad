"""A real server on the loopback in front of a real model: vLLM's `/classify` and `/pooling`, OpenRLHF's `/get_reward`.

The model is a checkpoint folder, run one text at a time by its own class. On purpose it can get things wrong.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

Fault = tuple[int, dict[str, Any], dict[str, str]]
"""Status, body, headers."""


class RewardServer:
    """Serves one checkpoint until the block ends."""

    def __init__(
        self,
        folder: Path,
        *,
        activation: str = "asked",
        names: tuple[str, ...] = ("rm",),
        fault: Callable[[int, Mapping[str, Any]], Fault | None] = lambda n, body: None,
        scale: float = 1.0,
        drop: int = 0,
        most: int = 10**9,
    ) -> None:
        """`activation`: as asked, or always; `fault(n, body)` may spoil call n; `scale` the outputs by a factor, `drop` so
        many rows of a text, refuse texts of more than `most` tokens."""
        import transformers
        from transformers import AutoConfig, AutoTokenizer

        kind = AutoConfig.from_pretrained(folder).architectures[0]
        self.model = getattr(transformers, kind).from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.activation, self.names, self.fault = activation, names, fault
        self.scale, self.drop, self.most = scale, drop, most
        self.calls: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.reward = self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body, _ in self.calls if where == path]

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    # what it says

    def outputs(self, ids: list[int]) -> Any:
        """The head's outputs: [labels] of a sequence classifier, [tokens, labels] of a token classifier."""
        import torch

        self.model.config.pad_token_id = None
        with self._lock, torch.inference_mode():
            return self.model(input_ids=torch.tensor([ids])).logits[0] * self.scale

    def answer(self, path: str, body: Mapping[str, Any]) -> Fault:
        import torch

        if path == "/get_reward":
            texts = [text.strip(self.tokenizer.pad_token).strip(self.tokenizer.eos_token) for text in body["query"]]
            rows = [self.tokenizer(text + self.tokenizer.eos_token)["input_ids"] for text in texts]
            return 200, {"rewards": [float(self.outputs(ids)[0]) for ids in rows]}, {}
        if body.get("model") not in (None, *self.names):
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}, {}
        if too_long := [len(ids) for ids in body["input"] if len(ids) > self.most]:
            said = f"This model's maximum context length is {self.most} tokens. However, you requested {too_long[0]}."
            return 400, {"error": {"message": said, "code": 400}}, {}
        found = []
        for i, ids in enumerate(body["input"]):
            values = self.outputs(ids)
            if self.activation == "always" or body.get("use_activation", True):
                values = torch.sigmoid(values) if values.shape[-1] == 1 else values.softmax(dim=-1)
            if path == "/classify":
                found.append({"index": i, "label": "LABEL_0", "probs": values.tolist(), "num_classes": len(values)})
            else:
                rows = values.tolist()
                found.append({"index": i, "object": "pooling", "data": rows[: len(rows) - self.drop]})
        return 200, {"object": "list", "model": self.names[0], "data": found, "usage": {"prompt_tokens": 1}}, {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        names = self.server.reward.names
        known = self.path == "/v1/models" and names
        self._send(200 if known else 404, {"data": [{"id": name} for name in names]} if known else {"detail": "no"}, {})

    def do_POST(self) -> None:
        server = self.server.reward
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.calls.append((self.path, body, {k.lower(): v for k, v in self.headers.items()}))
        spoiled = server.fault(len(server.calls), body)
        self._send(*(spoiled or server.answer(self.path, body)))

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass
