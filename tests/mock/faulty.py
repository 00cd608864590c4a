"""A server that fails on demand: in ``async with FaultyServer() as s``, ``s.url("stall")`` stalls.

It runs on a thread and a loop of its own, so that blocking tests can use it as well (``with``). A fault is
chosen by the URL's first path element, or by a model named ``fault:NAME``. Under every fault ``GET …/health``
and ``GET …/v1/models`` answer well, so that a session can attach before it meets the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import tests.mock.broken
import tests.mock.faults  # noqa: F401 - both register their faults
from tests.mock.talk import FAULTS, OUTCOMES, PLAYS, Talk

__all__ = ["FAULTS", "OUTCOMES", "FaultyServer", "blackhole_port", "refusing_port"]

log = logging.getLogger(__name__)


@contextlib.contextmanager
def refusing_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses: bound, so nobody else takes it, but nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as bound:
        bound.bind((host, 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def blackhole_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port on which connecting never ends: its queue is full, so Linux drops every SYN."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, 0))
        listener.listen(0)
        for _ in range(4):  # the first one or two fill the queue
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class FaultyServer:
    """Serves every fault of ``FAULTS`` at once.

    gap_s: seconds between the events of a stream. tls: a server's context, for https. unix: the path of a
    socket to listen on instead of a port (``blackhole`` and the like are on ports still).
    ``heard`` holds every request: method, target, fields by their lower-case names, body.
    ``requests`` counts POSTs per fault (nothing may be retried), ``hung_up`` the clients that gave up on an
    answer that was held back, ``connections`` those accepted on the main port.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        gap_s: float = 0.002,
        tls: ssl.SSLContext | None = None,
        unix: str | None = None,
    ) -> None:
        self.host = host
        self.gap_s = gap_s
        self.tls = tls
        self.unix = unix
        self.heard: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
        self.requests: Counter[str] = Counter()
        self.hung_up: Counter[str] = Counter()
        self.connections = 0
        self._ports: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty", daemon=True)
        self._stack = contextlib.ExitStack()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def url(self, fault: str) -> str:
        """The base URL under which ``fault`` is played. Raises KeyError for an unknown fault."""
        if fault not in FAULTS:
            raise KeyError(f"no fault named {fault!r}: see tests.mock.faulty.FAULTS")
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.tls else "http"
        if fault in self._ports:
            return f"{scheme}://{host}:{self._ports[fault]}"
        return f"{scheme}://{host}:{self._ports['']}/{fault}"

    # ---- start and end

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(120)
            self._ports["refused"] = self._stack.enter_context(refusing_port(self.host))
            self._ports["blackhole"] = self._stack.enter_context(blackhole_port(self.host))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(120)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(120)
        self._loop.close()
        self._stack.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    async def _start(self) -> None:
        for name, accept in (("", self._serve), ("close_on_accept", self._close)):
            server = await asyncio.start_server(
                accept, self.host, 0, ssl=self.tls, backlog=4096, limit=1 << 20
            )
            self._servers.append(server)
            self._ports[name] = server.sockets[0].getsockname()[1]
        if self.unix is not None:
            self._servers.append(
                await asyncio.start_unix_server(self._serve, self.unix, ssl=self.tls, limit=1 << 20)
            )

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets aborted transports close

    # ---- connections

    async def _close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        if writer.get_extra_info("socket").family != socket.AF_UNIX:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._one_request(reader, writer):
                pass
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError) as fault:
            log.debug("client gone: %r", fault)  # clients under test hang up in all sorts of places
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers a request; False when the connection is to end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        fields = {
            key.strip().lower(): value.strip() for key, _, value in (f.partition(":") for f in head[1:] if f)
        }
        sent = await reader.readexactly(int(fields.get("content-length", 0)))
        body = json.loads(sent) if sent else {}
        self.heard.append((method, target, fields, body))
        first, _, rest = target.lstrip("/").partition("/")
        name, path = (first, f"/{rest}") if first in FAULTS else ("good", target)
        model = str(body.get("model", ""))
        if model.startswith("fault:"):
            name = model.removeprefix("fault:")
        talk = Talk(reader, writer, path, fields, body, self.gap_s)
        talk.close = fields.get("connection", "").lower() == "close"
        if method == "GET" and path in ("/health", "/v1/models"):
            card = {"id": "mock", "object": "model", "created": 1, "owned_by": "vllm"}
            answer = json.dumps({"object": "list", "data": [card]}).encode() if path == "/v1/models" else b""
            await talk.whole("200 OK", "application/json", answer)
        elif method == "GET" and path == "/metrics":
            page = b'vllm:num_requests_running{engine="0",model_name="mock"} 3\n'
            await talk.whole("200 OK", "text/plain; version=0.0.4", page)
        elif method != "POST" or name not in PLAYS:
            error = {"error": {"message": "Not Found", "type": "NotFoundError", "param": None, "code": 404}}
            await talk.whole("404 Not Found", "application/json", json.dumps(error).encode())
        else:
            self.requests[name] += 1
            try:
                await PLAYS[name](talk)
            finally:
                self.hung_up[name] += talk.held
        return not talk.close
