"""An engine's port without an engine: says who it is, streams when told, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from aiohttp import web

from backends.api.control import ACTIONS
from backends.api.request import PATHS


class FakeEngine:
    """Answers completions with its name. ``hold`` makes it wait for ``go`` before each part of its answer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hold = False
        self.healthy = True
        self.go = asyncio.Event()
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.active = 0
        app = web.Application(client_max_size=2**24)
        for path in PATHS:
            app.router.add_post(path, self._complete)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._other)
        for path in ACTIONS:
            app.router.add_post(path, self._other)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        self._socket = socket.socket()

    async def start(self) -> FakeEngine:
        self._socket.bind(("127.0.0.1", 0))
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        return self

    async def serve(self, sock: socket.socket) -> FakeEngine:
        """On a given socket (the control endpoint's)."""
        self._socket = sock
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()
        return self

    @property
    def address(self) -> tuple[str, int]:
        return self._socket.getsockname()  # type: ignore[no-any-return]

    async def close(self) -> None:
        """As a process that ends: open connections are cut."""
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        self.asked.set()
        self.active += 1
        try:
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "X-Engine": self.name}
            )
            await self._turn()
            await response.prepare(request)
            for part in range(3):
                await response.write(f"data: {self.name} {part}\n\n".encode())
                await self._turn()
            await response.write_eof()
            return response
        except asyncio.CancelledError:
            self.gone.set()
            raise
        finally:
            self.active -= 1

    async def _turn(self) -> None:
        if self.hold:
            await self.go.wait()
            self.go.clear()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _other(self, request: web.Request) -> web.Response:
        return web.json_response({"by": self.name, "path": request.path})


@contextlib.asynccontextmanager
async def engines(*names: str) -> Any:
    made = [await FakeEngine(name).start() for name in names]
    try:
        yield made
    finally:
        for engine in made:
            await engine.close()
