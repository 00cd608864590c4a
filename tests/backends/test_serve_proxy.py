"""Ray's own gRPC proxy with our calls registered at it: its handlers on a real server, in front of a
replica's stream that says whether it was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from backends.rpc.serve_proxy import add_to_proxy
from tests.backends.grpc_client import GrpcClient, connected, pb
from tests.deferred import Deferred

proxy = Deferred("ray.serve._private.proxy")
grpc_util = Deferred("ray.serve._private.grpc_util")
handles = Deferred("ray.serve.handle")
# Messages of which a connection takes a few before its client reads them.
_BIG = "x" * 2**20


class Replica:
    """Stands for a replica and for Serve's handle to it: messages ``texts``, then ``end``, where given."""

    def __init__(self, texts: list[str], end: Any = None) -> None:
        self.texts, self.end = list(texts), end
        self.given = 0
        self.cancelled = asyncio.Event()
        self.deployment_id = SimpleNamespace(app_name="app", name="hf")
        self.deployment_name, self.app_name = "hf", "app"

    def options(self, **_: Any) -> Replica:
        return self

    def remote(self, request: bytes) -> Any:
        replica = self

        class Stream(handles.DeploymentResponseGenerator):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                self._cancelled = False

            def cancel(self) -> None:
                self._cancelled = True
                replica.cancelled.set()

            async def __anext__(self) -> Any:
                await asyncio.sleep(0)
                if replica.given == len(replica.texts):
                    if replica.end is None:
                        raise StopAsyncIteration
                    await replica.end()
                replica.given += 1
                text = replica.texts[replica.given - 1]
                return Mock(), pb.GenerateResponse(text=text).SerializeToString()

        return Stream()


@asynccontextmanager
async def proxied(replica: Replica) -> AsyncIterator[GrpcClient]:
    """A client of Ray's proxy in front of ``replica``."""
    router = SimpleNamespace(get_handle_for_endpoint=lambda route: ("/", replica, False))
    made = proxy.gRPCProxy("node", "127.0.0.1", True, router)
    server = grpc_util.gRPCGenericServer(made.service_handler_factory)
    add_to_proxy(Mock(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(f"127.0.0.1:{port}") as client:
            yield client
    finally:
        await server.stop(None)


async def forever() -> None:
    await asyncio.Event().wait()


async def settled(replica: Replica) -> None:
    """Returns when the proxy takes no further message of the replica's."""
    given = -1
    while replica.given != given:
        given = replica.given
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["cancelled", "deadline", "gone"])
@pytest.mark.parametrize("stands", ["at a message", "in the client's way"])
async def test_a_call_that_is_given_up_is_cancelled_wherever_it_stands(how: str, stands: str) -> None:
    # In the client's way: it reads nothing more, so the proxy can't hand on what it has.
    replica = Replica(["one"] if stands == "at a message" else ["one", *[_BIG] * 40], forever)
    async with proxied(replica) as client:
        call = client.start(pb.GenerateRequest(), timeout=5.0 if how == "deadline" else None)
        assert (await call.read()).text == "one"
        await settled(replica)
        assert how == "deadline" or not replica.cancelled.is_set()  # a slow machine may be past that
        if how == "cancelled":
            call.cancel()
        elif how == "gone":
            await client.close()
        async with asyncio.timeout(60):
            await replica.cancelled.wait()
        if how == "deadline":
            assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_answer_is_handed_on_whole_and_a_failure_is_the_call_s() -> None:
    replica = Replica(["a", "b", "c"])
    async with proxied(replica) as client:
        assert [one.text for one in await client.generate(pb.GenerateRequest())] == ["a", "b", "c"]
    assert not replica.cancelled.is_set()

    async def fail() -> None:
        raise grpc_util.gRPCStatusError(ValueError("x"), grpc.StatusCode.NOT_FOUND, "no such model")

    async with proxied(Replica(["a"], fail)) as client:
        assert await client.failure(pb.GenerateRequest()) == ("NOT_FOUND", "no such model")
