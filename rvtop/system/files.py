"""Files that a user names: only regular ones are read. A FIFO would be waited for for ever, a device is no
file's content."""

from __future__ import annotations

import errno
import os
import stat
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
