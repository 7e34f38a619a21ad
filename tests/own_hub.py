"""A hub of our own: as much of the hub's HTTP interface as its client asks for, and its cache as the client writes it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import urllib.parse
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(*configs: tuple[str, Mapping[str, str]]) -> bytes:
    """A data set's card that says which files make which split: (config, {split: glob})."""
    lines = ["---", "configs:"]
    for name, splits in configs:
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for split, path in splits.items() for line in (f"  - split: {split}", f"    path: {path}")]
    return "\n".join([*lines, "---", "# Ours", ""]).encode()


def cache(home: Path, hub: str, commit: str, files: Mapping[str, bytes], branch: str = "main") -> Path:
    """A data set in the hub's cache below `home`, as if it had been downloaded; the folder of its commit."""
    folder = home / "hub" / f"datasets--{hub.replace('/', '--')}"
    for name, content in {
        f"refs/{branch}": commit.encode(),
        **{f"snapshots/{commit}/{n}": c for n, c in files.items()},
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "snapshots" / commit


class OwnHub(ThreadingHTTPServer):
    """Serves published data sets on a port of this machine, and keeps a list of what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[tuple[str, str], str] = {}
        self.requests: list[str] = []
        self.pull_requests: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, hub: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """A new commit on a branch; its name."""
        commit = hashlib.sha1(repr((hub, sorted(files.items()))).encode()).hexdigest()
        self.commits.setdefault(hub, {})[commit] = dict(files)
        self.branches[hub, branch] = commit
        return commit


class _Answers(BaseHTTPRequestHandler):
    server: OwnHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """A commit as the client sends it: what it would upload is asked first, then header and files, line by line."""
        self.server.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = urllib.parse.urlsplit(self.path)
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", asked.path)
        if found is None or found[1] not in self.server.commits:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if self.headers.get("Authorization") is None:
            return self._send(401, b"{}", {"X-Error-Message": "Invalid username or password."})
        if found[2] == "preupload":
            files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            return self._json({"files": [{**one, "shouldIgnore": False, "oid": None} for one in files]})
        lines = [json.loads(line) for line in body.splitlines()]
        sent = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines[1:]}
        self.server.pull_requests.append(
            {"hub": found[1], "branch": found[3], "query": urllib.parse.parse_qs(asked.query), "files": sent}
            | lines[0]["value"]
        )
        place = f"{self.server.url}/datasets/{found[1]}"
        commit = "c" * 40
        return self._json(
            {"success": True, "commitOid": commit, "commitUrl": f"{place}/commit/{commit}"}
            | ({"pullRequestUrl": f"{place}/discussions/1"} if "create_pr" in asked.query else {})
        )

    def _answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        path = urllib.parse.urlsplit(self.path).path
        found = re.fullmatch(r"(/api)?/datasets/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path)
        if found is None or found[2] not in self.server.commits:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        hub, what = found[2], found[3] or "revision"
        revision = urllib.parse.unquote(found[4] or "main")
        commit = self.server.branches.get((hub, revision), revision)
        files = self.server.commits[hub].get(commit)
        if files is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid revision"})
        if what == "revision":
            return self._json({"id": hub, "sha": commit, "siblings": [{"rfilename": name} for name in files]})
        if what == "tree":
            tree = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()]
            return self._json(tree)
        name = urllib.parse.unquote(found[5] or "")
        if name not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        return self._send(200, files[name], {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": commit})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silent."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
