"""The models: small local ones built on this machine, and any Hugging Face folder or Hub id. Stdlib only."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Progress = Callable[[str, float], None]
"""Called with what is being done and how far along the whole is, 0..1."""


def cache_dir() -> Path:
    """Where what we build is kept: ``$RVTOP_CACHE``, or ``~/.cache/rvtop``. Not created here."""
    given = os.environ.get("RVTOP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "rvtop"


def shared_dir() -> Path:
    """Where the experiment's models and index are looked for: ``$RVTOP_SHARED``, or ``/mnt/shared``."""
    return Path(os.environ.get("RVTOP_SHARED") or "/mnt/shared").expanduser()


def build_once(kind: str, name: str, build: Callable[[Path], None]) -> Path:
    """The folder ``cache_dir()/kind/name``, made by ``build(empty folder)`` when it is not there yet.

    It appears under its name complete or not at all. Of several processes that ask at once, one builds
    and the others wait. Whatever ``build`` raises is passed on, and nothing is left behind.
    """
    parent = cache_dir() / kind
    target = parent / name
    if target.is_dir():
        return target
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f".{name}.lock"):
        if target.is_dir():
            return target
        unfinished = parent / f".{name}.unfinished"
        # Under the lock no other process writes it: what is there was left by a killed one.
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            build(unfinished)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock that the kernel drops with its process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
