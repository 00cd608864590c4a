"""What a run is saved as: a report, and a page that plays it. Each is made by a process of its own."""

from __future__ import annotations

import asyncio
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
    process = await child.start(*child.module_command(*command), stderr=asyncio.subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    try:
        _, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        code = await process.wait()
    finally:
        child.kill(process)
        await process.wait()
        child.close_stdin(process)
    if code:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise UserError(last or f"{command[0]} ended with exit code {code}")
