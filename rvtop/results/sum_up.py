"""Sums a run up at its end: a big one in a process of its own, so that the session stays small."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

import orjson

from rvtop.errors import UserError
from rvtop.results import runlog, summary

#: Size of ``requests.jsonl`` above which the columns of all requests are worth another process, bytes.
BIG = 32 << 20


async def sum_up(folder: Path) -> dict[str, Any]:
    """Writes ``summary.json`` and returns what it holds. The loop stays free meanwhile: a million requests
    take seconds, and the lease of a backend must be renewed. Raises UserError."""
    try:
        size = (folder / runlog.REQUESTS).stat().st_size
    except OSError:
        size = 0  # summing up says what is wrong
    if size <= BIG:
        return await asyncio.to_thread(summary.write, folder)
    await _apart(folder)
    path = folder / runlog.SUMMARY
    try:
        data: dict[str, Any] = orjson.loads(await asyncio.to_thread(path.read_bytes))
    except (OSError, ValueError) as error:
        raise runlog.RunFolderError(f"{path}: can't be read: {error}") from error
    return data


async def _apart(folder: Path) -> None:
    """Has :mod:`rvtop.results.__main__` sum up; it ends with us, in whatever way we go."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "rvtop.results", "--lease", "--", str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
    )
    assert process.stdin is not None and process.stderr is not None
    try:
        said = (await process.stderr.read()).decode("utf-8", "replace").strip()
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        process.stdin.close()
    if code == 0:
        return
    last = said.rpartition("\n")[2]
    if code > 1:  # a UserError's own line; 1 is a traceback, below 0 a signal
        raise UserError(last, code)
    raise runlog.RunFolderError(
        f"{folder}: could not be summed up (exit code {code}: {last}); try: rvtop report {folder}"
    )
