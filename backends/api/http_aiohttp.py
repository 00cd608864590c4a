"""The HTTP surface on aiohttp: a thin adapter of :class:`Service` and :class:`Control`."""

from __future__ import annotations

import hmac
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

import orjson
from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError

from backends.api import arrival
from backends.api.control import ACTIONS, CONTROL_PATHS, Control
from backends.api.defaults import SET_PATH
from backends.api.request import PATHS
from backends.api.response import CONTENT_TYPE as SSE_TYPE
from backends.api.service import Answers
from backends.api.splits import SPLIT_PATH, Chooser
from backends.errors import ApiError, internal, unauthorized, unavailable

log = logging.getLogger("backends.http")

OPEN_PATHS = ("/health",)
#: Of W3C Trace Context.
TRACE_HEADERS = ("traceparent", "tracestate")
MAX_BODY_BYTES = 8 * 2**20
# After the listener is closed, handlers that are still running get this long before they are cancelled.
LAST_CHANCE_S = 2.0
# How long an idle connection is kept: as aiohttp does.
KEEP_ALIVE_S = 75.0

Post = Callable[[bytes], Awaitable[bytes]]  # a body of JSON to one; raises ApiError
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves one socket. It answers 503 until :meth:`serve` gives it something to serve, so that an
    early client learns that the server is starting. ``posts`` are further paths, answered once it serves.

    ``api_key`` None means open; otherwise all but ``/health`` needs it as a bearer token.
    """

    def __init__(
        self,
        api_key: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        keep_alive_s: float = KEEP_ALIVE_S,
        posts: Mapping[str, Post] | None = None,
    ) -> None:
        self._posts = dict(posts or {})
        self._api_key = api_key
        self._service: Answers | None = None
        self._control: Control | None = None
        self._chooser: Chooser | None = None
        app = web.Application(client_max_size=max_body_bytes, middlewares=[self._check])
        for path in PATHS:
            app.router.add_post(path, self._answer)
        for path in CONTROL_PATHS:
            app.router.add_get(path, self._answer_control)
        for path in ACTIONS:
            app.router.add_post(path, self._act)
        app.router.add_post(SPLIT_PATH, self._split)
        app.router.add_post(SET_PATH, self._set)
        for path in self._posts:
            app.router.add_post(path, self._post)
        # handler_cancellation: a client that goes away cancels its handler, which frees the engine.
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=LAST_CHANCE_S,
            keepalive_timeout=keep_alive_s,
        )
        self._site: web.SockSite | None = None

    async def start(self, sock: socket.socket) -> None:
        """Begins to listen on a bound socket. (aiohttp sets TCP_NODELAY on every connection.)"""
        await self._runner.setup()
        self._site = web.SockSite(self._runner, sock, backlog=4096)
        await self._site.start()

    def serve(self, service: Answers, control: Control, chooser: Chooser | None = None) -> None:
        """Answers from now on. ``chooser`` chooses models where no router in front of this does."""
        self._service, self._control, self._chooser = service, control, chooser

    async def stop_listening(self) -> None:
        """Takes no new connections; open ones go on."""
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()

    async def close(self) -> None:
        await self.stop_listening()
        await self._runner.cleanup()

    # -- handlers ----------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._service is None:
            raise _starting()
        router_ms = arrival.router_ms(request.headers.get(arrival.HEADER))
        trace = {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}
        body = await request.read()
        arm: dict[str, str] = {}
        if self._chooser is not None:
            body, arm = self._chooser.choose(body, request.headers)
        try:
            reply = await self._service.answer(PATHS[request.path], body, trace or None, router_ms)
        except ApiError as error:
            return _error(error, arm)
        if reply.stream is None:
            return web.Response(body=reply.body, content_type="application/json", headers=arm)
        response = web.StreamResponse(headers={"Content-Type": SSE_TYPE, "Cache-Control": "no-cache", **arm})
        async with aclosing(reply.stream) as chunks:
            try:
                writer = await response.prepare(request)
                assert writer is not None
                async for chunk in chunks:
                    await writer.write(chunk)  # what the response's own would do, without its checks a token
                await response.write_eof()
            except ClientConnectionResetError:
                log.debug("a client went away during its stream")
        return response

    async def _answer_control(self, request: web.Request) -> web.StreamResponse:
        if self._control is None:
            raise _starting()
        answer = await self._control.answer(request.path)
        assert answer is not None
        return web.Response(body=answer[1], headers={"Content-Type": answer[0]})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if self._control is None:
            raise _starting()
        body = await self._posts[request.path](await request.read())
        return web.Response(body=body, content_type="application/json")

    async def _act(self, request: web.Request) -> web.StreamResponse:
        if self._control is None:
            raise _starting()
        content_type, body = await self._control.act(request.path)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _split(self, request: web.Request) -> web.StreamResponse:
        if self._control is None:
            raise _starting()
        content_type, body = await self._control.split(await request.read())
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _set(self, request: web.Request) -> web.StreamResponse:
        if self._control is None:
            raise _starting()
        content_type, body = await self._control.set(await request.read())
        return web.Response(body=body, headers={"Content-Type": content_type})

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks the key, and turns every failure into OpenAI's error shape."""
        try:
            self._check_key(request)
            return await handler(request)
        except ApiError as error:
            return _error(error)
        except web.HTTPRequestEntityTooLarge as error:
            return _error(
                ApiError(413, f"The request body is too large: {error.text}", type="BadRequestError")
            )
        except web.HTTPException as error:  # unknown path, wrong method
            return _error(
                ApiError(error.status, f"{error.reason}: {request.method} {request.path}", type=error.reason)
            )
        except Exception:  # the client gets an answer, the log the reason
            log.exception("%s %s failed", request.method, request.path)
            return _error(internal("Internal server error; the server's log has the reason."))

    def _check_key(self, request: web.Request) -> None:
        if self._api_key is None or request.path in OPEN_PATHS:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._api_key.encode()):
            raise unauthorized()


def _error(error: ApiError, more: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(error.body()),
        status=error.status,
        headers={**error.headers(), **(more or {})},
        content_type="application/json",
    )


def _starting() -> ApiError:
    return unavailable("The server is starting.")
