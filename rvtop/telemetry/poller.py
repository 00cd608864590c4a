"""Asks every source once a period, from a thread with an event loop of its own.

Own thread, so that reading a page of thousands of lines never holds up the session's or the screen's
loop; one task a source, so that a slow one never holds up another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence

from rvtop.telemetry.sample import Sample, TelemetrySource

_log = logging.getLogger("rvtop.telemetry")

Sink = Callable[[Sample], None]
#: Told that polling a source has stopped, or its thread has: the source's name, why, and after how many
#: seconds it begins again; None: it does not.
OnStop = Callable[[str, str, float | None], None]

#: Not one second: load comes at whole rates, and polls in step with it would see every request at the same
#: moment of its life, or none of them (two short ones a second: `running` 0 for ever). Half the golden ratio
#: is out of step with all of them.
PERIOD_S = 0.809
#: How long polling rests before it begins again, once it has stopped for the first, second, … time in a row.
RESTS_S = (1.0, 2.0, 5.0, 10.0)


class Poller:
    """Polls ``sources`` and gives every Sample to ``sink``.

    ``sink`` is called **from the poller's thread**, one call at a time; it must be quick and hand over
    to its own thread itself (``deque.append``, ``loop.call_soon_threadsafe``). No call is made after
    ``stop`` has returned. ``timeout_s`` bounds one poll; a late source skips turns, it never piles up.

    A poll that fails is a Sample with its error. What ends the polling itself (a library that cancels the
    task it runs in, or that exits) is told to ``on_stop``, from the same thread, and it begins again.
    """

    def __init__(
        self,
        sources: Sequence[TelemetrySource],
        sink: Sink,
        period_s: float = PERIOD_S,
        timeout_s: float = 3.0,
        on_stop: OnStop | None = None,
        rests_s: Sequence[float] = RESTS_S,
    ) -> None:
        self._sources = tuple(sources)
        self._sink = sink
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._on_stop = on_stop
        self._rests_s = rests_s
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Begins to poll, at once. A poller starts once."""
        if self._thread is not None:
            raise RuntimeError("this poller was started before")
        self._thread = threading.Thread(target=self._run, name="rvtop-telemetry", daemon=True)
        self._thread.start()

    def stop(self, wait_s: float = 5.0) -> bool:
        """Ends all polls, closes the sources and joins the thread. Harmless when repeated.

        False when the thread has not ended after ``wait_s``, because a source hangs outside ``await``
        (the thread is a daemon: it does not keep the process alive).
        """
        with self._lock:
            self._stopped = True
            if self._loop is not None and self._main is not None:
                self._loop.call_soon_threadsafe(self._main.cancel)
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(wait_s)
        return not thread.is_alive()

    def _run(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError), asyncio.Runner() as runner:
                runner.run(self._poll_all())
        except BaseException as problem:
            for source in self._sources:
                self._tell_stop(source, f"the telemetry thread ended: {_words(problem)}", None)
            raise

    async def _poll_all(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._loop = asyncio.get_running_loop()
            self._main = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as tasks:
                for source in self._sources:
                    tasks.create_task(self._keep_polling(source))
        finally:
            with self._lock:
                self._loop = self._main = None
            for source in self._sources:
                await _close(source)

    async def _keep_polling(self, source: TelemetrySource) -> None:
        """Polls until ``stop``, whatever ends it meanwhile."""
        stops = 0  # in a row
        while not self._stopped:
            begun = time.monotonic()
            try:
                await self._poll_one(source)
            except BaseException as problem:
                if self._stopped or isinstance(problem, GeneratorExit) or _is_cancelled():
                    raise
                _log.exception("polling %s stopped", source.name)
                if time.monotonic() - begun > 60.0:
                    stops = 0
                rest_s = self._rests_s[min(stops, len(self._rests_s) - 1)]
                stops += 1
                self._tell_stop(source, _words(problem), rest_s)
                await asyncio.sleep(rest_s)

    def _tell_stop(self, source: TelemetrySource, why: str, again_s: float | None) -> None:
        if self._on_stop is not None and not self._stopped:
            self._on_stop(source.name, why, again_s)

    async def _poll_one(self, source: TelemetrySource) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            sample = await self._asked(source)
            if self._stopped:  # a poll that held up its loop ends behind the end
                return
            try:
                self._sink(sample)
            except Exception:  # noqa: BLE001
                # The sink's mistake must not end the telemetry of a run that goes on; it is logged whole.
                _log.exception("telemetry sink failed on a sample of %s", source.name)
            due += self._period_s
            if due < loop.time():  # late: take the next turn of the same beat
                due += self._period_s * ((loop.time() - due) // self._period_s + 1)
            await asyncio.sleep(due - loop.time())

    async def _asked(self, source: TelemetrySource) -> Sample:
        """One poll, whatever happens inside it."""
        try:
            # Not `wait_for`: before Python 3.12 it loses a cancel that comes as the poll ends (gh-86296),
            # and `stop` would wait for a poller that goes on.
            async with asyncio.timeout(self._timeout_s):
                return await source.poll()
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except Exception as problem:  # noqa: BLE001  # any source may fail in any way: that is news, not our end
            error = _words(problem)
        return Sample(time.perf_counter_ns(), source.name, error=error)


def _words(problem: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}".removesuffix(": ")[:120]


def _is_cancelled() -> bool:
    """Whether this task was told to end. A CancelledError that nobody asked for is a source's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _close(source: TelemetrySource) -> None:
    try:
        async with asyncio.timeout(1.0):
            await source.close()
    except Exception as problem:  # noqa: BLE001  # closing is the last thing: nothing is left to save
        _log.debug("closing %s: %s: %s", source.name, type(problem).__name__, problem)
