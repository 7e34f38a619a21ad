"""The command line: parse, call, print. One file per command; heavy imports inside the commands.

stdout is the answer, stderr is progress. Exit codes: 0 complete, 1 internal fault, 2 usage or validation, 3 incomplete
or failed its own check, 4 resource, 5 lock held, 130 interrupted and resumable.

What this package does not know: anything that a library user would need.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import NoReturn

INTERRUPTED = 130

DASHED = ("-length",)
MINUS = "\N{MINUS SIGN}"
"""What a name may begin with instead of a dash; `load_model` takes either."""
ANYWHERE = "--no-plugins"
"""An option of every command, and not of one."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    from rmeval.cli.app import app
    from rmeval.errors import RmevalError

    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # JSON is UTF-8 whatever the locale, and so are our tables
            stream.reconfigure(encoding="utf-8")
    for argument in sys.argv[1:]:
        if not argument.isascii() and argument.encode("utf-8", "replace").decode() != argument:
            _end(f"error: argument {argument!r} is not UTF-8: rename the file, or choose a UTF-8 locale", 2)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it reports each of its retries; we report how it ended
    try:
        code = app(in_its_place(with_dashed_names(sys.argv[1:])), standalone_mode=False, prog_name="rmeval")
        sys.stdout.flush()
    except RmevalError as error:
        _end(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, EOFError):
        _interrupted()
    except (BrokenPipeError, SystemExit) as error:
        # the reader of stdout is gone (`| head`), for which click and rich exit by themselves, and for nothing else;
        # results are written before they are shown, so this is no fault
        gone = _dropped()
        if isinstance(error, BrokenPipeError) and not gone:
            raise  # the pipe was another one
        sys.exit(0)
    except MemoryError:
        _end("error: out of memory", 4)
    except Exception as error:  # the last resort: click's own errors, else a bug of ours
        if type(error).__name__ == "Abort":  # what older typers make of Ctrl-C
            _interrupted()
        code = getattr(error, "exit_code", None)
        if code is None:
            _end_if_full(error)
            _end_if_no_path(error)
            raise
        show = getattr(error, "show", None)
        if show is not None:
            show()
        sys.exit(code)
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        _interrupted()
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Something behind the streams that whoever started us has closed: Python has None there, and prints elsewhere."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # else what is opened next would be written into
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as we run


def with_dashed_names(arguments: list[str]) -> list[str]:
    """Scorers whose names begin with a dash, written so that they are not taken for options."""
    return [MINUS + a[1:] if a in DASHED else a for a in arguments]


def in_its_place(arguments: list[str]) -> list[str]:
    """The option that goes for every command before the command, wherever it was typed.

    >>> in_its_place(["list", "suites", "--no-plugins"])
    ['--no-plugins', 'list', 'suites']
    """
    others = [argument for argument in arguments if argument != ANYWHERE]
    return [ANYWHERE, *others] if len(others) < len(arguments) else others


def _interrupt(*_: object) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):  # whoever asks twice does not wait for what is being cleaned up
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt


def _interrupted() -> NoReturn:
    import shlex

    if sys.argv[1:2] == ["train"]:  # it has said how to go on
        _end("interrupted", INTERRUPTED)
    command = shlex.join(["rmeval", *sys.argv[1:]])
    _end(f"interrupted. What was scored is kept; resume with the same command:\n  {command}", INTERRUPTED)


def _end_if_no_path(error: Exception) -> None:
    """A path that the system will not even look at: wherever it was given, it is no bug of ours."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.EACCES) and error.filename is not None:
        _end(f"error: {error.filename}: {error.strerror}", 2)


def _end_if_full(error: Exception) -> None:
    """A write that failed for want of room in a library that knows nothing of us."""
    from rmeval.whole_files import is_full

    if is_full(error):
        _end(f"error: the disk is full ({error}); free some space and run the same command again", 4)


def _end(message: str, code: int) -> NoReturn:
    from rmeval.progress import printable, to_nowhere

    _dropped()
    try:
        print(printable(message), file=sys.stderr, flush=True)
    except OSError:
        to_nowhere(sys.stderr)
    sys.exit(code)


def _dropped() -> bool:
    """Whether what is left to print has no reader, or no room: then it is dropped, or Python would end with a fault."""
    from rmeval.progress import to_nowhere

    try:
        sys.stdout.flush()
    except OSError:
        to_nowhere(sys.stdout)
        return True
    return False
