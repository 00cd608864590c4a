"""The API as an ASGI application: the thin adapter of the pure api for foreign servers (Ray
Serve's proxy). Where there is a head, the control paths belong to it; an application without one answers two
of them here."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

import orjson

from backends.api import arrival
from backends.api.control import Control
from backends.api.request import PATHS
from backends.api.response import CONTENT_TYPE as SSE_TYPE
from backends.api.service import Answers, Reply
from backends.errors import ApiError, internal, unauthorized

log = logging.getLogger("backends.http")

MAX_BODY_BYTES = 8 * 2**20
OPEN_PATH, MODELS_PATH = "/health", "/v1/models"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """``POST`` to the paths of the API, answered by ``answers``, below any ``root_path``.

    ``token`` None means open; otherwise every request needs it as a bearer token. With a ``control`` also
    ``GET`` of ``/v1/models`` and, without a token, ``/health``: what else it knows is of this replica alone.
    """

    def __init__(self, answers: Answers, token: str | None = None, control: Control | None = None) -> None:
        self._answers = answers
        self._token = token
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        try:
            reply = await self._answer(scope, receive)
        except Gone:
            return
        except ApiError as error:
            headers = [(name.lower().encode(), text.encode()) for name, text in error.headers().items()]
            return await _whole(send, error.status, orjson.dumps(error.body()), headers)
        except Exception:  # the client gets an answer, the log the reason
            log.exception("%s %s failed", scope["method"], scope["path"])
            hidden = internal("Internal server error; the server's log has the reason.")
            return await _whole(send, hidden.status, orjson.dumps(hidden.body()))
        if reply.stream is None:
            return await _whole(send, 200, reply.body)
        with contextlib.suppress(Gone):
            await _unless_gone(_stream(send, reply.stream), receive)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._control is not None and path in (OPEN_PATH, MODELS_PATH) and scope["method"] == "GET":
            if path != OPEN_PATH:
                self._check_token(scope)
            answer = await self._control.answer(path)
            return Reply(body=answer[1] if answer else b"")
        if path not in PATHS:
            raise ApiError(404, f"Not Found: {scope['method']} {path}", type="Not Found")
        if scope["method"] != "POST":
            raise ApiError(405, f"Method Not Allowed: {scope['method']} {path}", type="Method Not Allowed")
        self._check_token(scope)
        stamp = _header(scope, arrival.HEADER.encode())
        router_ms = None if stamp is None else arrival.router_ms(stamp.decode("latin-1"))
        body = await _body(receive)
        answering = self._answers.answer(PATHS[path], body, router_ms=router_ms)
        reply: Reply = await _unless_gone(answering, receive)
        return reply

    def _check_token(self, scope: Scope) -> None:
        if self._token is None:
            return
        given = _header(scope, b"authorization") or b""
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token, self._token.encode()):
            raise unauthorized()


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


class Gone(Exception):
    """The client went away."""


async def _unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """The result of ``work``. When the client goes away it is cancelled, which frees the engine, and Gone is
    raised."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone
    finally:
        for running in (task, leaving):
            running.cancel()
        await asyncio.wait({task, leaving})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            text = f"The request body is too large: more than {MAX_BODY_BYTES} bytes."
            raise ApiError(413, text, type="BadRequestError")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _stream(send: Send, chunks: AsyncGenerator[bytes, None]) -> None:
    headers = [(b"content-type", SSE_TYPE.encode()), (b"cache-control", b"no-cache")]
    async with aclosing(chunks):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _whole(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    known = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": known + (headers or [])})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to begin or end with the server: the maker of the completer does that."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
