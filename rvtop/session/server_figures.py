"""The server's own figures during a session: polled in a thread, folded in the session's loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from rvtop.session.events import EventFeed
from rvtop.telemetry.poller import Poller
from rvtop.telemetry.sample import Sample, TelemetrySource, without_meters
from rvtop.telemetry.state import ServerState, ServerView
from rvtop.text import printable

OnSample = Callable[..., None]

_log = logging.getLogger("rvtop.telemetry")


class ServerFigures:
    """``on_answer`` gets the name of each source that answers, each time."""

    def __init__(self, feed: EventFeed, on_answer: Callable[[str], None]) -> None:
        self._feed = feed
        self._on_answer = on_answer
        self._state = ServerState()
        self._totals: dict[str, float] = {}  # of the servers before
        self._poller: Poller | None = None
        self._newest: dict[str, Sample] = {}  # of each source
        self._noted: set[tuple[str, str]] = set()  # what sources left out, each said once
        self._halted: set[str] = set()  # sources that are not polled, or were not

    def start(self, sources: Sequence[TelemetrySource], guard: Callable[[OnSample], OnSample]) -> None:
        """Begins to poll, in the running loop. ``guard`` wraps what takes the samples in."""
        state = self._state = ServerState((source.name for source in sources), self._totals)
        loop, stopped = asyncio.get_running_loop(), guard(self._stopped)
        take = guard(lambda sample: self.take(sample, state))
        self._halted.clear()

        def hand_over(sample: Sample) -> None:  # from the poller's thread
            loop.call_soon_threadsafe(take, sample)

        def hand_over_stop(source: str, why: str, again_s: float | None) -> None:  # from there too
            loop.call_soon_threadsafe(partial(stopped, source, why, again_s, state))

        self._poller = Poller(sources, hand_over, on_stop=hand_over_stop)
        self._poller.start()

    async def move(self, sources: Sequence[TelemetrySource], guard: Callable[[OnSample], OnSample]) -> None:
        """Polls another server from now on. Totals go on from those of the server before."""
        poller, self._totals = self._poller, self._state.totals()
        self.start(sources, guard)
        if poller is not None:
            await asyncio.to_thread(poller.stop)

    def take(self, sample: Sample, state: ServerState) -> None:
        """Folds one sample in; one of a server that was left comes too late."""
        if state is not self._state:
            return
        try:
            note = state.apply(sample)
        except Exception as error:  # noqa: BLE001  # the run and its load go on without these figures
            _log.exception("figures of %s", sample.source)
            note = f"its figures can't be taken in ({printable(repr(error), 120)})"
            sample = Sample(sample.t_ns, sample.source, error=note)
            state.apply(sample)
        if note and (sample.source, note) not in self._noted:  # it comes with every poll
            self._noted.add((sample.source, note))
            self._feed.say(f"{sample.source}: {note}", "warn", "source")
        if sample.error is None:
            self._on_answer(sample.source)
            if sample.source in self._halted:
                self._halted.remove(sample.source)
                self._feed.say(f"{sample.source}: polled again", kind="source")
        before = self._newest.get(sample.source)
        self._newest[sample.source] = sample
        # What only ages is drawn once a second all the same.
        if before is None or without_meters(before) != without_meters(sample):
            self._feed.touch()

    def _stopped(self, source: str, why: str, again_s: float | None, state: ServerState) -> None:
        """Polling a source stopped, by a fault of its own: its figures grow stale."""
        if state is not self._state:
            return
        self._halted.add(source)
        then = "not polled any more" if again_s is None else f"polled again in {again_s:g} s"
        self._feed.say(f"{source}: polling stopped ({printable(why, 160)}); {then}", "warn", "source")

    def view(self, now_ns: int) -> ServerView:
        """The server as it stands at ``now_ns``."""
        return self._state.view(now_ns)

    def count_idle(self, in_flight: int, now_ns: int) -> None:
        """Counts a second for the GPUs' idle share; see ``ServerState.count_idle``."""
        self._state.count_idle(in_flight, now_ns)

    async def stop(self) -> None:
        """Polls no more."""
        if self._poller is not None:
            await asyncio.to_thread(self._poller.stop)
