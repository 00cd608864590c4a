"""The server that a session loads: who it is, whether we started it, and whether it still answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns

from rvtop.contract.run_files import BACKEND_LOG
from rvtop.lifecycle.start_times import StartTimes
from rvtop.load.worker.messages import Delta
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.live import LiveState
from rvtop.session.request import SessionRequest
from rvtop.session.target_watch import ANSWER_S, LossWatch, TargetWatch
from rvtop.target.backend import Backend
from rvtop.target.probe import TargetError, TargetInfo, answers, choose_models, probe

#: Lines of its log that are shown of a backend that did not start.
_LOG_LINES = 5
_START_FAILED = 4


class LoadTarget:
    """``info`` is None until the target was probed; ``models`` are those to send to, as the server names
    them. ``is_running`` says whether the load goes on still, so that the target is missed."""

    def __init__(
        self, request: SessionRequest, feed: EventFeed, ending: Ending, is_running: Callable[[], bool]
    ) -> None:
        self._request = request
        self._feed = feed
        self._ending = ending
        self._is_running = is_running
        self._backend: Backend | None = None
        self._backend_watch: asyncio.Task[None] | None = None
        self._pages: frozenset[str] = frozenset()
        self._silence: TargetWatch | None = None
        self._loss: LossWatch | None = None
        self.start_s: float | None = None  # how long a backend of ours took to be ready
        self.info: TargetInfo | None = None
        self.models: tuple[str, ...] = ()

    # -- its start ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it is; "" while a backend of ours has no address yet."""
        return self._backend.url if self._backend is not None else (self._request.url or "")

    async def probe(self, url: str, models: tuple[str, ...]) -> None:
        """Learns what the server at ``url`` is; ``models`` are those asked for. Raises TargetError."""
        self.info = await probe(url, self._request.transport)
        # A backend of ours serves what was asked for: all of it is meant, in the order of the command line.
        ours = self._backend.models if self._backend is not None else ()
        self.models = choose_models(self.info, models or ours)

    async def start_backend(self, models: tuple[str, ...]) -> None:
        """Starts the backend of the request and probes it. Raises TargetError, Interrupted."""
        options = self._request.backend
        assert options is not None
        times, began_ns = StartTimes(options, os.environ), perf_counter_ns()
        log = self._request.out / BACKEND_LOG
        self._backend = Backend(options, log, times.watch(self._feed.step))
        ticking = asyncio.create_task(self._tick())
        try:
            url = await self._ending.unless_stopped(self._backend.start())
        except TargetError as error:
            if error.exit_code == _START_FAILED:
                self._feed.start_failed(self._backend.log_tail(_LOG_LINES).splitlines())
            raise
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        self.start_s = (perf_counter_ns() - began_ns) / 1e9
        times.keep(self.start_s)
        await self.probe(url, models)
        self._backend_watch = asyncio.create_task(self._watch_backend(self._backend))

    async def _tick(self) -> None:
        """The seconds of the step that runs are shown, and nothing else may happen meanwhile."""
        while True:
            await asyncio.sleep(1.0)
            self._feed.touch()

    async def _watch_backend(self, backend: Backend) -> None:
        code = await backend.wait()
        if self._ending.stop is None and self._is_running():
            text = f"the backend ended with exit code {code}: {backend.log_tail(1)}"
            self._ending.fail("target_lost", text.rstrip(": "))

    # -- while it runs -----------------------------------------------------------------------

    def expect_answers(self, pages: frozenset[str]) -> None:
        """From now on its silence counts. ``pages`` names the telemetry sources that it answers itself."""
        self._pages = pages
        self._silence = TargetWatch(self._responds, partial(self._feed.say, kind="target"))

    def watch(self) -> None:
        """Begins to ask it whether it is there, where its answers do not tell."""
        assert self._silence is not None
        self._silence.start()
        self._loss = LossWatch(perf_counter_ns(), self._answers, self._lost)

    def on_delta(self, delta: Delta) -> None:
        """A worker's delta may show that it answered: be it with a refusal."""
        answered = delta.chunks or delta.ok or any(kind.startswith("http_") for kind in delta.errors)
        if self._silence is not None and answered:
            self._silence.answered()

    def on_page(self, source: str) -> None:
        """A telemetry source answered."""
        if self._silence is not None and source in self._pages:
            self._silence.answered()

    def check(self, live: LiveState, now_ns: int) -> None:
        """Once a second, with what the load has seen of it."""
        if self._loss is not None:
            self._loss.check(live, now_ns)

    @property
    def down_s(self) -> float | None:
        """Seconds since it last answered, while it does not; else None."""
        return None if self._silence is None else self._silence.down_s

    async def _answers(self) -> bool:
        assert self.info is not None
        return await answers(self.info.url, self._request.transport)

    async def _responds(self) -> bool:
        assert self.info is not None
        return await answers(self.info.url, self._request.transport, ANSWER_S)

    def _lost(self) -> None:
        assert self.info is not None
        if self._is_running():
            self._ending.fail(
                "target_lost", f"{self.info.url}: the target is lost (nothing answers there any more)"
            )

    # -- its end -----------------------------------------------------------------------------

    async def stop_watching(self) -> None:
        """Asks and watches no more."""
        if self._silence is not None:
            await self._silence.close()
        if self._loss is not None:
            await self._loss.close()
        if self._backend_watch is not None:
            self._backend_watch.cancel()
            await asyncio.gather(self._backend_watch, return_exceptions=True)

    async def stop_backend(self) -> None:
        """Ends the backend, if we started one."""
        if self._backend is not None:
            await self._backend.stop()

    def kill(self) -> None:
        """Ends the backend by force, for a user who does not want to wait."""
        if self._backend is not None:
            self._backend.kill()
