"""The ASGI adapter, spoken to as a server speaks to it, with a completer whose steps the test decides."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from backends.api import arrival
from backends.api.control import Control
from backends.api.http_asgi import MAX_BODY_BYTES, AsgiApp
from backends.api.request import Endpoint
from backends.api.service import Reply, ServedModel, Trace
from backends.errors import bad_request, queue_full

CHAT = "/v1/chat/completions"


class Completer:
    """Gives what the body asks for: a JSON answer, a stream that goes on for ever, or a failure."""

    def __init__(self) -> None:
        self.asked: list[tuple[Endpoint, bytes]] = []
        self.router_ms: list[float | None] = []
        self.freed = asyncio.Event()

    async def answer(
        self,
        endpoint: Endpoint,
        body: bytes,
        trace: Trace | None = None,
        router_ms: float | None = None,
    ) -> Reply:
        self.asked.append((endpoint, body))
        self.router_ms.append(router_ms)
        match body:
            case b"whole":
                return Reply(body=b'{"ok":true}')
            case b"bad":
                raise bad_request("no", "messages")
            case b"full":
                raise queue_full(4)
            case b"bug":
                raise RuntimeError("a secret")
            case b"slow":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.freed.set()
        return Reply(stream=self._stream(endless=body == b"endless"))

    async def _stream(self, endless: bool) -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            if endless:
                await asyncio.Event().wait()
            yield b"data: [DONE]\n\n"
        finally:
            self.freed.set()


class Connection:
    """A request, and what came back."""

    def __init__(
        self, *body: bytes, path: str = CHAT, method: str = "POST", token: str = "t", root: str = ""
    ):
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": root + path,
            "root_path": root,
            "headers": [(b"host", b"x"), (b"authorization", f"Bearer {token}".encode())],
        }
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for number, part in enumerate(body):
            more = number + 1 < len(body)
            self._in.put_nowait({"type": "http.request", "body": part, "more_body": more})
        self.sent: list[dict[str, Any]] = []
        self.news = asyncio.Event()

    def leave(self) -> None:
        self._in.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> dict[str, Any]:
        return await self._in.get()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.news.set()

    async def run(self, completer: Completer, token: str | None = "t") -> Connection:
        async with asyncio.timeout(120):
            await AsgiApp(completer, token)(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        assert not self.sent[-1]["more_body"]
        return b"".join(message["body"] for message in self.sent[1:])


@pytest.mark.parametrize("root", ["", "/rvtop-1/0"])
async def test_answers_whole_and_streamed(root: str) -> None:
    completer = Completer()
    whole = await Connection(b"wh", b"ole", root=root).run(completer)
    assert (whole.status, whole.body) == (200, b'{"ok":true}')
    assert whole.headers == {"content-type": "application/json", "content-length": "11"}
    streamed = await Connection(b"stream", path="/v1/completions", root=root).run(completer)
    assert (streamed.status, streamed.body) == (200, b"data: 1\n\ndata: [DONE]\n\n")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert len(streamed.sent) == 4  # each part is sent when it is there
    assert completer.asked == [("chat", b"whole"), ("completions", b"stream")]


async def test_what_a_request_took_from_the_router_is_handed_on() -> None:
    completer, connection = Completer(), Connection(b"whole")
    await Connection(b"whole").run(completer)
    stamp = f"{time.time_ns() // 1000 - 250_000} {arrival.machine()}"
    connection.scope["headers"].append((arrival.HEADER.encode(), stamp.encode()))
    await connection.run(completer)
    none, some = completer.router_ms
    assert none is None
    assert some is not None
    assert some >= 250.0


@pytest.mark.parametrize(
    ("connection", "status", "words"),
    [
        ({"body": b"bad"}, 400, "no"),
        ({"body": b"full"}, 429, "queue is full"),
        ({"body": b"bug"}, 500, "Internal server error"),
        ({"path": "/v1/nothing"}, 404, "/v1/nothing"),
        ({"method": "GET"}, 405, "GET"),
        ({"token": "other"}, 401, "API key"),
        ({"body": b"x" * (MAX_BODY_BYTES + 1)}, 413, "too large"),
    ],
)
async def test_refusals_have_openais_shape(connection: dict[str, Any], status: int, words: str) -> None:
    fields = dict(connection)
    refused = await Connection(fields.pop("body", b"whole"), **fields).run(Completer())
    error = json.loads(refused.body)["error"]
    assert (refused.status, error["code"]) == (status, status)
    assert words in error["message"]
    assert "secret" not in error["message"]
    assert refused.headers.get("retry-after") == ("1" if status == 429 else None)


@pytest.mark.parametrize("body", [b"endless", b"slow"])
async def test_a_client_that_leaves_frees_the_engine(body: bytes) -> None:
    completer, connection = Completer(), Connection(body)
    running = asyncio.create_task(connection.run(completer))
    if body == b"endless":
        await connection.news.wait()
    else:
        while not completer.asked:
            await asyncio.sleep(0)
    assert not completer.freed.is_set()
    connection.leave()
    await running
    assert completer.freed.is_set()
    assert all(
        message.get("more_body", True) for message in connection.sent
    )  # nothing pretends to be the end


async def test_a_client_that_leaves_before_it_has_asked_costs_nothing() -> None:
    completer, connection = Completer(), Connection()
    connection.leave()
    await connection.run(completer)
    assert completer.asked == []
    assert connection.sent == []


async def test_a_cancelled_handler_frees_the_engine() -> None:
    """Serve cancels the handler when its proxy lost the client."""
    completer, connection = Completer(), Connection(b"endless")
    running = asyncio.create_task(connection.run(completer))
    await connection.news.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert completer.freed.is_set()


async def test_lifespan() -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await AsgiApp(Completer())({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class OneModel:
    """What a control endpoint asks of a replica."""

    models: dict[str, Any] = {"m": ServedModel("m", "/m", None, None, 64, created=7)}  # type: ignore[arg-type] # noqa: RUF012

    def ready(self) -> bool:
        return True

    def restarts(self) -> int:
        return 0

    async def engine_rows(self) -> list[dict[str, Any]]:
        return []

    async def metrics_page(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("path", "method", "token", "status"),
    [
        ("/v1/models", "GET", "t", 200),
        ("/v1/models", "GET", "wrong", 401),
        ("/v1/models", "POST", "t", 404),
        ("/health", "GET", "wrong", 200),
        ("/metrics", "GET", "t", 404),
    ],
)
async def test_without_a_head_a_replica_says_what_it_serves(
    path: str, method: str, token: str, status: int
) -> None:
    connection = Connection(path=path, method=method, token=token)
    app = AsgiApp(Completer(), "t", Control("rsc", [OneModel()]))
    async with asyncio.timeout(120):
        await app(connection.scope, connection.receive, connection.send)
    assert connection.status == status
    if path == "/v1/models" and status == 200:
        (card,) = json.loads(connection.body)["data"]
        assert (card["id"], card["max_model_len"], card["created"]) == ("m", 64, 7)
