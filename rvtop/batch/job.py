"""A batch: one way after another over one file, each row written down as it is done."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rvtop.batch.folder import LOG, WORK, Folder, write_bad, write_work
from rvtop.batch.lane import Lane
from rvtop.batch.process import EngineProcess
from rvtop.batch.rows import BadRow, Row, read_rows
from rvtop.errors import UserError
from rvtop.ipc.child import module_command
from rvtop.system.files import unwritable, written_whole
from rvtop.text import NAME_LIMIT, told

HOWS = ("generate", "map-batches", "ray-data-llm")
#: What a batch is of: a resumed one has to be of the same.
JOB = "job.json"
_LOCK = "job.lock"
#: Starts of engines in a row that bring no row further, after which a way has failed.
TRIES = 3
_LOOK_S = 1.0

Command = Callable[["Plan", str, Path, int], Sequence[str]]


@dataclass(frozen=True)
class Plan:
    """What was asked for. ``model``: where it lies; ``name``: the one that rows may name, "" where any will
    do. ``arguments`` go to ``python -m backends.batch``. Engines that bring nothing further for ``stall_s``
    seconds are started anew."""

    file: Path
    hows: tuple[str, ...]
    model: str
    out: Path
    name: str = ""
    engines: int = 1
    resume: bool = False
    stall_s: float = 600.0
    arguments: tuple[str, ...] = ()


def engine_command(plan: Plan, how: str, work: Path, part: int) -> list[str]:
    """The command line of the process that computes a way, or a part of it."""
    where = ("--work", str(work.absolute()), "--model", plan.model)
    return module_command(
        "backends.batch", how, *where, "--engines", str(plan.engines), "--part", str(part), *plan.arguments
    )


@dataclass
class _Progress:
    """Of one start of engines: when it moved last, and the rows that it brought. Another's do not count."""

    moved: float
    rows: int = 0


