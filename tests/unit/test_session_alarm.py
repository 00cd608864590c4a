"""The session sleeps until something is to be done, and no longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter_ns

import pytest

from rvtop.load.plan.schedule import NEVER
from rvtop.results import runlog
from rvtop.session.load_run import LoadRun
from rvtop.session.session import Session
from rvtop.session.wakeup import Wakeup
from tests.faults.sessions import request
from tests.mock.fast import any_mock

MS = 1_000_000


async def test_it_goes_off_at_its_time() -> None:
    at = perf_counter_ns() + 30 * MS
    await Wakeup().sleep_until(at)
    assert perf_counter_ns() >= at


async def test_a_time_that_is_past_is_no_error() -> None:
    async with asyncio.timeout(240):
        await Wakeup().sleep_until(0)


async def test_whoever_rings_wakes_the_sleeper_and_nobody_else() -> None:
    wakeup = Wakeup()
    wakeup.set()  # nobody sleeps
    sleeper = asyncio.create_task(wakeup.sleep_until(perf_counter_ns() + 3600 * 1000 * MS))
    await asyncio.sleep(0.02)
    assert not sleeper.done()
    wakeup.set()
    wakeup.set()
    async with asyncio.timeout(240):
        await sleeper
    sleeper = asyncio.create_task(wakeup.sleep_until(NEVER))
    await asyncio.sleep(0.02)
    assert not sleeper.done()
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    wakeup.set()


async def test_a_log_that_can_not_be_written_wakes_the_session(tmp_path: Path) -> None:
    def full(log: runlog.RunLog) -> None:
        raise runlog.RunFolderError("no space left on device")

    session = Session(
        request("http://localhost:1", tmp_path / "run", {"name": "a", "rate": 1, "duration": "1s"})
    )
    session._recorder.open(runlog.RunLog(tmp_path, "", {}), 0)
    sleeper = asyncio.create_task(session._wakeup.sleep_until(NEVER))
    await asyncio.sleep(0)
    session._recorder.write(full)
    async with asyncio.timeout(240):
        await sleeper
    assert not session._load.going
    session._recorder.close()


@pytest.mark.parametrize("seen", [True, False])
async def test_a_session_wakes_for_seconds_and_turns_of_the_plan_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    steps: list[int] = []
    advance = LoadRun.advance
    monkeypatch.setattr(LoadRun, "advance", lambda self: (steps.append(1), advance(self)))
    phases = ({"name": "a", "rate": 40, "duration": "2s"}, {"name": "b", "rate": 0, "duration": "1s"})
    with any_mock(ttft_ms=5, step_ms=1, tokens=4) as mock:
        session = Session(request(mock.url, tmp_path / "run", *phases), seen=seen)
        outcome = await session.run()
    assert outcome.exit_code == 0
    rows = (tmp_path / "run" / "timeline.jsonl").read_text().splitlines()
    assert len(rows) >= 3
    assert len(steps) < 12 * len(rows)  # some of them for deltas that tell of a drain
