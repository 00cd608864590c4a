"""A listening Unix socket that belongs to one process: for its user alone, and gone with its end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from rvtop.errors import UserError

_LONGEST_PATH = 107  # bytes, the kernel's limit


class OwnedSocket:
    """Binds ``path`` with mode 0600. What a process that was killed has left there is replaced; where
    somebody listens, or there is something else, UserError says so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise UserError(
                f"{path}: too long for a Unix socket (at most {_LONGEST_PATH} bytes); give another"
            )
        try:
            _remove_stale(path)
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                os.fchmod(self.socket.fileno(), 0o600)  # before there is a path to open
                self.socket.bind(os.fspath(path))
                os.chmod(path, 0o600)  # where the line above has no effect
                self._made = path.lstat()
            except BaseException:
                self.socket.close()
                raise
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _taken(path) from None
            raise UserError(f"{path}: can't listen there: {error.strerror or error}; give another") from error

    def remove(self) -> None:
        """Removes the path, unless it is somebody else's by now; the socket is closed by who listens."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()


def _remove_stale(path: Path) -> None:
    """Removes a socket that nobody listens at. Raises UserError for anything else that is there, OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{path}: is there already, and is no socket; give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except TimeoutError:  # it listens, and is busy
            pass
    raise _taken(path)


def _taken(path: Path) -> UserError:
    return UserError(f"{path}: a session listens there already; give another path")
