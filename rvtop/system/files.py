"""Files that a user names. Only regular ones are read: a FIFO would be waited for for ever, a device is no
file's content. A new one appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def check_regular(path: Path | str) -> None:
    """Raises OSError, whose ``strerror`` says why, unless ``path`` leads to a regular file."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file (a pipe, socket or device)", str(path))


def read_regular(path: Path | str) -> bytes:
    """The content of a regular file. Raises OSError."""
    check_regular(path)
    return Path(path).read_bytes()


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
