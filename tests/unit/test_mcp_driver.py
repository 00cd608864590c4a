"""The session that ``rvtop mcp`` starts: one at a time, whatever is called side by side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from rvtop.contract.snapshot import Phase, Snapshot
from rvtop.errors import UserError
from rvtop.mcp import driver as module
from rvtop.mcp.driver import Driver
from rvtop.session.client import _first
from rvtop.session.request import SessionRequest, shipped_request, topology_options


class Session:
    """A session that is asked to start, and whose socket is there after a turn of the loop. It tells
    a picture of each of ``pictures`` (a state, and whether a phase runs), the last one again and again."""

    made: list[Session]
    pictures: tuple[tuple[str, bool], ...] = (("starting", False), ("running", True))
    opens = True

    def __init__(self) -> None:
        self.outcome: SimpleNamespace | None = None
        self.closed = self.looks = 0
        self.request: SessionRequest | None = None
        self.made.append(self)

    async def start(self, request: SessionRequest) -> Session:
        await asyncio.sleep(0)
        assert request.control is not None
        if self.opens:
            request.control.touch()
        self.request = request
        return self

    def snapshot(self) -> Snapshot | None:
        if self.request is None or not self.pictures:
            return None
        state, phase = self.pictures[min(self.looks, len(self.pictures) - 1)]
        self.looks += 1
        first = _first(self.request)
        return replace(first, state=state, phase=Phase("p", 0, 1, 0.0, 60.0) if phase else None)

    async def close(self) -> None:
        self.closed += 1
        if self.outcome is None and self.pictures and self.pictures[-1][0] == "failed":
            self.outcome = SimpleNamespace(summary=None, message="no route to host")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    Session.made = []
    monkeypatch.setattr(module, "RemoteSession", Session)
    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    monkeypatch.setattr(Driver, "_look", lambda _: "picture")
    return Session.made


def url_request(out: Path) -> SessionRequest:
    return replace(shipped_request("smoke", out), backend=None, url="http://127.0.0.1:9")


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


async def test_a_start_returns_once_a_phase_runs(
    sessions: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = (("starting", False),) * 4 + (("running", False),) * 3
    monkeypatch.setattr(Session, "pictures", (*waits, ("running", True)))
    driver = Driver(None)
    await driver.start(url_request(tmp_path))
    assert sessions[0].looks > len(waits)
    await driver.close()


async def test_a_topology_that_starts_is_not_waited_for(
    sessions: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "pictures", (("starting", False),))
    driver = Driver(None)
    backend = topology_options("baseline", models=(), port=0, arguments=())
    assert await driver.start(shipped_request("smoke", tmp_path, backend=backend)) == "picture"
    await driver.close()


async def test_a_load_that_never_begins_is_one_line(
    sessions: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN_LIMIT_S", 0.05)
    for pictures, opens, why in (
        ((), True, "the load has not begun after 0.05 s; `watch` tells"),
        ((("starting", False),), True, "the load has not begun after 0.05 s"),
        ((("starting", False),), False, "did not open its socket within 0.05 s; it was ended"),
    ):
        monkeypatch.setattr(Session, "pictures", pictures)
        monkeypatch.setattr(Session, "opens", opens)
        driver = Driver(None)
        with pytest.raises(UserError, match=why):
            await driver.start(url_request(tmp_path))
        assert sessions[-1].closed == (not opens)
        await driver.close()


async def test_a_session_that_fails_before_its_load_tells_why(
    sessions: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "pictures", (("starting", False), ("failed", False)))
    driver = Driver(None)
    with pytest.raises(UserError, match=r"^start: no route to host$"):
        await driver.start(url_request(tmp_path))
    assert not driver.own
    await driver.close()


async def test_a_session_that_ended_without_a_picture_is_one_line(
    sessions: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(None)
    await driver.start(shipped_request("smoke", tmp_path))
    monkeypatch.setattr(Session, "pictures", ())
    sessions[0].outcome = SimpleNamespace(summary={})
    with pytest.raises(UserError, match="before there was a picture"):
        await driver.snapshot()
    await driver.close()
