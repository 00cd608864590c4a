"""What the head tells the router of Serve's applications, as their replicas come and go; without Ray."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.cluster.cluster import ResourceShare
from backends.scaling.counts import Counts
from backends.serve import fleet as serve_fleet
from backends.serve.fleet import ServeFleet
from backends.serve.model_app import App
from backends.settings.autoscale import Autoscale
from backends.settings.split import Arm, Split, SplitOptions


class Router:
    pid = 1

    def __init__(self) -> None:
        self.admitted: list[bool] = []

    async def admit(self, model: str, up: bool) -> None:
        self.admitted.append(up)


class World:
    """One application, whose replicas that are ready are ``ready``, of ``wanted``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ready, self.wanted = 1, 1
        self.router = Router()
        app = App("app", "/a", "v1", "", ResourceShare("v1", 1.0, 0.0, 1), 1, fixed=False)
        self.fleet = ServeFleet([app], cast("Any", self.router), Autoscale(min_replicas=0))
        self.fleet.splits = SplitOptions((Split("chat", (Arm("v1", 50.0), Arm("v2", 50.0))),), fallback=True)
        monkeypatch.setattr(self.fleet, "_ask", self._ask)
        monkeypatch.setattr(self.fleet._scaling, "look", self._count)

    async def _ask(self, app: App) -> list[dict[str, Any]]:
        row = {"engine": "e", "state": "ready", "max_model_len": 1}
        return [{"row": row}] * self.ready

    async def _count(self) -> None:
        assert self.fleet._scaling is not None
        healthy = self.ready - self.draining
        self.fleet._scaling._counts["v1"] = Counts(self.wanted, healthy=healthy, draining=self.draining)

    async def look(self, ready: int, wanted: int, draining: int = 0) -> list[bool]:
        """What the router is told by two looks. ``draining``: so many of those that answer are ended."""
        self.ready, self.wanted, self.draining, self.router.admitted = ready, wanted, draining, []
        for _ in range(2):
            await self.fleet.look()
        return self.router.admitted


async def test_an_arm_that_serve_scaled_to_none_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    assert await world.look(ready=1, wanted=1) == [True]
    assert await world.look(ready=0, wanted=0) == [False, True]  # Serve's wish is known a look later
    assert await world.look(ready=0, wanted=0) == []
    assert world.fleet.up("v1")
    assert world.fleet.ready()  # a request is what starts a replica


async def test_an_arm_that_starts_from_none_is_open_unless_another_one_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    await world.look(ready=1, wanted=1)
    await world.look(ready=0, wanted=0)
    assert await world.look(ready=0, wanted=1) == []  # its requests wait for the replica that they start
    assert world.fleet.up("v1")
    other = App("other", "/b", "v2", "", ResourceShare("v2", 1.0, 0.0, 1), 1, fixed=True)
    other.up = True
    world.fleet._apps.append(other)
    world.fleet._watches["other"] = world.fleet._watches["app"]
    assert world.fleet._is_open(world.fleet._apps[0]) is False
    world.fleet._apps.pop()
    assert await world.look(ready=1, wanted=1) == []
    assert await world.look(ready=0, wanted=1) == [False, False]  # and now it died


async def test_a_request_that_comes_while_the_last_replica_ends_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    await world.look(ready=1, wanted=1)
    await world.look(ready=1, wanted=0, draining=1)  # it has a stream to end still
    await world.look(ready=1, wanted=1, draining=1)  # the request
    assert await world.look(ready=0, wanted=1) == []
    assert world.fleet.up("v1")


async def test_an_arm_whose_replicas_died_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    await world.look(ready=1, wanted=1)
    assert await world.look(ready=0, wanted=1) == [False, False]
    assert not world.fleet.up("v1")
    assert not world.fleet.ready()
    assert await world.look(ready=1, wanted=1) == [True]


async def test_one_of_two_that_there_are_at_least_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    fewest: list[int] = []
    watch = world.fleet._watches["app"]
    monkeypatch.setattr(watch, "look", lambda ready, least, now, **_: fewest.append(least))
    await world.look(ready=1, wanted=1)
    world.fleet._fewest = ServeFleet([], cast("Any", world.router), Autoscale(min_replicas=2))._fewest
    await world.look(ready=1, wanted=2)
    assert fewest == [1, 1, 2, 2]


class Called:
    """A method of a replica's handle; without an answer it never returns."""

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer

    async def remote(self) -> Any:
        if self._answer is None:
            await asyncio.Event().wait()
        return self._answer


async def test_figures_do_not_wait_for_a_replica_that_has_no_place_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App("app", "/a", "v1", "", ResourceShare("v1", 1.0, 0.0, 1), 1, fixed=False)
    fleet = ServeFleet([app], cast("Any", Router()), Autoscale())
    up, pending = (f"{serve_fleet._prefix(app)}#{name}" for name in ("up", "pending"))
    figures = {"row": {"engine": "up", "state": "ready"}, "page": ""}
    handles = {
        up: SimpleNamespace(was_initialized=Called(True), record_routing_stats=Called(figures)),
        pending: SimpleNamespace(was_initialized=Called()),
    }
    names = [up, pending]
    monkeypatch.setattr(serve_fleet.serve, "replica", handles.__getitem__)
    monkeypatch.setattr(serve_fleet.serve, "replicas_of", lambda *_: list(names))
    monkeypatch.setattr(fleet, "_names", Called(names).remote)
    monkeypatch.setattr(serve_fleet, "ASK_LIMIT_S", 3600.0)
    async with asyncio.timeout(60):
        while not fleet._handles:
            rows = [told["row"] for told in await fleet._ask(app)]
        rows = [told["row"] for told in await fleet._ask(app)]
    assert rows == [figures["row"], {"engine": "pending", "model": "v1", "state": "starting"}]
    (meeting,) = [task for task in fleet._meetings.values() if not task.done()]
    del names[1]
    await fleet._ask(app)
    assert list(fleet._meetings) == [up]
    meeting.cancel()


async def test_one_odd_answer_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    looked, twice = 0, asyncio.Event()

    async def look() -> None:
        nonlocal looked
        looked += 1
        if looked == 1:
            raise KeyError("what Ray did not say")
        twice.set()

    monkeypatch.setattr(serve_fleet, "WATCH_S", 0.0)
    monkeypatch.setattr(world.fleet, "look", look)
    watch = asyncio.create_task(world.fleet.keep_looking())
    async with asyncio.timeout(10):
        await twice.wait()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
