"""Files that are there in full or not at all, whatever happens to the process that writes them.

A file is written under a name that says who writes it, flushed to the disk and renamed. What a process that was killed
left half written goes when the next one writes into the same folder.

What this module does not know: what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rmeval.errors import ResourceError, UsageError

_DRAFT = re.compile(r"\.rmeval-(?P<pid>\d+)-(?P<host>.+)-[^-]*\.tmp")

_LEAST_ROOM = 16 * 2**20
"""Bytes free on a disk below which no work begins: a few batches would be scored, and then lost their result."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAYS_FULL = re.compile(
    r"No space left|Disk quota exceeded|File too large|os error (27|28|122)\b"
    r"|unexpected pos \d|PytorchStreamWriter failed|iostream error"  # torch.save
)

_looked_at: set[Path] = set()


def write_whole(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a file, making its folder. `ResourceError` where the disk is full, `UsageError` for any other fault.

    `synced`: it also outlives a loss of power; what can be made again need not.
    """
    temporary = ""
    try:
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():  # a device or a pipe, which no file may take the place of
                path.write_bytes(content)
                return
            remove_litter(path.parent)
            temporary = str(path.parent / f"{_mine()}{secrets.token_hex(4)}.tmp")
            # with the rights that the user's mask leaves, which a temporary file of the library has not
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(content)
                if synced:
                    handle.flush()
                    os.fsync(handle.fileno())
            Path(temporary).replace(path)
            temporary = ""
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Faults of the disk as errors with the path: `ResourceError` where there is no room, else `UsageError`."""
    try:
        yield
    except OSError as fault:
        if is_full(fault):
            raise ResourceError(f"{path}: the disk is full; free some space and run the same command again") from None
        raise UsageError(f"{path}: cannot be written: {fault.strerror or fault}") from None


def is_full(fault: BaseException) -> bool:
    """Whether a write failed for want of room: on the disk, in a quota, under a limit on file sizes.

    Libraries in native code say so in words.
    """
    if isinstance(fault, OSError) and fault.errno is not None:
        return fault.errno in _FULL
    return bool(_SAYS_FULL.search(str(fault)))


@contextlib.contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A new folder in another, to be filled and then renamed; what was not renamed goes at the end of the block."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_litter(folder)
        draft = folder / f"{_mine()}{secrets.token_hex(4)}.tmp"
        draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, which is never there in part: a kill in the middle leaves litter, and no half of it."""
    gone = folder.with_name(f"{_mine()}gone.tmp")
    with contextlib.suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_litter(folder: Path) -> None:
    """Remove what processes of this host that are gone left half written in a folder; looked at once per process."""
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    for one in folder.glob(".rmeval-*.tmp"):
        said = _DRAFT.fullmatch(one.name)
        if said and said["host"] == _host() and not alive(int(said["pid"])):
            if one.is_dir():
                shutil.rmtree(one, ignore_errors=True)
            else:
                one.unlink(missing_ok=True)


def refuse_without_room(folder: Path) -> None:
    """Raise `ResourceError` where the disk of a folder, which need not be there yet, is as good as full."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path())
    try:
        disk = shutil.disk_usage(there)
    except OSError:  # a file system that does not say
        return
    if disk.total and disk.free < _LEAST_ROOM:  # a file system of the kernel's has no size
        raise ResourceError(
            f"{folder}: {disk.free / 2**20:.1f} MiB are free on its disk, and a run needs {_LEAST_ROOM >> 20} to "
            "begin: free space, or write elsewhere, and run the same command again"
        )


def check_writable(out: Path) -> None:
    """Raise `UsageError` when results could not be written below `out`, before any work is done for them.

    `ResourceError` where its disk is as good as full.
    """
    refuse_without_room(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as fault:
        raise UsageError(f"--out {out}: cannot be written: {fault.strerror or fault}") from None


def refuse_what_is_read(out: Path, *read: Path) -> None:
    """Raise `UsageError` where a file that is to be written is one of those that are read: it would be lost."""
    for path in read:
        if out.exists() and path.exists() and out.samefile(path):
            raise UsageError(f"{out}: is the file that is read; write to another one")


def refuse_damaged(weights: Iterable[Path], *, quantised: bool) -> None:
    """Raise `UsageError` with the name of a safetensors file that cannot be read, or that holds whole numbers.

    Whole numbers are weights of a quantised checkpoint alone; else the header names a dtype that the bytes are not of,
    and what would be read is neither refused by anything nor meant by anybody.
    """
    from safetensors import SafetensorError, safe_open

    for path in weights:
        try:
            with safe_open(path, framework="pt") as held:
                stored = {name: held.get_slice(name).get_dtype() for name in held.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as fault:
            raise UsageError(f"{path}: damaged, or no safetensors file: {fault}") from None
        for name, of in stored.items():
            if not quantised and name.endswith(".weight") and of.startswith(("I", "U", "BOOL")):
                raise UsageError(f"{path}: {name} is stored as {of}, and weights are no whole numbers: damaged?")


def is_readable(path: Path) -> bool:
    """Whether a file of JSON, safetensors or torch's archives is there in full; any other counts as that."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            with path.open("rb") as handle:
                size, whole = int.from_bytes(handle.read(8), "little"), path.stat().st_size
                head = json.loads(handle.read(min(size, whole)))
            return whole == 8 + size + max(
                (said["data_offsets"][1] for said in head.values() if "dtype" in said), default=0
            )
        elif path.suffix in (".pt", ".pth"):
            return zipfile.is_zipfile(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process of this host with this number runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _mine() -> str:
    return f".rmeval-{os.getpid()}-{_host()}-"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())
