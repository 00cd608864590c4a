"""What Serve's gRPC proxies register for our calls: one that is given up is cancelled in its replica wherever
it stands.

Ray's proxy (2.60, `gRPCProxy.send_request_to_replica`) cancels a replica's call only while it waits for the
next message. gRPC cancels the handler of a call while that hands on a message too, and then the replica would
go on to its last token.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from backends.rpc.rvtop_v1_pb2_grpc import add_GenerationServicer_to_server

#: What `grpc_servicer_functions` of Serve's `grpc_options` has to name.
SERVICER = f"{__name__}.add_to_proxy"


def add_to_proxy(servicer: Any, server: Any) -> None:
    """Registers our calls at the ``server`` of one of Serve's proxies, which has each of them answered by
    what its ``service_handler_factory`` makes."""
    factory = server.service_handler_factory

    def ours(service_method: str, streaming_type: Any) -> Any:
        handler = factory(service_method=service_method, streaming_type=streaming_type)
        return freeing(handler) if streaming_type.value == "unary_stream" else handler

    server.service_handler_factory = ours
    try:
        add_GenerationServicer_to_server(servicer, server)
    finally:
        server.service_handler_factory = factory  # other services' calls are answered as Ray does it


def freeing(handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], Awaitable[None]]:
    """A handler of streams by which a call that ends while a message is handed on is cancelled too."""

    # gRPC throws a cancellation into a coroutine. A generator it would only drop, at its `yield`.
    async def answer(request: Any, context: Any) -> None:
        messages = handler(request, context)
        async for message in messages:
            try:
                await context.write(message)
            except BaseException:
                await _to_its_end(asyncio.create_task(_cancel(messages)))
                raise

    return answer


async def _cancel(messages: AsyncIterator[Any]) -> None:
    """Ends Ray's handler by having it wait for the next message, where a cancellation reaches the replica."""

    async def wait() -> bool:
        async for _ in messages:
            return True
        return False

    more = True
    while more:
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)  # it runs until it waits
        waiting.cancel()
        try:
            more = await waiting
        except asyncio.CancelledError:
            return


async def _to_its_end(task: asyncio.Task[None]) -> None:
    """Also when cancelled meanwhile: a write that fails comes before the cancellation of the same call. Ray's
    handler asks the call for its peer at last, which of one that is over ends the process."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
