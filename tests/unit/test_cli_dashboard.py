"""``rvtop`` alone: the Start screen, and what its session leaves on stderr and as exit code when it ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rvtop.cli.app
from rvtop.cli import dashboard
from rvtop.contract.handle import Choice, Connect, ConnectFailed, Second
from rvtop.plain import result_lines
from rvtop.results.summary import summarise
from rvtop.session.client import RemoteSession
from rvtop.session.request import Outcome, start_request
from rvtop.ui.sharing import Sharing
from tests.faults.sessions import request
from tests.mock.fast import any_mock
from tests.mock.faulty import refusing_port
from tests.unit.run_folder import make, phase
from tests.unit.run_folder import request as request_line

GONE = Choice(url="http://127.0.0.1:1")


class Ended:
    """A session as it is after it was closed."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.request = SimpleNamespace(out=Path("runs/one"))

    def snapshot(self) -> None:
        return None


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs ``rvtop`` with a screen on which sessions of these outcomes are chosen one after another, and
    which is then left with ``code``; returns the exit code and what went to stdout and stderr."""

    def run(outcomes: list[Outcome | None], code: int) -> tuple[int, str, str]:
        sessions = iter([Ended(outcome) for outcome in outcomes])

        async def connect(choice: Choice) -> Ended:
            assert choice is GONE
            return next(sessions)

        def app(handle: object, connect: Connect, **_: object) -> Connect:
            assert handle is None
            return connect

        async def screen(connect: Connect) -> int:
            for _outcome in outcomes:
                await connect(GONE)
            return code

        monkeypatch.setattr(dashboard, "_connect", connect)
        monkeypatch.setattr(dashboard, "RvtopApp", app)
        monkeypatch.setattr(dashboard, "run_app_async", screen)
        monkeypatch.setattr(rvtop.cli.app, "no_screen", lambda: "")
        monkeypatch.setattr(sys, "argv", ["rvtop"])
        ended = rvtop.cli.app.command()
        return (ended, *capfd.readouterr())

    return run


async def test_live_pairs_begin_from_a_session_on_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole session of pairs, as the Compare screen starts it."""
    with any_mock(ttft_ms=2, step_ms=1, tokens=4) as a, any_mock(ttft_ms=2, step_ms=1, tokens=4) as b:
        asked = request(a.url, tmp_path, {"name": "steady", "rate": 20, "duration": "10m"})
        before = RemoteSession()
        before.request = asked
        chosen = [before]
        connect = dashboard._remembering(chosen)
        with refusing_port() as port, pytest.raises(ConnectFailed, match="refused"):
            await connect(Choice(url=a.url, second=Second(f"http://127.0.0.1:{port}", 20.0)))
        assert chosen == [before]
        monkeypatch.chdir(tmp_path)  # its run folder is in runs/
        session = await connect(Choice(url=a.url, second=Second(b.url, 50.0)))
        assert chosen == [before, session]
        try:
            async with asyncio.timeout(240):
                while not ((s := session.snapshot()) and s.pairs and s.pairs.same_count):
                    await asyncio.sleep(0.05)
        finally:
            await session.close()
        now = session.snapshot()
        assert now is not None
        assert now.pairs is not None
        assert (now.pairs.a, now.pairs.b) == (a.url, b.url)


ALL_FAILED = Outcome(1, "all 44 requests failed: http_500 44")


@pytest.mark.parametrize(
    ("outcomes", "code", "wanted"),
    [
        pytest.param([], 0, (0, "", ""), id="nothing chosen"),
        pytest.param([], 130, (130, "", ""), id="Ctrl-C on the Start screen"),
        pytest.param([Outcome(0)], 0, (0, "", ""), id="a run that went well"),
        pytest.param([Outcome(0)], 130, (130, "", ""), id="Ctrl-C in a run"),
        pytest.param([ALL_FAILED], 0, (1, "", f"rvtop: {ALL_FAILED.message}\n"), id="all requests failed"),
        pytest.param([Outcome(4, "no GPU")], 4, (4, "", "rvtop: no GPU\n"), id="it did not start"),
        pytest.param([Outcome(4, "no GPU"), Outcome(0)], 0, (0, "", ""), id="the last one chosen counts"),
        pytest.param([None], 130, (130, "", ""), id="left without waiting"),
    ],
)
def test_how_the_session_ended_is_the_exit_code_and_its_line_goes_to_stderr(
    left: Callable[..., Any], outcomes: list[Outcome | None], code: int, wanted: tuple[int, str, str]
) -> None:
    assert left(outcomes, code) == wanted


def test_a_session_of_the_start_screen_leaves_its_figures_and_folder_on_the_terminal(
    left: Callable[..., Any], tmp_path: Path
) -> None:
    make(tmp_path, [request_line(0, "p", 100.0, lag=0, first=5, last=9)], [phase("p", 0, 1)])
    summary = summarise(tmp_path)
    code, said, wrong = left([Outcome(0, "", summary)], 0)
    assert (code, wrong) == (0, "")
    assert said == "".join(f"{line}\n" for line in result_lines(summary, "runs/one"))
    assert said.endswith("run folder: runs/one\n")


@pytest.mark.parametrize(
    ("sharing", "can_choose"),
    [(Sharing(), True), (Sharing(web_url="http://h/?t=1"), False), (Sharing(joined=True), False)],
    ids=["alone", "web view", "joined"],
)
def test_a_session_of_the_command_line_can_be_left_for_another_one(
    monkeypatch: pytest.MonkeyPatch, sharing: Sharing, can_choose: bool
) -> None:
    first, second = Ended(Outcome(0, "first")), Ended(Outcome(1, "second"))

    class Remote:
        async def start(self, _request: object) -> Ended:
            return first

    async def connect(choice: Choice) -> Ended:
        assert choice is GONE
        return second

    async def screen(given: Connect | None) -> int:
        assert (given is not None) == can_choose
        if given is not None:
            await given(GONE)
        return 0

    monkeypatch.setattr(dashboard, "_connect", connect)
    monkeypatch.setattr(dashboard, "RemoteSession", Remote)
    monkeypatch.setattr(dashboard, "RvtopApp", lambda _session, given, **_: given)
    monkeypatch.setattr(dashboard, "run_app_async", screen)
    ended = dashboard.show(start_request("rac"), yes=True, sharing=sharing)
    assert ended.message == ("second" if can_choose else "first")
