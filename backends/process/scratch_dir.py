"""Temporary folders that do not outlive us, however we end. See :mod:`backends.process.reaper`."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from backends.process import reaper

log = logging.getLogger("backends.process.scratch_dir")

REAPER_LIMIT_S = 10.0
# Unix sockets live in these folders, and their paths may have 107 characters. Ray's own part of them has 64
# (/session_2026-11-28_01-55-33_267461_4194304/sockets/plasma_store), the folder's name and what is in it 21.
MAX_BASE = 20


class OwnedTempDir:
    """A private temporary folder. When it is closed, or its owner dies, every process that was started with
    ``env`` in its environment is killed and the folder is removed. With ``group`` (a process group id) that
    group is killed too, the owner included. ``prefix`` names the folder and the variable: ``rvtop-eng-``."""

    def __init__(self, prefix: str, group: int | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=_base()))
        name = f"{prefix.strip('-').replace('-', '_').upper()}_FOLDER"
        self.env = {name: str(self.path)}
        self._reaper = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", reaper.__file__, str(self.path), name),
                *([str(group)] if group else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Not the entry by which the reaper of another folder knows its own.
            env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
            start_new_session=True,  # a signal to our process group must not reach the reaper
        )
        if group:
            self._reaper.wait(REAPER_LIMIT_S)  # the reaper has forked itself off

    def close(self) -> None:
        """Ends and removes all of it; returns when that is done, or after some seconds."""
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        try:
            self._reaper.wait(REAPER_LIMIT_S)
        except subprocess.TimeoutExpired:
            log.warning("%s is still being cleaned up", self.path)


def _base() -> str:
    """Where our folders are made: the place for temporary files, unless its path is too long for sockets."""
    base = tempfile.gettempdir()
    return base if len(os.fsencode(base)) <= MAX_BASE else "/tmp"
