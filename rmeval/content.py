"""Where the content lies: `suites/`, `scorers/` and `leaderboard/`, in a checkout or in an installed wheel.

What this module does not know: what the cards say.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def content_folder(kind: str) -> Path:
    """The folder of built-in content of one kind: `suites`, `scorers`, `scorers/judges` or `leaderboard`.

    In a wheel it lies inside the package as `_content/<kind>`, in a checkout beside the package.
    """
    shipped = _PACKAGE / "_content" / kind
    return shipped if shipped.is_dir() else _PACKAGE.parent / kind


def card_folders(kind: str) -> list[Path]:
    """Folders searched for cards: the built-in one, then each of `RMEVAL_PATH` (and its `<kind>/` child).

    >>> [f.name for f in card_folders("suites")][0]
    'suites'
    """
    folders = [content_folder(kind)]
    for entry in os.environ.get("RMEVAL_PATH", "").split(os.pathsep):
        if entry:
            base = Path(entry).expanduser()
            inside = [base / kind, base / Path(kind).name]
            # a folder of cards may be named itself, except for a kind that lies inside another's
            folders.append(next((folder for folder in inside if folder.is_dir()), inside[1] if "/" in kind else base))
    return folders
