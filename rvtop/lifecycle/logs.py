"""``rvtop logs``: the end of a deployment's log, and what comes after it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from rvtop.errors import UserError
from rvtop.lifecycle import state
from rvtop.lifecycle.choose import choose
from rvtop.system.log_tail import LINE_LIMIT, last_lines
from rvtop.text import log_line

_FOLLOW_S = 0.2

Print = Callable[[str], None]


def logs(name: str | None, *, lines: int, follow: bool, out: Print) -> None:
    """Prints the end of a log; with ``follow`` goes on until the deployment is gone. Raises UserError."""
    name = choose(name, logs=True)
    path = state.log_of(name)
    if not path.exists():
        raise UserError(f"{name}: has no log yet ({path})")
    position = path.stat().st_size
    for line in last_lines(path, lines):
        out(line)
    while follow:
        # Asked first, so that what it wrote until its end is still read below.
        known = state.entry(name)
        position = _print_from(state.log_of(name), position, out)
        if known is None or not known.running:
            return
        time.sleep(_FOLLOW_S)


def _print_from(path: Path, position: int, out: Print) -> int:
    """Prints whole lines from a place on; returns the place after them."""
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < position:
                position = 0  # it was turned over
            file.seek(position)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return position
    if newline:
        for line in whole.decode("utf-8", "replace").split("\n"):
            out(log_line(line, LINE_LIMIT))
    return position + len(whole) + len(newline)
