"""The charts of a session count their seconds as its events and pictures do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rvtop.contract.command import Mark, Stop
from rvtop.session.request import SessionRequest
from rvtop.session.session import Session
from rvtop.ui.past import moved
from tests.mock.fast import any_mock

START_S = 40.0  # what a server of ours takes until there is a load


async def test_a_session_whose_server_took_its_time_shows_the_same_second_everywhere(tmp_path: Path) -> None:
    with any_mock() as mock:
        session = Session(SessionRequest(None, tmp_path / "run", url=mock.url, live=True))
        session._began_ns -= round(START_S * 1e9)  # it began so long ago
        session._feed.began_ns = session._began_ns
        running = asyncio.create_task(session.run())
        async with asyncio.timeout(240):
            while len(session.snapshot().series.t_s) < 2:
                await asyncio.sleep(0.02)
            session.command(Mark("here"))
            while not any(event.kind == "mark" for event in session.snapshot().events):
                await asyncio.sleep(0.02)
            told = session.snapshot()
        session.command(Stop())
        await running
    assert told.series.t_s[0] > START_S
    assert told.series.t_s[-1] <= told.t_s
    assert told.t_s - told.series.t_s[-1] < 5.0  # a second, but for a busy machine
    (mark,) = (event.t_s for event in told.events if event.kind == "mark")
    assert mark == pytest.approx(told.t_s, abs=5.0)
    assert moved(told, None, -1.0, 60) == pytest.approx(told.t_s, abs=6.0)  # what the key left shows
