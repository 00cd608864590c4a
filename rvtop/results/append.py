"""Files that only grow. What was written is the kernel's: a kill -9 of ours can't take it back."""

from __future__ import annotations

import os
from pathlib import Path

from rvtop.errors import UserError


class RunFolderError(UserError):
    """A run folder that can't be used."""


class AppendFiles:
    """Files in ``folder``, by name. The writing methods raise RunFolderError, once: what follows a write that
    failed is dropped, so that no line is ever joined to half of another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failed = False
        self._open: dict[str, int] = {}

    def put(self, name: str, data: bytes, at: int | None = None) -> None:
        """Appends ``data``, or writes it ``at`` this byte."""
        if self.failed:
            return
        try:
            if name not in self._open:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if at is None else 0)
                self._open[name] = os.open(self.folder / name, flags, 0o644)
            if at is not None:
                os.pwrite(self._open[name], data, at)
                return
            rest = memoryview(data)
            while rest:  # a full disk takes a part before it takes nothing
                rest = rest[os.write(self._open[name], rest) :]
        except OSError as error:
            self.failed = True
            raise RunFolderError(f"{self.folder / name}: can't be written: {error.strerror}") from error

    def check_there(self) -> None:
        """Raises RunFolderError where the folder or a file was deleted or moved: what is written then goes
        nowhere."""
        if self.failed:
            return
        for name, fd in self._open.items():
            path = self.folder / name
            try:
                there = os.path.samestat(path.stat(), os.fstat(fd))
            except OSError:
                there = False
            if not there:
                self.failed = True
                gone = path if self.folder.is_dir() else self.folder
                raise RunFolderError(f"{gone}: was deleted or moved while the run went on")

    def close(self, name: str | None = None) -> None:
        """Closes one file; or all, and then nothing is written any more."""
        self.failed = self.failed or name is None
        for each in [name] if name is not None else list(self._open):
            if each in self._open:
                os.close(self._open.pop(each))
