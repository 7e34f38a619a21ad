"""Cases as files, for parsers that read one, and files of rows read as all readers read them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_driving import REFUSED, attempt
from fuzz_mutations import as_bytes

from rmeval.readers.rows import read_file, skipping


@cache
def folder() -> Path:
    """A folder of this process, gone at its end."""
    # in memory where the system has such a place: a file per case takes longer than most parsers do
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="rmeval-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def written(case: str, name: str) -> Path:
    """The file of a case; the next case of this name is written over it."""
    path = _path(name)
    path.write_bytes(as_bytes(case))
    return path


@cache
def _path(name: str) -> Path:
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def rows_of(case: str, name: str) -> Any:
    """The rows of a case, or `REFUSED`; leaving out bad rows leaves out none where none is bad."""
    path = written(case, name)
    rows = attempt(read_file, path, path.name)
    with skipping():
        partly = attempt(read_file, path, path.name)
    assert rows is REFUSED or partly == rows
    return rows
