"""While nothing changes a session makes no picture of itself, and sends none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

import rvtop.session.server as server
from rvtop.contract.snapshot import Series, Snapshot, SourceStatus, Target
from rvtop.contract.stream import SnapshotWriter
from rvtop.session.events import EventFeed
from rvtop.session.server_figures import ServerFigures
from rvtop.session.still import Stillness
from rvtop.telemetry.sample import EngineSample, Sample

NOTHING = Snapshot(seq=0, t_s=0.0, unix_s=0.0, state="watching", name="", target=Target("http://x", None, ()))


class FakeSession:
    """Counts the pictures that are asked of it."""

    def __init__(self) -> None:
        self.feed = EventFeed()
        self.news = self.feed.news
        self.pictures = 0

    def snapshot(self) -> Snapshot:
        self.pictures += 1
        return replace(NOTHING, seq=self.feed.seq)


async def test_a_picture_is_made_when_there_is_something_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PERIOD_S", 0.001)
    session, written = FakeSession(), list[bytes]()
    writer = SimpleNamespace(is_closing=lambda: False, get_write_buffer_size=lambda: 0, write=written.append)
    sending = asyncio.create_task(
        server._send_snapshots(cast(Any, session), SnapshotWriter(), cast(Any, writer), asyncio.Event())
    )

    async def sent(pictures: int) -> None:
        """So many have been sent, and no further one comes."""
        async with asyncio.timeout(240):
            while not (len(written) == pictures and session.feed._waiting):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.03)
        assert (session.pictures, len(written)) == (pictures, pictures)

    await sent(1)
    session.feed.touch()
    await sent(2)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


def test_an_answer_like_the_one_before_is_no_news() -> None:
    feed, answered = EventFeed(), list[str]()
    figures = ServerFigures(feed, answered.append)
    state = figures._state
    sample = Sample(1_000_000_000, "page", engines=(EngineSample("0", "m", gauges={"running": 2.0}),))
    figures.take(sample, state)
    first = feed.seq
    assert first > 0
    figures.take(replace(sample, t_ns=2_000_000_000), state)
    assert feed.seq == first
    busier = (EngineSample("0", "m", gauges={"running": 3.0}),)
    figures.take(replace(sample, t_ns=3_000_000_000, engines=busier), state)
    assert feed.seq == first + 1
    figures.take(Sample(4_000_000_000, "page", error="no answer within 3 s"), state)
    assert feed.seq == first + 2
    assert answered == ["page"] * 3  # each of them says that the server is there


def test_an_idle_server_is_drawn_seldom_and_a_change_at_once() -> None:
    stillness, told = Stillness(), list[int]()
    for second in range(9):
        drawn = replace(
            NOTHING,
            t_s=float(second),
            unix_s=float(second),
            series=Series(t_s=(float(second),)),
            sources=(SourceStatus("metrics", "ok", age_s=0.1 * second),),
        )
        if stillness.is_news(drawn):
            told.append(second)
    assert told == [0, 3, 6]
    silent = replace(NOTHING, t_s=9.0, target_down_s=1.5)
    assert stillness.is_news(silent)
    assert stillness.is_news(replace(silent, t_s=10.0, target_down_s=2.5))  # its age counts on
    running = replace(NOTHING, state="running")
    assert all(stillness.is_news(replace(running, t_s=11.0 + second)) for second in range(3))
