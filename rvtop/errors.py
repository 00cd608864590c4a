"""What a user can cause and fix, and the one line that everything else that goes wrong becomes."""

from __future__ import annotations

import errno
import os
import resource
import threading
from pathlib import Path

from rvtop.text import printable

#: Where this is set, an unexpected error shows where it came from.
TRACEBACK_ENV = "RVTOP_TRACEBACK"

_LIMIT = 4000


class UserError(Exception):
    """``str()`` is one line that says what is wrong, where, and how to fix it; ``exit_code`` goes with it
    (2 bad usage or input, 3 the target was lost, 4 a backend failed to start, 5 a part of rvtop died).

    What it quotes of a server, a file or an argument is made safe to print here."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(printable(_shortened(message)))
        self.exit_code = exit_code

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print: several lines where several things are wrong at once."""
        return (str(self),)


def _shortened(message: str) -> str:
    """Without its middle, where it is very long: what it is about stands first, why stands last."""
    if len(message) <= _LIMIT:
        return message
    return f"{message[: _LIMIT // 2]} … {message[-_LIMIT // 2 :]}"


def unexpected(error: BaseException, log: Path | None = None) -> UserError:
    """An exception that nobody has turned into a UserError, as one: a limit of this machine that was hit is
    named with its fix, anything else is a fault of rvtop's. Exit code 2 or 5.

    ``log``: the session's log, which has the traceback. Without one, stderr gets it if TRACEBACK_ENV is set.
    """
    if log is None and os.environ.get(TRACEBACK_ENV):
        import traceback

        traceback.print_exception(error)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause: BaseException | None = error
    while cause is not None:
        known = _known(cause)
        if known is not None:
            return known
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())[:300]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if log is not None:
        return UserError(f"the session crashed: see {log}: {what}", 5)
    hint = (
        "please report" if os.environ.get(TRACEBACK_ENV) else f"{TRACEBACK_ENV}=1 shows where; please report"
    )
    return UserError(f"internal error: {what} ({hint})", 5)


def _known(error: BaseException) -> UserError | None:
    """What the machine refuses, or None."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if number == errno.EAGAIN or "can't start new thread" in text:
        most, memory = _limit(resource.RLIMIT_NPROC), _limit(resource.RLIMIT_AS)
        return UserError(
            f"can't start a process or thread: this user may have {most} of them (ulimit -u), this process "
            f"{memory} bytes (ulimit -v); end some, or raise the limit",
            5,
        )
    if number in (errno.EMFILE, errno.ENFILE):
        limit = _limit(resource.RLIMIT_NOFILE)
        return UserError(
            f"too many open files: this process may have {limit} (ulimit -n); raise it: ulimit -n 65535", 5
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "failed to map segment" in text:
        limit = _limit(resource.RLIMIT_AS)
        return UserError(
            f"out of memory: this process may have {limit} bytes (ulimit -v); free or allow more", 5
        )
    if "home directory" in text and isinstance(error, RuntimeError):
        return UserError("there is no home directory: set HOME to a folder that can be written")
    if isinstance(error, FileNotFoundError) and not _working_folder():
        return UserError("the current folder was deleted; cd to one that is there")
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return UserError(
            f"{os.fsdecode(error.filename)}: {error.strerror}", 5 if number == errno.ENOSPC else 2
        )
    return None


#: What a run needs at least; below it libraries print warnings of their own, or end the process.
_FILES, _BYTES, _THREADS = 64, 256 << 20, 8


def check_limits() -> None:
    """To be called before a session, and before NumPy is imported: its OpenBLAS starts threads, and a limit
    of the shell that is too low for them shows in ten ways, an abort among them. Raises UserError."""
    files, memory = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS))
    if files != resource.RLIM_INFINITY and files < _FILES:
        raise UserError(f"{files} open files (ulimit -n) are too few: a run needs {_FILES} and one a request")
    if memory != resource.RLIM_INFINITY and memory < _BYTES:
        raise UserError(
            f"{memory >> 20} MiB of memory (ulimit -v) are too little: a run needs {_BYTES >> 20}"
        )
    done = threading.Event()
    started = []
    try:
        for _ in range(_THREADS):
            thread = threading.Thread(target=done.wait)
            thread.start()
            started.append(thread)
    except RuntimeError as error:  # "can't start new thread"
        raise _known(error) or error from error
    finally:
        done.set()
        for thread in started:
            thread.join()


def _limit(kind: int) -> str:
    soft, _ = resource.getrlimit(kind)
    return "no limit" if soft == resource.RLIM_INFINITY else str(soft)


def _working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
