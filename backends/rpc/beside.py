"""gRPC beside HTTP, where it is asked for: nothing of gRPC is imported where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.api.control import Control
from backends.api.service import Answers
from backends.settings.rpc import GrpcPlace

if TYPE_CHECKING:
    from backends.rpc.server import GrpcServer

#: Behind the name of an engine's slot in the router: the slot of its gRPC port.
SUFFIX = ".grpc"


class GrpcBeside:
    """The gRPC server of a topology, or none: then all of this does nothing."""

    def __init__(self, server: GrpcServer | None = None) -> None:
        self._server = server

    def serve(self, service: Answers, control: Control, http_port: int = 0) -> None:
        """See :class:`backends.rpc.server.GrpcServer`."""
        if self._server is not None:
            self._server.serve(service, control, http_port)

    async def close(self) -> None:
        """Takes no new calls, and ends those that run."""
        if self._server is not None:
            await self._server.close()


async def here(place: GrpcPlace | None, api_key: str | None) -> GrpcBeside:
    """Answers at ``place`` in this process. Raises StartFailure."""
    if place is None:
        return GrpcBeside()
    from backends.rpc.server import GrpcServer  # first: it may not be installed

    place.listener.close()  # gRPC binds by itself only
    return await _started(GrpcServer(place.address, api_key))


async def behind(path: str | None) -> GrpcBeside:
    """Answers on a Unix socket, to which a router forwards. Raises StartFailure."""
    if path is None:
        return GrpcBeside()
    from backends.rpc.server import GrpcServer

    return await _started(GrpcServer(f"unix:{path}"))


async def _started(server: GrpcServer) -> GrpcBeside:
    await server.start()
    return GrpcBeside(server)
