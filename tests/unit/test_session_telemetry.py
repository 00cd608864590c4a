"""Telemetry that fails by a fault of its own under a session that goes on: it is said, and begins again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

import pytest

from rvtop.session.events import EventFeed
from rvtop.session.server_figures import ServerFigures
from rvtop.telemetry.sample import EngineSample, Sample
from rvtop.telemetry.state import ServerState


class Page:
    """A server's page with one engine. ``fault`` is raised out of a poll, once."""

    name = "metrics"

    def __init__(self) -> None:
        self.fault: BaseException | None = None

    async def poll(self) -> Sample:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        return Sample(perf_counter_ns(), self.name, (EngineSample("0", "m", gauges={"running": 2.0}),))

    async def close(self) -> None: ...


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


def said(feed: EventFeed) -> list[tuple[str, str, str]]:
    return [(event.text, event.level, event.kind) for event in feed._events]


def unguarded(take: Any) -> Any:
    return take


async def test_a_poller_that_dies_is_said_grows_stale_and_polls_again() -> None:
    feed, answered, page = EventFeed(), list[str](), Page()
    figures = ServerFigures(feed, answered.append)
    figures.start([page], unguarded)
    try:
        await until(lambda: bool(answered))
        page.fault = SystemExit("a library's exit")
        await until(lambda: len(said(feed)) >= 1)
        stopped = "metrics: polling stopped (SystemExit: a library's exit); polled again in 1 s"
        assert said(feed)[0] == (stopped, "warn", "source")
        late = figures.view(perf_counter_ns() + 60_000_000_000)
        assert [engine.stale_s is not None for engine in late.engines] == [True]
        assert [source.state for source in late.sources] == ["stale"]
        await until(lambda: len(said(feed)) >= 2)
        assert said(feed)[1] == ("metrics: polled again", "info", "source")
    finally:
        await figures.stop()


def test_figures_that_can_not_be_taken_in_end_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = EventFeed()
    figures = ServerFigures(feed, lambda name: None)
    apply, state = ServerState.apply, figures._state
    engines = (EngineSample("0", "m", gauges={"running": 2.0}),)

    def fails(state: ServerState, sample: Sample) -> str:
        if sample.engines:
            raise KeyError("running")
        return apply(state, sample)

    monkeypatch.setattr(ServerState, "apply", fails)
    sample = Sample(1_000_000_000, "metrics", engines)
    figures.take(sample, state)
    figures.take(replace(sample, t_ns=2_000_000_000), state)
    assert said(feed) == [
        ("metrics: its figures can't be taken in (KeyError('running'))", "warn", "source")
    ], "once"
    status = figures.view(3_000_000_000).sources[0]
    assert (status.state, status.detail) == ("absent", "its figures can't be taken in (KeyError('running'))")
    monkeypatch.undo()
    figures.take(replace(sample, t_ns=4_000_000_000), state)
    assert figures.view(4_000_000_000).sources[0].state == "ok"
