"""A backend whose public HTTP server is in this process: how it ends."""

from __future__ import annotations

import asyncio
from typing import Protocol

from backends.api.http_aiohttp import HttpServer
from backends.api.service import Service


class Closing(Protocol):
    """What answers beside the HTTP server."""

    async def close(self) -> None:
        """Takes no new calls, and ends those that run."""
        ...


class LocalServer:
    """An aiohttp server in front of a service; engines may be anywhere."""

    def __init__(self, server: HttpServer, service: Service, grpc: Closing | None = None) -> None:
        self._server = server
        self._grpc = grpc
        self._service = service

    async def failed(self) -> str:
        """Never returns: a failing engine is the service's to report (503), not a reason to end."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self, grace_s: float) -> None:
        """Takes nothing new, lets what runs go on for ``grace_s`` seconds, then ends it."""
        await self._server.stop_listening()
        self._service.stop_admitting()
        await self._service.drain(grace_s)
        await self._service.close()
        if self._grpc is not None:
            await self._grpc.close()
        await self._server.close()
