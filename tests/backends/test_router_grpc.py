"""gRPC through the router: real HAProxy, and engines that only say their names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from grpc import aio

from backends.api.control import Control
from backends.api.service import Service
from backends.cli import bind
from backends.errors import bad_request
from backends.router.grpc_config import GrpcFront
from backends.router.router import Router
from backends.rpc import rvtop_v1_pb2_grpc, serve_calls
from backends.rpc.serve_calls import CallFailed
from backends.rpc.server import GrpcServer
from backends.settings.rpc import GrpcPlace
from tests.backends.grpc_client import GrpcClient, connected, pb

TOKEN, ODD = "the run's", 'org/o\'dd "$name" %x'


class Named(rvtop_v1_pb2_grpc.GenerationServicer):
    """Answers with its name and what came along; ``wait`` holds its second message until it is cancelled."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cancelled = asyncio.Event()
        self.server = aio.server()
        rvtop_v1_pb2_grpc.add_GenerationServicer_to_server(self, self.server)

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        told = dict(context.invocation_metadata())
        yield pb.GenerateResponse(text=f"{self.name} {told.get('authorization')} {told.get('application')}")
        if request.text == "wait":
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[pb.Model(id=self.name)])


class Bench:
    """A router with two models of an engine each, and their servers."""

    def __init__(self, router: Router, engines: list[Named], client: GrpcClient, place: str) -> None:
        self.router, self.engines, self.client, self.place = router, engines, client, place

    async def ask(self, **fields: Any) -> str:
        return (await self.client.generate(pb.GenerateRequest(**fields)))[0].text


@asynccontextmanager
async def bench_of(api_key: str | None = None, adapters: str = "") -> AsyncIterator[Bench]:
    http, grpc = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    place = GrpcPlace("127.0.0.1", grpc.getsockname()[1], grpc)
    router = Router(
        http,
        [("a", ["e0"]), (ODD, ["e1"])],
        token=TOKEN,
        api_key=api_key,
        adapters=adapters,
        grpc=GrpcFront(place, {ODD: {"application": "their's"}}),
        grpc_slots=[("a", ["e0.grpc"]), (ODD, ["e1.grpc"])],
    )
    engines = [Named(name) for name in ("e0", "e1", "control")]
    try:
        await router.start()
        engines[2].server.add_insecure_port(f"unix:{router.grpc_control}")
        for number, engine in enumerate(engines):
            port = engine.server.add_insecure_port("127.0.0.1:0")
            await engine.server.start()
            if number < 2:
                await router.place(f"e{number}.grpc", ("127.0.0.1", port))
        async with connected(place.address, api_key or "") as client:
            yield Bench(router, engines, client, place.address)
    finally:
        await router.close()
        for engine in engines:
            await engine.server.stop(None)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with bench_of() as made:
        yield made


async def test_calls_go_by_model_and_the_rest_to_the_head(bench: Bench) -> None:
    of_a, of_odd = f"e0 Bearer {TOKEN} None", f"e1 Bearer {TOKEN} their's"
    assert await bench.ask(model="a") == of_a
    assert await bench.ask(model=ODD, text="x" * 500_000) == of_odd
    assert await bench.ask(text="none is named") == of_a
    assert (await bench.ask(model="nope")).startswith("control ")
    models = await bench.client.stub.ListModels(pb.ListModelsRequest())
    assert [model.id for model in models.models] == ["control"]
    assert await bench.router.arrived() == {"a": 2, ODD: 1}


async def test_names_that_are_no_model_s_go_to_the_model_with_adapters() -> None:
    async with bench_of(adapters=ODD) as bench:
        assert (await bench.ask(model="adapter")).startswith("e1 ")
        assert (await bench.ask(model="a")).startswith("e0 ")


async def test_many_calls_share_one_connection_and_a_cancelled_one_ends_there(bench: Bench) -> None:
    calls = [bench.client.start(pb.GenerateRequest(model=ODD, text="wait")) for _ in range(150)]
    await asyncio.gather(*(call.read() for call in calls))  # beyond HTTP/2's usual 100
    assert await bench.router.in_flight() == {"a": 0, ODD: 150}
    assert await bench.router.held(["e1", "e1.grpc"]) == 150
    for call in calls:
        call.cancel()
    async with asyncio.timeout(240):
        await bench.engines[1].cancelled.wait()
        while (await bench.router.in_flight())[ODD]:
            await asyncio.sleep(0.02)


async def test_an_engine_that_is_not_there_is_unavailable(bench: Bench) -> None:
    await bench.router.place("e1.grpc", None)
    told = await bench.client.failure(pb.GenerateRequest(model=ODD))
    assert told == ("UNAVAILABLE", "No engine of this model is ready.")
    await bench.router.drain("e0.grpc")
    assert (await bench.client.failure(pb.GenerateRequest(model="a")))[0] == "UNAVAILABLE"


async def test_calls_need_the_key(bench: Bench) -> None:
    async with bench_of("secret") as closed:
        assert (await closed.ask(model="a")).startswith("e0 ")
        async with connected(closed.place) as stranger:
            code, text = await stranger.failure(pb.GenerateRequest(model="a"))
            assert (code, "API key" in text) == ("UNAUTHENTICATED", True)
            with pytest.raises(aio.AioRpcError, match="UNIMPLEMENTED"):  # it got through: there is none here
                await stranger.health()


async def test_a_long_reason_stays_that_of_its_code() -> None:
    class Refusing(Service):
        async def begin(self, *_: Any) -> Any:
            raise bad_request("\U0001f600" * 20_000, "more_json")

    server = GrpcServer("127.0.0.1:0")
    port = await server.start()
    server.serve(Refusing([]), Control("baseline", []))
    try:
        async with connected(f"127.0.0.1:{port}") as client:
            code, text = await client.failure(pb.GenerateRequest(text="x"))
    finally:
        await server.close()
    assert (code, len(text), text[-1]) == ("INVALID_ARGUMENT", 500, "…")
    told = Mock(**{"invocation_metadata.return_value": ()})
    with pytest.raises(CallFailed):
        await anext(serve_calls.generate(Refusing([]), pb.GenerateRequest(text="x"), told, None))
    told.set_details.assert_called_once_with(text)


async def test_what_broke_in_a_replica_of_serve_s_is_not_told_to_its_client() -> None:
    class Broken(Service):
        async def begin(self, *_: Any) -> Any:
            raise RuntimeError("/secret/place")

    told = Mock(**{"invocation_metadata.return_value": ()})
    with pytest.raises(CallFailed, match=r"^Internal server error; the server's log has the reason\.$"):
        await anext(serve_calls.generate(Broken([]), pb.GenerateRequest(text="x"), told, None))
    told.set_code.assert_called_once_with(grpc.StatusCode.INTERNAL)


def test_a_port_that_is_taken_is_told_by_its_flag() -> None:
    from backends.cli import parse_options
    from backends.errors import UsageError

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(
            UsageError, match=rf"--grpc: port {port} .* is in use; choose another with --grpc"
        ):
            parse_options(["baseline", "--model", "m=tiny", "--grpc", port])
    for given, words in (
        (["vllm", "--grpc", "0"], "is for baseline"),
        (["rac", "--grpc", "x"], "must be a port"),
    ):
        with pytest.raises(UsageError, match=words):
            parse_options([*given, "--model", "m=tiny"])
    with pytest.raises(UsageError, match="leave one out"):
        parse_options(
            ["rac", "--model", "a=tiny", "--model", "b=tiny", "--split", "c=a:50,b:50", "--grpc", "0"]
        )
