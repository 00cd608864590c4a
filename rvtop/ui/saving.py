"""What a run is saved as: a report, and a page that plays it. Each is made by a process of its own."""

from __future__ import annotations

from pathlib import Path

from rvtop.errors import UserError
from rvtop.ipc import child

#: The files in the run folder.
REPORT, CLIP = "report.html", "share.html"


async def save_report(folder: Path) -> Path:
    """Writes the report of the run in ``folder`` as far as it has gone; returns where. Raises UserError."""
    path = folder / REPORT
    await _made("rvtop.results", "--lease", "--html", str(path), "--", str(folder))
    return path


async def save_clip(folder: Path) -> Path:
    """The same of a page that plays the run in a browser."""
    path = folder / CLIP
    await _made("rvtop.cli", "share", "--out", str(path), "--", str(folder))
    return path


async def _made(*command: str) -> None:
    code, _, last = await child.run(*child.module_command(*command))
    if code:
        raise UserError(last or f"{command[0]} ended with exit code {code}")
