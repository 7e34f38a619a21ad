"""A built site over HTTP on this machine alone, for browsers that are strict about `file://`.

What this module does not know: what the pages show.
"""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"


class _Quiet(SimpleHTTPRequestHandler):
    """Files of one folder; no listing of folders, no log."""

    def list_directory(self, path: object) -> None:  # noqa: ARG002
        """Refuse: only pages are served."""
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the address was printed, the rest is in the browser."""


def server(site: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder, bound and not yet running; port 0 takes a free one. Raises `OSError` for one in use."""
    return ThreadingHTTPServer((HOST, port), partial(_Quiet, directory=str(site)))
