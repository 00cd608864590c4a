"""A target that stops answering is said to, whatever it was doing, and so is one that comes back."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from rvtop.contract.command import SetRate
from rvtop.contract.snapshot import Snapshot
from rvtop.plain import figures_line
from rvtop.session.request import SessionRequest
from rvtop.session.target_watch import ANSWER_S, DOUBT_S, RETRY_S, TargetWatch
from tests.faults.sessions import Watched
from tests.mock.fast import any_mock
from tests.mock.process import MockError


class Told:
    """A target whose answers are set, a clock that is moved, and what was told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.up = True
        self.asked = 0
        self.events: list[tuple[str, str]] = []
        self.watch = TargetWatch(self.ask, self.tell, lambda: round(self.now_s * 1e9))

    async def ask(self) -> bool:
        self.asked += 1
        return self.up

    def tell(self, text: str, level: str) -> None:
        self.events.append((text, level))


async def test_a_target_that_answers_anyway_is_asked_nothing() -> None:
    told = Told()
    for _ in range(10):
        told.now_s += DOUBT_S - 0.1
        told.watch.answered()
        assert 0 < await told.watch.check() <= DOUBT_S
    assert told.asked == 0
    assert told.watch.down_s is None
    assert told.events == []


async def test_a_silent_target_is_asked_and_down_until_it_answers() -> None:
    told = Told()
    told.now_s += DOUBT_S
    await told.watch.check()
    assert (told.asked, told.watch.down_s, told.events) == (1, None, [])  # silent, but it answers
    told.up = False
    told.now_s += DOUBT_S
    assert await told.watch.check() == RETRY_S
    assert told.watch.down_s == pytest.approx(DOUBT_S)
    told.now_s += 4.0
    await told.watch.check()
    assert told.watch.down_s == pytest.approx(DOUBT_S + 4.0)
    assert told.events == [("server stopped answering", "error")]
    told.up = True
    await told.watch.check()
    assert told.watch.down_s is None
    assert told.events[1:] == [("server answers again, after 5 s", "info")]


async def test_an_answer_to_the_load_is_an_answer() -> None:
    told = Told()
    told.up = False
    told.now_s += DOUBT_S
    await told.watch.check()
    told.watch.answered()
    assert told.watch.down_s is None
    assert [level for _, level in told.events] == ["error", "info"]


async def test_a_question_that_fails_while_the_load_is_answered_says_nothing() -> None:
    told = Told()

    async def meanwhile() -> bool:
        told.now_s += 0.5
        told.watch.answered()
        return False

    told.watch._ask = meanwhile
    told.now_s += DOUBT_S
    await told.watch.check()
    assert told.watch.down_s is None
    assert told.events == []


def test_it_is_said_within_three_seconds() -> None:
    assert DOUBT_S + ANSWER_S < 3.0


def texts(s: Snapshot) -> list[str]:
    return [event.text for event in s.events]


async def test_a_server_that_hangs_comes_back_and_is_killed(tmp_path: Path) -> None:
    with contextlib.suppress(MockError), any_mock(ttft_ms=20, step_ms=5, tokens=8) as mock:  # it is killed
        watched = Watched(SessionRequest(scenario=None, out=tmp_path / "run", url=mock.url, live=True))
        await watched.until(lambda s: s.state == "watching" and s.engines, "the server's figures")
        os.kill(mock.pid, signal.SIGSTOP)
        down = await watched.until(lambda s: s.target_down_s is not None, "the silence")
        assert down.state == "watching"
        assert "server stopped answering" in texts(down)
        assert "running --  waiting --  KV -- %  SERVER NOT ANSWERING" in figures_line(down)
        await watched.until(lambda s: all(e.stale_s is not None for e in s.engines), "stale figures")
        os.kill(mock.pid, signal.SIGCONT)
        await watched.until(lambda s: s.target_down_s is None, "its return")
        assert any("server answers again" in text for text in texts(watched.now))
        watched.send(SetRate(20.0))
        await watched.until(lambda s: s.load.ok > 5 and s.engines[0].stale_s is None, "figures of a load")
        os.kill(mock.pid, signal.SIGKILL)
        down = await watched.until(lambda s: s.target_down_s is not None, "the silence under load")
        assert down.state == "running"
        outcome = await watched.end()
        assert outcome.exit_code == 3
        assert watched.seen[-1].state == "lost"
        assert watched.seen[-1].target_down_s is None
