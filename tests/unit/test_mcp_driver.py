"""The session that ``rvtop mcp`` starts: one at a time, whatever is called side by side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from rvtop.errors import UserError
from rvtop.mcp import driver as module
from rvtop.mcp.driver import Driver
from rvtop.session.request import SessionRequest, shipped_request


class Session:
    """A session that is asked to start, and whose socket is there after a turn of the loop."""

    made: list[Session]

    def __init__(self) -> None:
        self.outcome: SimpleNamespace | None = None
        self.closed = 0
        self.made.append(self)

    async def start(self, request: SessionRequest) -> Session:
        await asyncio.sleep(0)
        assert request.control is not None
        request.control.touch()
        return self

    def snapshot(self) -> None:
        return None

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    Session.made = []
    monkeypatch.setattr(module, "RemoteSession", Session)
    monkeypatch.setattr(Driver, "_look", lambda _: "picture")
    return Session.made


async def test_of_two_starts_at_once_one_is_refused(sessions: list[Session], tmp_path: Path) -> None:
    driver, request = Driver(None), shipped_request("smoke", tmp_path)
    found = await asyncio.gather(driver.start(request), driver.start(request), return_exceptions=True)
    refused = [one for one in found if isinstance(one, UserError)]
    assert [str(one) for one in refused] == ["start: a load is up already; stop it first"]
    assert len(sessions) == 1
    sessions[0].outcome = SimpleNamespace(summary={})
    await driver.start(request)
    assert [one.closed for one in sessions] == [1, 0]
    await driver.close()
    assert [one.closed for one in sessions] == [1, 1]


async def test_a_session_that_ended_without_a_picture_is_one_line(
    sessions: list[Session], tmp_path: Path
) -> None:
    driver = Driver(None)
    await driver.start(shipped_request("smoke", tmp_path))
    sessions[0].outcome = SimpleNamespace(summary={})
    with pytest.raises(UserError, match="before there was a picture"):
        await driver.snapshot()
    await driver.close()
