"""The servers that were attached to last: state, not settings, so they have a file of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rvtop.settings.paths import state_folder
from rvtop.text import printable

MOST = 10


def _file(environ: Mapping[str, str]) -> Path:
    return state_folder(environ) / "targets"


def recent_targets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """URLs, the last one first; none where there is no file that can be read."""
    try:
        lines = _file(environ).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ()
    return tuple(line for line in lines if line and printable(line) == line)[:MOST]


def remember_target(environ: Mapping[str, str], url: str) -> None:
    """Puts ``url`` (without a password) first. Where it can't be written, nothing is remembered."""
    urls = [url, *(one for one in recent_targets(environ) if one != url)][:MOST]
    file = _file(environ)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text("\n".join(urls) + "\n", "utf-8")
        fresh.replace(file)  # whole or not at all, also beside another rvtop
    except OSError:
        return
