"""``session.log`` of a run folder: the stderr of the session's process and of its load workers."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path

from rvtop.contract.run_files import SESSION_LOG
from rvtop.ipc.exit_reason import last_line
from rvtop.results.runlog import RunFolderError


class SessionLog:
    """An open ``session.log``. Raises RunFolderError if it can't be made."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SESSION_LOG
        try:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunFolderError(f"{self.path}: can't be written: {error.strerror}") from error

    def adopt_stderr(self) -> None:
        """Makes it the stderr of this process, and the stdout of whatever library prints. What is in the file
        that was stderr so far comes with it."""
        with contextlib.suppress(OSError):  # stderr may be no file
            os.write(self.fd, os.pread(2, 1 << 20, 0))
        sys.stderr.flush()
        for fd in (1, 2):
            os.dup2(self.fd, fd)

    def write_traceback(self, error: BaseException) -> None:
        """Appends the traceback of ``error``."""
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(OSError):  # a full disk: the line on the terminal is what there is
            os.write(self.fd, text.encode("utf-8", "replace"))

    @property
    def last_line(self) -> str:
        """The last line in it, "" if it is empty."""
        return last_line(self.fd)

    def close(self) -> None:
        """Closes the file; an empty one stays: nothing was written to stderr."""
        os.close(self.fd)
