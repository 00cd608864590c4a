"""Files that a user names. Only regular ones are read: a FIFO would be waited for for ever, a device is no
file's content. A new one appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from rvtop.errors import UserError
from rvtop.text import printable


class FileFault(UserError):
    """A file that can't be written."""


def check_regular(path: Path | str) -> None:
    """Raises OSError, whose ``strerror`` says why, unless ``path`` leads to a regular file."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file (a pipe, socket or device)", str(path))


def check_new(path: Path) -> None:
    """Raises FileFault, one line with the mend, unless a file can be made at ``path``."""
    shown = printable(str(path))
    try:
        there, beside = path.exists() or path.is_symlink(), path.parent.is_dir()
    except OSError as error:  # a name that is too long, a folder that can't be searched
        raise FileFault(f"{shown}: can't be written: {error.strerror}; give another name") from None
    if there:
        raise FileFault(f"{shown}: is there already; give another name")
    if not beside:
        raise FileFault(
            f"{shown}: can't be written: {printable(str(path.parent))} is no folder; make it first"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FileFault(f"{shown}: can't be written: its folder is not ours to write to; give another place")


def yaml_path(text: str | Path) -> Path:
    """Where a scenario file of this name is written: absolute, with a suffix. Raises FileFault."""
    try:
        path = Path(text).expanduser().absolute()
        return path if path.suffix in (".yaml", ".yml") else path.with_name(path.name + ".yaml")
    except (RuntimeError, ValueError) as error:  # the home of nobody; no name
        why = "no such user" if isinstance(error, RuntimeError) else "no name of a file"
        raise FileFault(f"{printable(str(text))}: can't be written: {why}; give another name") from None


def partial_of(path: Path) -> Path:
    """Where a file stands while it is not complete."""
    return path.with_name(path.name + ".partial")


def replace_text(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all. Raises FileFault."""
    try:
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileFault(f"{printable(str(path))}: can't be written: {error.strerror}") from error


def read_regular(path: Path | str) -> bytes:
    """The content of a regular file. Raises OSError."""
    check_regular(path)
    return Path(path).read_bytes()


def unwritable(path: Path, error: OSError) -> FileFault:
    """To raise where the folder of ``--out`` takes nothing. Exit code 5 where the disk is full, else 2."""
    code = 5 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 2
    mend = "make room" if code == 5 else "give --out a folder that can be written"
    return FileFault(f"{printable(str(path))}: can't be written: {error.strerror}; {mend}", code)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """The file to write, beside ``path``, whose place it takes at the end. After an exception it is gone, and
    ``path`` is as it was. Raises OSError."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def written_for(option: str, path: Path) -> Iterator[Path]:
    """``written_whole`` for the file that ``option`` names. Raises FileFault."""
    try:
        with written_whole(path) as part:
            yield part
    except OSError as error:
        raise FileFault(f"{option} {path}: can't be written: {error.strerror}; give another file") from error
