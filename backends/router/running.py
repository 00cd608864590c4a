"""A topology whose engines stand behind the router: how it comes up, and how all of it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from backends.api.control import Control
from backends.api.http_aiohttp import HttpServer
from backends.api.splits import Splits
from backends.process.events import Steps
from backends.process.restart import end_restart_loops, restart_loop
from backends.router.fleet import Fleet, Member
from backends.router.router import Router
from backends.settings.split import NO_SPLITS, SplitOptions


class RoutedEngines:
    """A router on the head with engines behind it."""

    def __init__(
        self,
        router: Router,
        fleet: Fleet,
        restart_loops: Sequence[asyncio.Task[None]],
        stack: AsyncExitStack,
    ) -> None:
        self._router = router
        self._fleet = fleet
        self._restart_loops = restart_loops
        self._stack = stack  # all that was started, to be closed backwards

    async def failed(self) -> str:
        """Returns if the restart loop of an engine or of the router broke, which only a bug can do."""
        router = asyncio.create_task(self._router.failed())
        try:
            waits: list[asyncio.Task[Any]] = [router, *self._restart_loops]
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            router.cancel()
        if router in done:
            return router.result()
        return f"an engine's restart loop ended: {next(iter(done)).exception()!r}"

    async def close(self, grace_s: float) -> None:
        """Ends everything. Running requests may go on for ``grace_s`` seconds first."""
        async with self._stack:
            await end_restart_loops(self._restart_loops)
            self._router.stop_listening()
            if grace_s > 0:
                await asyncio.gather(*(member.drain(grace_s) for member in self._fleet.members))


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
) -> RoutedEngines:
    """Starts the router, then its engines. What is started is pushed to ``stack``; the RoutedEngines takes
    that over when all of it runs. ``facts`` and ``live`` are further entries of ``/rvtop/topology``;
    ``split`` is what the router was made with."""
    stack.push_async_callback(router.close)
    control = HttpServer()
    stack.push_async_callback(control.close)
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
        control.serve(fleet, Control(topology, [fleet], facts, live=live, splits=splits))
    loops = [asyncio.create_task(restart_loop(member, fleet)) for member in members]
    return RoutedEngines(router, fleet, loops, stack.pop_all())


async def all_or_none(starts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs coroutines side by side; when one fails the others are cancelled before its error is raised."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
