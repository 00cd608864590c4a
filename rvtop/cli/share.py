"""``rvtop share``: a stored run as one page that plays it in a browser."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from rvtop.errors import UserError
from rvtop.system.stdio import say, say_nothing


def share(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")],
    size: Annotated[str, typer.Option(metavar="COLUMNSxROWS", help="The size of its screen.")] = "140x44",
) -> None:
    """Writes one HTML page that plays a run's screens. It needs no server and no network."""
    columns, rows = _size(size)
    from rvtop.cli.dashboard import look_now
    from rvtop.results.recording import read_recording
    from rvtop.system.files import written_for
    from rvtop.ui.share import shared_page

    def progress(text: str) -> None:
        print(f"\r{text:<40}", end="", file=sys.stderr, flush=True)

    recording = read_recording(folder)
    name, told = folder.resolve().name, progress if sys.stderr.isatty() else say_nothing
    with written_for("--out", out) as part:
        part.touch()  # a path that can't be written is said before the work
        page = asyncio.run(shared_page(recording, name, look_now(), (columns, rows), told))
        part.write_text(page, "utf-8")
    if told is progress:
        progress("")
        print("\r", end="", file=sys.stderr, flush=True)
    for note in recording.notes:
        say(f"note: {note}")
    say(f"shared: {out}")


def _size(text: str) -> tuple[int, int]:
    """Columns and rows of ``text``. Raises UserError."""
    columns, x, rows = text.partition("x")
    if x and columns.isdecimal() and rows.isdecimal() and len(text) < 9:
        size = int(columns), int(rows)
        if 40 <= size[0] <= 300 and 12 <= size[1] <= 100:
            return size
    raise UserError(f"--size {text}: give columns and rows from 40x12 to 300x100, such as 140x44")
