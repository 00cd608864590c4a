"""The web view's process: the page, the websocket of each browser, and a viewer for each."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from string import Template

import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.download_manager import DownloadManager

from rvtop.web.gate import Gate
from rvtop.web.viewer import Viewer, size_of

VIEWERS = 8
_LONGEST = 64 << 10  # bytes of a browser's message
_HEARTBEAT_S = 15.0
_PATIENCE_S, _LOOK_S = 30.0, 0.1  # for the session to listen
_STATIC = Path(textual_serve.__file__).parent / "static"
_HERE = Path(__file__).parent
_PAGE = Template((_HERE / "page.html").read_text("utf-8"))
#: A page of the same site, so that the browser sends the cookie that came with it; the address with the token
#: is replaced in its history.
_WELCOME = '<!DOCTYPE html><meta http-equiv="refresh" content="0;url=/"><title>rvtop</title>'
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "rvtop",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebView:
    """Serves viewers of the session at ``socket`` to whom ``gate`` lets in; with ``control`` they may steer
    it. There are ``most`` of them at a time."""

    def __init__(self, gate: Gate, socket: Path, *, control: bool = False, most: int = VIEWERS) -> None:
        self._gate = gate
        self._session = socket
        self._arguments = ["attach", os.fspath(socket), *([] if control else ["--readonly"])]
        self._most = most
        self._downloads = DownloadManager()
        self._viewers: set[Viewer] = set()
        self._port = 0
        self._runner: web.AppRunner | None = None

    async def open(self, host: str, port: int) -> int:
        """Begins to listen; returns the port. Raises OSError."""
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/", self._page)
        app.router.add_get("/page.css", self._asset)
        app.router.add_get("/page.js", self._asset)
        app.router.add_get("/ws", self._websocket)
        app.router.add_get("/download/{key}", self._download)
        app.router.add_static("/static", _STATIC)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, host, port)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._port = int(self._runner.addresses[0][1])
        return self._port

    async def close(self) -> None:
        """Ends all viewers, and listens no more."""
        await asyncio.gather(*(viewer.stop() for viewer in set(self._viewers)), return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def _cookie(self) -> str:
        return f"rvtop-{self._port}"  # cookies know no ports

    # -- who gets in -------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._gate.is_host(request.headers.get("Host")):
            return _told(403, "this is not the name of a web view of rvtop")
        if request.path == "/" and self._gate.is_token(request.query.get("token", "")):
            return self._welcome()
        if not self._gate.is_cookie(request.cookies.get(self._cookie, "")):
            return _told(403, "open the whole address that rvtop printed, with its token")
        return await handler(request)

    def _welcome(self) -> web.Response:
        answer = web.Response(text=_WELCOME, content_type="text/html")
        answer.set_cookie(self._cookie, self._gate.cookie, path="/", httponly=True, samesite="Strict")
        return answer

    # -- what is there -----------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.Response:
        if self._is_full:
            return _told(503, self._full)
        tls = request.secure or request.headers.get("X-Forwarded-Proto") == "https"  # a proxy in front of us
        websocket = f"{'wss' if tls else 'ws'}://{request.host}/ws"
        return web.Response(text=_PAGE.substitute(websocket=escape(websocket)), content_type="text/html")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_HERE / request.path.removeprefix("/"))

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if not self._gate.is_origin(request.headers):
            return _told(403, "a websocket of another page")
        if self._is_full:
            return _told(503, self._full)
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_LONGEST)
        viewer = Viewer(
            self._arguments,
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=socket.close,
            downloads=self._downloads,
        )
        self._viewers.add(viewer)
        try:
            await socket.prepare(request)
            await self._session_listens()
            await viewer.start(*size_of(request.query.get("width"), request.query.get("height")))
            await _pass_on(socket, viewer)
        finally:
            await asyncio.shield(viewer.stop())
            self._viewers.discard(viewer)
        return socket

    async def _download(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        try:
            about = await self._downloads.get_download_metadata(key)
        except KeyError:
            return _told(404, "no such file")
        answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        answer.headers["Content-Disposition"] = f'attachment; filename="{about.file_name}"'
        await answer.prepare(request)
        async for chunk in self._downloads.download(key):
            await answer.write(chunk)
        await answer.write_eof()
        return answer

    async def _session_listens(self) -> None:
        """Waits for the session's socket; a viewer that comes before the session has begun would only end."""
        for _ in range(int(_PATIENCE_S / _LOOK_S)):
            if self._session.is_socket():
                return
            await asyncio.sleep(_LOOK_S)

    @property
    def _is_full(self) -> bool:
        return len(self._viewers) >= self._most

    @property
    def _full(self) -> str:
        return f"{self._most} of {self._most} viewers are here; load this page again when one has left"


async def _pass_on(socket: web.WebSocketResponse, viewer: Viewer) -> None:
    """What a browser sends, until it leaves; what is no message of textual's page is ignored."""
    async for message in socket:
        if message.type != WSMsgType.TEXT:
            continue
        try:
            kind, *rest = json.loads(message.data)
        except (ValueError, TypeError, RecursionError):
            continue
        match kind, rest:
            case "stdin", [str(text)]:
                await viewer.send_bytes(text.encode("utf-8", "replace"))
            case "resize", [{"width": width, "height": height}]:
                await viewer.set_terminal_size(width, height)
            case "ping", [str(text)]:
                await socket.send_json(["pong", text])
            case "focus", []:
                await viewer.focus()
            case "blur", []:
                await viewer.blur()


def _told(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")


async def _add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(_HEADERS)