class LaneFailed(Exception):
    """A way can't go on; ``exit_code`` goes with why."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(told(reason))
        self.exit_code = exit_code


class Job:
    """Reads the file when it is made. Raises UserError where that, or the folder, can't be used."""

    def __init__(
        self, plan: Plan, *, command: Command | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.plan, self.clock, self._command = plan, clock, command or engine_command
        self.codes: list[int] = []
        self._index: dict[int, Row] = {}
        self._bad: list[BadRow] = []
        for row in read_rows(plan.file, plan.name):
            if isinstance(row, BadRow):
                self._bad.append(row)
            else:
                self._index[row.key] = replace(row, work={})  # read again when it is needed
        if not self._index and not self._bad:
            raise UserError(f"{plan.file}: has no rows")
        self.digest = _digest(plan.file)
        self._lock = _claim(plan, self.digest)
        total = len(self._index) + len(self._bad)
        self.lanes = [Lane(how, total, plan.engines) for how in plan.hows]
        self.began = clock()

    def path(self, how: str) -> Path:
        """The folder of a way."""
        return self.plan.out / how if len(self.plan.hows) > 1 else self.plan.out

    @property
    def running(self) -> Lane | None:
        return next((lane for lane in self.lanes if lane.state in ("starts", "runs")), None)

    @property
    def exit_code(self) -> int:
        """0 where every row has an answer or a reason, 1 where none has an answer, else that of what went
        wrong."""
        if self.codes:
            return max(self.codes)
        return 0 if any(lane.done for lane in self.lanes) else 1

    async def run(self) -> None:
        """All ways, in turn. One that fails does not keep the next from its turn, unless what was asked for
        is wrong. Cancelled, it ends what runs; what is done stays. Raises UserError where a file can't be
        written."""
        for lane in self.lanes:
            folder = Folder(self.path(lane.how), self.plan.name or Path(self.plan.model).name)
            try:
                write_bad(folder, self._bad)
                lane.done = lane.before = len(folder.good)
                lane.errors = len(folder.bad)
                lane.begin(self.clock())
                await self._run_lane(lane, folder)
            except LaneFailed as error:
                lane.end(self.clock(), "failed", str(error))
                self.codes.append(error.exit_code)
                if error.exit_code == 2:
                    return
            except UserError as error:
                lane.end(self.clock(), "failed", str(error))
                raise
            except BaseException:
                lane.end(self.clock(), "interrupted")
                raise
            else:
                lane.end(self.clock(), "done")
            finally:
                lane.twice = folder.twice
                folder.close()
                self._remove_work(lane.how)

    def close(self) -> None:
        """Another command may use the folder."""
        os.close(self._lock)

    # -- one way -------------------------------------------------------------------------------------------

    async def _run_lane(self, lane: Lane, folder: Folder) -> None:
        """Ray gives its engines their rows; ``generate`` is a process an engine, each with its part. One that
        fails does not keep the others from theirs."""
        parts = self.plan.engines if lane.how == "generate" else 1
        tasks = [asyncio.create_task(self._run_part(lane, folder, part, parts)) for part in range(parts)]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for failed in filter(None, ends):
            raise failed

    async def _run_part(self, lane: Lane, folder: Folder, part: int, parts: int) -> None:
        """Until each of its rows is done: what breaks on the way is started anew with those that are left.
        Raises LaneFailed."""
        fruitless = 0
        work = folder.path / f"{part}.{WORK}"
        while write_work(work, self._left(folder, part, parts)):
            progress = _Progress(self.clock())
            log = folder.path / LOG
            process = EngineProcess(
                self._command(self.plan, lane.how, work, part),
                log,
                partial(self._take, lane, folder, progress),
            )
            stalled, code = await self._watched(process, progress)
            why = f"nothing came for {self.plan.stall_s:g} s" if stalled else process.why(code)
            if process.error.get("kind") in ("usage", "start"):
                raise LaneFailed(why, 2 if process.error["kind"] == "usage" else 4)
            fruitless = 0 if progress.rows else fruitless + 1
            if next(self._left(folder, part, parts), None) is None:
                return
            if fruitless == TRIES:
                raise LaneFailed(f"{TRIES} starts brought no row: {why}; see {log}", 5)
            lane.restarts += 1
            lane.step = f"started anew: {told(why, NAME_LIMIT)}"

    async def _watched(self, process: EngineProcess, progress: _Progress) -> tuple[bool, int]:
        """Runs a process; whether it was ended because nothing came, and its exit code."""
        running = asyncio.create_task(process.run())
        stalled = False
        try:
            while not running.done():
                await asyncio.wait([running], timeout=_LOOK_S)
                if not running.done() and self.clock() - progress.moved > self.plan.stall_s:
                    stalled = True
                    process.kill()
            return stalled, running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _take(self, lane: Lane, folder: Folder, progress: _Progress, event: Mapping[str, Any]) -> None:
        """What the engines' process told."""
        kind, now = event.get("event"), self.clock()
        if kind == "occupied":
            lane.occupied(event, now)
            if not event["steps"]:
                return  # nothing moves
        elif kind == "row" and (row := self._index.get(int(event["key"]))) is not None:
            if folder.good_row(row, event):
                lane.row(event, now)
                progress.rows += 1
        elif kind == "refused" and (row := self._index.get(int(event["key"]))) is not None:
            new = folder.bad_row(row.key, row.id, str(event["reason"]))
            lane.errors += new
            progress.rows += new
        elif kind == "step":
            detail = f" {event['detail']}" if event.get("detail") else ""
            lane.step = told(f"{event['name']}{detail}", NAME_LIMIT)
        elif kind == "engine":
            lane.slots = int(event["slots"])
        progress.moved = now

    def _left(self, folder: Folder, part: int, parts: int) -> Iterator[Row]:
        """The rows of a part that are not done."""
        if all(folder.holds(row) for row in self._index.values() if row.key % parts == part):
            return
        for row in read_rows(self.plan.file, self.plan.name):
            if isinstance(row, Row) and row.key % parts == part and not folder.holds(row):
                yield row

    def _remove_work(self, how: str) -> None:
        for part in range(self.plan.engines):
            with contextlib.suppress(OSError):
                (self.path(how) / f"{part}.{WORK}").unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _claim(plan: Plan, digest: str) -> int:
    """Makes the folder ours alone until the descriptor is closed, and notes what the batch is of. Raises
    UserError for one that is in use, or holds another batch, or one that was not to be resumed."""
    out = plan.out
    of = {
        "schema": 1,
        "file": plan.file.name,
        "sha256": digest,
        "model": plan.model,
        "name": plan.name,
        "hows": list(plan.hows),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(out, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"--out {out}: a batch runs there; wait for it, or give another folder") from None
        before = _read_job(out / JOB)
        if before is not None and not plan.resume:
            raise UserError(
                f"--out {out}: holds a batch already; go on with --resume, or give another folder"
            )
        if before is None and plan.resume and any(out.glob("*.jsonl")):
            raise UserError(f"--resume: {out / JOB} is missing; give another folder")
        for name in ("sha256", "model", "name", "hows") if before is not None else ():
            if before.get(name) != of[name]:  # type: ignore[union-attr]
                what = {"sha256": "another file", "hows": "other ways"}.get(name, f"another {name}")
                raise UserError(f"--resume: {out} is the batch of {what}; give those of its {JOB}")
        try:
            with written_whole(out / JOB) as part:
                part.write_text(json.dumps(of, indent=1) + "\n", "utf-8")
        except OSError as error:
            raise unwritable(out, error) from error
    except BaseException:
        os.close(lock)
        raise
    return lock


def _read_job(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error}); give another --out") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is none of a batch; give another --out")
    return found
