"""An engine behind the router that is a mock server in a process of its own: it can be killed, and is started
again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from backends.cli import bind
from backends.engines.protocol import EngineInfo
from backends.process.events import Steps
from backends.router.fleet import Member, Served
from backends.router.router import Router
from backends.router.running import route
from backends.settings.split import NO_SPLITS, SplitOptions
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess


class MockMember(Member):
    """``options`` are the mock's. ``aliases`` are further names that it answers to. ``pid`` is of its
    process."""

    def __init__(self, engine: str, model: str, aliases: Sequence[str], options: dict[str, Any]) -> None:
        super().__init__(engine, model, asyncio.Semaphore(8))
        self._names = (model, *aliases)
        self._options = options
        self.may_start = asyncio.Event()  # cleared: one that was killed stays down
        self.may_start.set()
        self._mock: MockProcess | None = None

    @property
    def pid(self) -> int:
        assert self._mock is not None
        return self._mock.pid

    async def start(self, steps: Steps | None = None) -> None:
        await self.may_start.wait()
        self._mock = await asyncio.to_thread(any_mock(**self._options, models=self._names).start)
        info = EngineInfo(self.engine, "mock", self.model, "here", self.pid, ("cpu",), "none", 1, 4096)
        self.came_up(Served(("127.0.0.1", self._mock.port), info, self.model))

    async def died(self) -> str:
        pidfd = os.pidfd_open(self.pid)
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        assert self._mock is not None
        self._mock._end()
        self._mock = None
        self.status = "restarting"
        return "killed"

    async def drain(self, grace_s: float) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.status = "stopped"
        if self._mock is not None:
            await asyncio.to_thread(self._mock._end)

    async def page(self) -> str | None:
        return None

    async def told(self) -> dict[str, Any] | None:
        return None


@asynccontextmanager
async def routed(
    models: Sequence[str], splits: SplitOptions = NO_SPLITS, **options: Any
) -> AsyncIterator[tuple[str, dict[str, MockMember]]]:
    """The URL of a router with one mock engine for each model, and the engines; ended at the end."""
    listener = bind("127.0.0.1", 0)
    members = {
        name: MockMember(f"mock-{number}", name, splits.aliases_of(name), options)
        for number, name in enumerate(models)
    }
    slots = [(name, [member.engine]) for name, member in members.items()]
    router = Router(listener, slots, token="t", splits=splits)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        steps = Steps(lambda event, **fields: None)
        served = await route(
            "rvc", router, list(members.values()), {}, url=url, steps=steps, stack=stack, split=splits
        )
        try:
            yield url, members
        finally:
            await served.close(0)
