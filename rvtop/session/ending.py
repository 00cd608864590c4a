"""Why a session ends, and the outcome that follows: the one place where this is decided.

Others report causes here (the user's stop, a lost target, a dead worker, a full disk, a fault of ours).
``rvtop.results.ending`` says what causes make of a run, ``rvtop.results.summary`` what it measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rvtop.contract import run_files
from rvtop.contract.command import Stop
from rvtop.errors import UserError, unexpected
from rvtop.results import runlog
from rvtop.results.ending import Cause, End, end_of, exit_code
from rvtop.results.session_log import SessionLog
from rvtop.results.sum_up import sum_up
from rvtop.session.recorder import Recorder
from rvtop.session.request import Outcome
from rvtop.target.probe import TargetError

_STATES = {"target_lost": "lost", "client_failed": "crashed"}

Result = TypeVar("Result")


class Interrupted(TargetError):
    """The user stopped the session before there was a load."""

    def __init__(self) -> None:
        super().__init__("interrupted before the load began", 130)


class Ending:
    """The causes of a session's end. ``wake`` is called when the session has to look at them.

    ``stop`` is the user's wish, None before there is one. ``failed``: the session can't go on. ``in_flight``
    counts the requests that the end took the answer from. ``state`` is the state to show once the session
    has ended, "" before.
    """

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._causes: list[Cause] = []
        self._stopped = asyncio.Event()
        self._made: list[Path] | None = None  # the folders that were made for the run
        self._log: SessionLog | None = None
        self.stop: Stop | None = None
        self.stopped_by = ""
        self.failed = False
        self.in_flight = 0
        self.state = ""

    # -- causes ------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether the session has to end before its time."""
        return self.stop is not None or self.failed

    def stop_by(self, stop: Stop, by: str) -> None:
        """The user wants it to end; the first such wish counts. ``by`` is who sent it."""
        if self.stop is None:
            self.stop, self.stopped_by = stop, by
        self._stopped.set()
        self._wake()

    def add(self, kind: str, text: str) -> None:
        """Notes a cause that bends the outcome, with which the session can go on. ``kind`` is one of
        ``rvtop.results.ending.EXIT_CODES``."""
        self._causes.append(Cause(kind, text))

    def fail(self, kind: str, text: str) -> None:
        """Notes a cause with which the session can't go on."""
        self.add(kind, text)
        self.failed = True
        self._wake()

    def crashed(self, error: Exception) -> UserError:
        """A fault of ours as one line; its traceback goes to ``session.log`` if that is open."""
        if self._log is None:
            return unexpected(error)
        self._log.write_traceback(error)
        return unexpected(error, self._log.path)

    def guarded(self, take: Callable[..., None]) -> Callable[..., None]:
        """``take`` for callers that a fault of ours must not end: it ends the run instead."""

        def guarded(*arguments: Any) -> None:
            try:
                take(*arguments)
            except Exception as error:  # noqa: BLE001  # reported as one line, and in the log
                self.fail("client_failed", str(self.crashed(error)))

        return guarded

    async def unless_stopped(self, work: Awaitable[Result]) -> Result:
        """What ``work`` returns or raises. Raises Interrupted, and cancels it, if the user stops first."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Interrupted()
            return task.result()
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    # -- the run folder ----------------------------------------------------------------------

    def open_folder(self, *, adopt_stderr: bool) -> None:
        """Makes the run folder and its ``session.log``, which becomes this process's stderr if it is to be
        adopted. Raises RunFolderError."""
        self._made = runlog.create(self._folder)
        self._log = SessionLog(self._folder)
        if adopt_stderr:
            self._log.adopt_stderr()

    @property
    def stderr_fd(self) -> int | None:
        """The open ``session.log``, for the stderr of processes that the session starts."""
        return None if self._log is None else self._log.fd

    def close(self) -> None:
        """Closes ``session.log``."""
        if self._log is not None:
            self._log.close()
            self._log = None

    # -- the outcome -------------------------------------------------------------------------

    def never_began(self, error: UserError) -> Outcome:
        """The outcome of a run whose load never began: nothing of its folder is left but the log of what
        failed."""
        self.state = "failed"
        code, text = error.exit_code, str(error)
        if self._made is not None:
            log = self._folder / {4: run_files.BACKEND_LOG, 5: run_files.SESSION_LOG}.get(code, "")
            keep = log.is_file() and log.stat().st_size > 0
            runlog.discard(self._folder, self._made, run_files.BACKEND_LOG, keep=log.name if keep else "")
            text += f" (its log: {log})" if keep and str(log) not in text else ""
        return Outcome(code, text)

    async def outcome(
        self,
        by_model: Callable[[], Mapping[str, int]],
        recorder: Recorder,
        missed: Callable[[dict[str, Any]], Sequence[str]],
    ) -> Outcome:
        """Records the end, sums the run up, and judges it: the exit code follows from how it ended and from
        what it measured. ``by_model`` gives the requests that are in flight still, ``missed`` the goals that
        a summary does not meet; a run that was ended before its time is not held to them."""
        if self.stop is not None and self.stop.reason == "interrupted":
            self.add("interrupted", "interrupted")
        recorder.ended(self._end(by_model()).fields())
        end = self._end(by_model())  # with one cause more if that could not be written
        try:
            result, problem = await sum_up(self._folder, end)
        except UserError as error:  # follows from what came before, if something did
            self.state = "crashed"
            return Outcome(5, end.text if end.kind == "client_failed" else str(error))
        if problem and end.kind != "client_failed":
            self.add("client_failed", problem)
            result["end"] = self._end(by_model()).for_summary()
        kind, text = result["end"]["kind"], result["end"]["text"]
        self.state = _STATES.get(kind, "done")
        goals = [] if self.wanted else list(missed(result))
        lines = [text, *goals] if text else goals
        if kind == "interrupted":
            lines[-1] += f"; what was measured is in {self._folder}"
        return Outcome(exit_code(kind, goals), "; ".join(lines), result)

    def _end(self, by_model: Mapping[str, int]) -> End:
        return end_of(self._causes, self.in_flight, by_model)
