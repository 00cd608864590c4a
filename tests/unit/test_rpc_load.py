"""The load engine's calls of gRPC against a server that the test scripts."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import Any

import grpc
import pytest
import uvloop
from grpc import aio

from rvtop.errors import UserError
from rvtop.load.rpc import calls as rpc_calls
from rvtop.load.rpc import rvtop_v1_pb2 as pb
from rvtop.load.rpc.at import endpoint_at
from rvtop.load.rpc.codes import kind_of
from rvtop.load.rpc.dialects import OurDialect, dialect_of
from rvtop.load.rpc.reader import CallReader
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.endpoint import Address
from rvtop.load.wire.pool import ConnectionPool
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import answer_text
from tests.unit.test_load_client import CHUNKED, STREAM, chunk

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    "max_tokens": 5,
    "temperature": 0.0,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "rvtop": {"timings": True},
}
Context = aio.ServicerContext[Any, Any]
Script = Callable[[pb.GenerateRequest, Context], AsyncIterator[pb.GenerateResponse]]


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy()  # as a load worker's


class Caller:
    """A pool at a scripted server."""

    def __init__(self, port: int) -> None:
        self.target = endpoint_at(Address(f"grpc://127.0.0.1:{port}", headers={"X-Mine": "yes"}))
        self.ended: list[Record] = []
        self.pool: ConnectionPool

    async def start(self) -> Caller:
        await self.target.resolve()
        self.pool = ConnectionPool(self.target, self.ended.append)
        return self

    def send(self, **fields: Any) -> Record:
        record = Record(len(self.ended), 0, 0, 0, perf_counter_ns())
        body = json.dumps(BODY | fields).encode()
        self.pool.submit(record, self.target.request(body, "r-1", b"\r\nTraceparent: 00-1-2-01"))
        return record

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(240):
            while not true():
                await asyncio.sleep(0.002)

    async def ask(self, **fields: Any) -> Record:
        record = self.send(**fields)
        await self.until(lambda: record in self.ended)
        return record


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Caller]:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_stream_rpc_method_handler(
        script,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    methods = {"Generate": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rvtop.v1.Generation", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    caller = await Caller(port).start()
    try:
        yield caller
    finally:
        caller.pool.close()
        await asyncio.sleep(0)
        await server.stop(None)


def token(text: str, **more: Any) -> pb.GenerateResponse:
    return pb.GenerateResponse(text=text, tokens=1, **more)


def last(text: str = "c", tokens: int = 1) -> pb.GenerateResponse:
    usage = pb.Usage(
        prompt_tokens=7, completion_tokens=3, cached_tokens=2, rvtop_json='{"engine": "e0", "queue_ms": 1.5}'
    )
    return pb.GenerateResponse(text=text, tokens=tokens, finish_reason="length", usage=usage)


async def test_an_answer_is_read_as_over_http() -> None:
    asked: list[tuple[pb.GenerateRequest, dict[str, Any]]] = []

    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        asked.append((request, dict(context.invocation_metadata())))
        yield token("a")
        yield token("")  # half a character is a token
        yield last()

    async with scripted(script) as caller:
        began = perf_counter_ns()
        record = await caller.ask()
        assert record.error is None
        assert began < record.sent_ns <= record.first_ns <= record.last_ns <= perf_counter_ns()
        assert record.headers_ns == record.first_ns
        assert (record.chunks, len(record.gaps), sum(record.gaps)) == (
            3,
            2,
            record.last_ns - record.first_ns,
        )
        assert (record.finish, record.output_tokens, record.prompt_tokens) == ("length", 3, 7)
        assert (record.cached_tokens, record.engine) == (2, "e0")
        assert record.server == {"engine": "e0", "queue_ms": 1.5}
        fresh = caller.pool.take()
        assert (list(fresh.ttft_ns), list(fresh.gaps_ns)) == (
            [record.first_ns - record.intended_ns],
            list(record.gaps),
        )
        ((request, metadata),) = asked
        assert request == pb.GenerateRequest(
            model="m",
            chat=pb.Chat(messages=[pb.Message(role="user", content="a\nb")]),
            max_tokens=5,
            temperature=0.0,
            ignore_eos=True,
            more_json='{"rvtop": {"timings": true}}',
        )
        told = {name: metadata[name] for name in ("x-request-id", "traceparent", "x-mine")}
        assert told == {"x-request-id": "r-1", "traceparent": "00-1-2-01", "x-mine": "yes"}


async def test_the_text_is_kept_for_a_next_turn() -> None:
    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        yield token('휴가 "\n')
        yield last("c")

    async with scripted(script) as caller:
        record = Record(0, 0, 0, 0, perf_counter_ns())
        record.body = []
        caller.pool.submit(record, caller.target.request(json.dumps(BODY).encode(), "r"))
        await caller.until(lambda: caller.ended)
        assert answer_text(record.body) == '휴가 "\nc'


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", "http_400"),
        ("UNAUTHENTICATED", "http_401"),
        ("NOT_FOUND", "http_404"),
        ("OUT_OF_RANGE", "http_413"),
        ("RESOURCE_EXHAUSTED", "http_429"),
        ("INTERNAL", "http_500"),
        ("UNAVAILABLE", "http_503"),
        ("DEADLINE_EXCEEDED", "http_504"),
    ],
)
async def test_a_code_is_the_status_that_it_stands_for(code: str, kind: str) -> None:
    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        if request.model == "late":
            yield token("a")
        await context.abort(grpc.StatusCode[code], "said why")

    async with scripted(script) as caller:
        record = await caller.ask()
        assert (record.error, record.error_text) == (kind, f"{code}: said why")
        late = await caller.ask(model="late")
        assert (late.error, late.chunks) == ("stream_error", 1)


def test_codes_of_our_backends_come_back_as_their_statuses() -> None:
    from backends.rpc.codes import CODES

    alone = {408: 504, 502: 503}  # gRPC has one code for both
    for status, code in CODES.items():
        assert kind_of(code.name, "", begun=False) == f"http_{alone.get(status, status)}"


async def test_answers_that_are_none() -> None:
    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        if request.model == "cut":
            yield token("a")
        if request.model == "silent":
            yield last("", tokens=0)

    async with scripted(script) as caller:
        kinds = [(await caller.ask(model=model)).error for model in ("nothing", "cut", "silent")]
        assert kinds == ["empty", "truncated", "empty"]


async def test_where_nobody_listens_and_where_a_server_goes() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        caller = await Caller(unused.getsockname()[1]).start()
        record = await caller.ask()
        assert record.error == "refused"
        caller.pool.close()

    going = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        going.set()
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    caller = await Caller(server.sockets[0].getsockname()[1]).start()
    record = await caller.ask()
    assert going.is_set()
    assert record.error in ("reset", "refused")
    caller.pool.close()
    server.close()


async def test_what_is_given_up_is_cancelled_there() -> None:
    gone: list[str] = []

    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        try:
            if request.model != "mute":
                yield token("a")
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            gone.append(request.model)
            raise

    async with scripted(script) as caller:
        mute, cancelled, stalled = (caller.send(model=name) for name in ("mute", "cancel", "stall"))
        await caller.until(lambda: cancelled.chunks and stalled.chunks)
        caller.pool.cancel(cancelled, "cancelled", "as asked")
        assert caller.ended == [cancelled]
        caller.pool.sweep(perf_counter_ns(), 10**12, 1, 1)
        assert [record.error for record in (mute, cancelled, stalled)] == [
            "timeout_ttft",
            "cancelled",
            "stalled",
        ]
        assert caller.ended == [cancelled, mute, stalled]
        assert not caller.pool.busy
        await caller.until(lambda: len(gone) == 3)


async def test_calls_share_connections_and_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_calls, "MOST_STREAMS", 2)
    go, peers = asyncio.Event(), []

    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        peers.append(context.peer())
        await go.wait()
        yield last()

    async with scripted(script) as caller:
        caller.pool.most = 5
        records = [caller.send() for _ in range(6)]
        await caller.until(lambda: len(peers) == 5)
        assert len(set(peers)) == 3
        await caller.until(lambda: caller.ended)
        assert [record.error for record in caller.ended] == ["client_limit"]
        go.set()
        await caller.until(lambda: len(caller.ended) == 6)
        assert [record.error for record in records] == [*[None] * 5, "client_limit"]


async def test_a_pool_goes_over_from_grpc_to_http_and_back() -> None:
    go = asyncio.Event()

    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        await go.wait()
        yield last()

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(STREAM) + chunk(b""))

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    other = endpoint_at(Address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    async with scripted(script) as caller:
        first = caller.send()
        caller.pool.retarget(other)
        second = Record(1, 0, 0, 0, perf_counter_ns())
        caller.pool.submit(second, other.request(b"{}", "r"))
        await caller.until(lambda: second in caller.ended)
        assert (second.error, second.chunks) == (None, 3)
        assert first not in caller.ended  # ends where it is
        caller.pool.retarget(caller.target)
        third = caller.send()
        go.set()
        await caller.until(lambda: len(caller.ended) == 3)
        assert [first.error, third.error, third.output_tokens] == [None, None, 3]
    server.close()


def test_an_address_that_can_not_be_called() -> None:
    with pytest.raises(ValueError, match="grpc://host:50051"):
        endpoint_at(Address("grpc://host"))
    with pytest.raises(ValueError, match="x-a: gRPC carries ASCII only"):
        endpoint_at(Address("grpc://host:1", headers={"X-A": "ü"}))


def test_vllm_s_own_service_is_read() -> None:
    vllm = pytest.importorskip("smg_grpc_proto").vllm_engine_pb2
    dialect = dialect_of("vllm.grpc.engine.VllmEngine")
    asked = vllm.GenerateRequest.FromString(dialect.request(json.dumps(BODY | {"stop": "x"}).encode(), "r-1"))
    assert (asked.request_id, asked.text, asked.stream) == ("r-1", "a\nb", True)
    sampling = asked.sampling_params
    assert (sampling.max_tokens, sampling.temperature, list(sampling.stop), sampling.n) == (5, 0.0, ["x"], 1)

    record = Record(0, 0, 0, 0, 1)
    reader = CallReader(record, Fresh())

    def say(now_ns: int, **said: Any) -> None:
        dialect.read(vllm.GenerateResponse(**said).SerializeToString(), reader, now_ns)

    say(10, chunk=vllm.GenerateStreamChunk(token_ids=[1, 2], completion_tokens=2))
    say(30, chunk=vllm.GenerateStreamChunk(token_ids=[3], completion_tokens=1))
    say(31, complete=vllm.GenerateComplete(output_ids=[3], finish_reason="length", prompt_tokens=9))
    reader.end()
    assert (record.error, record.first_ns, list(record.gaps), record.chunks) == (None, 10, [20], 2)
    assert (record.output_tokens, record.prompt_tokens, record.finish) == (3, 9, "length")

    alone = Record(1, 0, 0, 0, 1)
    reader = CallReader(alone, Fresh())
    say(5, complete=vllm.GenerateComplete(output_ids=[1], finish_reason="stop", prompt_tokens=9))
    assert (alone.first_ns, alone.output_tokens) == (5, 1)


def test_a_service_that_nobody_knows() -> None:
    with pytest.raises(UserError, match=r"no service 'a\.B' is known"):
        dialect_of("a.B")
    with pytest.raises(ValueError, match=r"."):
        OurDialect().read(b"\xff\xff", CallReader(Record(0, 0, 0, 0, 1), Fresh()), 1)


async def test_what_does_not_fit_goes_to_the_server_or_ends_the_request() -> None:
    odd = json.dumps(BODY | {"temperature": "hot", "max_tokens": -1, "min_p": 0.5}).encode()
    asked = pb.GenerateRequest.FromString(OurDialect().request(odd, "r"))
    assert not asked.HasField("temperature")
    assert json.loads(asked.more_json) == {
        "temperature": "hot",
        "max_tokens": -1,
        "min_p": 0.5,
        "rvtop": {"timings": True},
    }

    async def script(request: pb.GenerateRequest, context: Context) -> AsyncIterator[pb.GenerateResponse]:
        yield last()

    async with scripted(script) as caller:
        record = await caller.ask(stop=[5])
        assert record.error == "http_400"
        assert record.error_text.startswith("no message can say this: TypeError")
        for messages in ([{"content": "no role"}], ["no message"]):
            record = await caller.ask(messages=messages)
            assert record.error == "http_400"
        # A content's part that is a text stands for itself, as servers take it.
        assert (await caller.ask(messages=[{"role": "user", "content": ["q"]}])).error is None
