"""A topology whose engines stand behind the router: how it comes up, and how all of it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol
from urllib.parse import urlsplit

from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.splits import Splits
from backends.models.adapters import AdapterFolder
from backends.process.events import Steps
from backends.router.fleet import Fleet, Member
from backends.router.membership import Membership
from backends.router.router import Router
from backends.rpc import beside
from backends.settings.split import NO_SPLITS, SplitOptions


class Surroundings(Protocol):
    """What watches where engines run."""

    def rows(self) -> Mapping[str, Any]:
        """For ``/rvtop/cluster``."""
        ...

    def watching(self) -> AbstractAsyncContextManager[Any]:
        """It watches while the body runs."""
        ...

    async def lost_all(self) -> str:
        """Returns when all of it is gone for good."""
        ...


class Changes(Protocol):
    """What adds and retires engines while they serve, such as autoscaling."""

    async def failed(self) -> str:
        """Returns, with the reason in one line, if it broke, which only a bug can do."""
        ...

    async def close(self) -> None:
        """Changes nothing any more; what it has begun is ended."""
        ...


class RoutedEngines:
    """A router on the head with engines behind it. ``changes`` is ended before they are."""

    def __init__(
        self,
        router: Router,
        members: Membership,
        stack: AsyncExitStack,
        broken: Callable[[], Coroutine[Any, Any, str]] | None = None,
    ) -> None:
        self._broken = broken
        self._router = router
        self.members = members
        self.changes: Changes | None = None
        self._stack = stack  # all that was started, to be closed backwards

    async def failed(self) -> str:
        """Returns if what the engines run in broke, or, which only a bug can do, the restart loop of an
        engine or of the router."""
        parts = [self._router.failed(), self.members.broken()]
        if self._broken is not None:
            parts.append(self._broken())
        if self.changes is not None:
            parts.append(self.changes.failed())
        waits = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self, grace_s: float) -> None:
        """Ends everything. Running requests may go on for ``grace_s`` seconds first."""
        async with self._stack:
            if self.changes is not None:
                await self.changes.close()
            await self.members.close()
            self._router.stop_listening()
            if grace_s > 0:
                await asyncio.gather(*(member.drain(grace_s) for member in self.members.fleet.members))


async def route(
    topology: str,
    router: Router,
    members: Sequence[Member],
    facts: Mapping[str, Any],
    *,
    url: str,
    steps: Steps,
    stack: AsyncExitStack,
    live: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    split: SplitOptions = NO_SPLITS,
    surroundings: Callable[[Fleet], Surroundings] | None = None,
    adapters: AdapterFolder | None = None,
) -> RoutedEngines:
    """Starts the router, then its engines. What is started is pushed to ``stack``; the RoutedEngines takes
    that over when all of it runs. ``facts`` and ``live`` are further entries of ``/rvtop/topology``;
    ``split`` is what the router was made with, ``surroundings`` makes what watches where the engines run;
    ``adapters`` are listed beside the models."""
    stack.push_async_callback(router.close)
    control = HttpServer()
    stack.push_async_callback(control.close)
    grpc = await beside.behind(router.grpc_control)
    stack.push_async_callback(grpc.close)
    fleet = Fleet(members, router, split)
    stack.push_async_callback(fleet.close)
    stack.callback(router.stop_listening)
    await control.start(router.control)
    await router.start()  # from here on clients get a 503
    await all_or_none(member.start(steps) for member in members)
    fleet.list_models()
    with steps.step("http", url):
        for member in members:
            fleet.set_up(member.engine, True)
        await fleet.placed()
        splits = Splits(split, fleet.up, router.weigh)
        around = surroundings(fleet) if surroundings is not None else None
        cluster = around.rows if around is not None else None
        told = Control(topology, [fleet], facts, live=live, splits=splits, cluster=cluster, adapters=adapters)
        await told.as_before()
        control.serve(fleet, told)
        grpc.serve(fleet, told, urlsplit(url).port or 0)
    if around is not None:
        await stack.enter_async_context(around.watching())
    of_fleet = Membership(fleet, router)
    for member in members:
        of_fleet.watch(member)
    broken = around.lost_all if around is not None else None
    return RoutedEngines(router, of_fleet, stack.pop_all(), broken)


async def all_or_none(starts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs coroutines side by side; when one fails the others are cancelled before its error is raised."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
