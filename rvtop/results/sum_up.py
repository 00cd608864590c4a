"""Sums a run up at its end: a big one in a process of its own, so that the session stays small."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from rvtop.contract import run_files
from rvtop.errors import UserError
from rvtop.ipc import child
from rvtop.results import runlog, summary
from rvtop.results.ending import End

#: Size of ``requests.jsonl`` above which the columns of all requests are worth another process, bytes.
BIG = 32 << 20


async def sum_up(folder: Path, end: End | None = None) -> tuple[dict[str, Any], str]:
    """Writes ``summary.json``; returns what it holds, and why it could not be written ("" if it was): a full
    disk hides no figure. ``end`` is as for :func:`summary.summarise`.

    The loop stays free meanwhile: a million requests take seconds, and the lease of a backend must be
    renewed. Raises UserError for a folder that can't be summed up."""
    try:
        size = (folder / run_files.REQUESTS).stat().st_size
    except OSError:
        size = 0  # summing up says what is wrong
    if size <= BIG:
        figures = await asyncio.to_thread(summary.summarise, folder, end)
    else:
        figures = await _apart(folder, end)
    try:
        runlog.write_json(folder / run_files.SUMMARY, figures)
    except runlog.RunFolderError as error:
        return figures, str(error)
    return figures, ""


async def _apart(folder: Path, end: End | None) -> dict[str, Any]:
    """Has :mod:`rvtop.results.__main__` sum up; it ends with us, in whatever way we go."""
    known = () if end is None else ("--end", orjson.dumps(asdict(end)).decode())
    command = child.module_command("rvtop.results", "--lease", *known, "--", str(folder))
    code, out, last = await child.run(*command)
    if code == 0:
        figures: dict[str, Any] = orjson.loads(out)
        return figures
    if code > 1:  # a UserError's own line; 1 is a traceback, below 0 a signal
        raise UserError(last, code)
    raise runlog.RunFolderError(
        f"{folder}: could not be summed up (exit code {code}: {last}); try: rvtop report {folder}"
    )
