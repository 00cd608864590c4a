"""The mock server in plain Python: the same answers, options and log as mock.c, byte for byte.

For machines with no compiler; fine to a few hundred requests a second. Runs in a process of its own:
``python -m tests.mock.server --port 0 …`` from the repository's root, or tests.mock.process.PythonMock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.mock.wire import (
    COLUMNS,
    TEXT,
    Model,
    Stream,
    answer,
    metrics,
    models_json,
    refuse,
    render_tokens,
    render_whole,
)

HEAD_LIMIT, BODY_LIMIT, MAX_TOKENS = 64 << 10, 64 << 20, 10_000_000
ROWS = "text/tab-separated-values; charset=utf-8"
EVENTS = (
    "HTTP/1.1 200 OK\r\nserver: rvtop-mock\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    "{close}transfer-encoding: chunked\r\n\r\n"
)


class Server:
    """What connections share: the options, the models, the log."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.ttft = int(options.ttft_ms * 1e6)
        self.step = int(options.step_ms * 1e6)
        self.tick = int(options.tick_ms * 1e6)
        self.merge: int = options.merge
        self.join: int = options.join
        self.tokens: int = options.tokens
        self.kv_tokens: float = options.kv_tokens
        self.models = {name: Model(name) for name in options.model or ["mock"]}
        self.started = time.monotonic_ns()
        self.rows: list[str] = []
        self.open: set[Stream] = set()
        self.requests = 0

    def connect(self) -> asyncio.Protocol:
        """What reads a new client."""
        return Connection(self)

    def deadline(self, s: Stream, token: int) -> int:
        due = s.arrival + self.ttft + token * self.step
        if self.tick:
            due = self.started - (self.started - due) // self.tick * self.tick
        return due

    #: Paths that are answered by a Stream.
    paths: tuple[str, ...] = ("/v1/chat/completions", "/v1/completions")

    def missing(self, path: str, asked: dict[str, Any]) -> str:
        """The field that a request there must have, and has not; empty: none."""
        return ""

    def prepare(self, s: Stream, path: str, asked: dict[str, Any]) -> None:
        """Takes from a request what only its endpoint knows."""

    def tokens_of(self, s: Stream, to: int) -> bytes:
        """Tokens [s.sent, to) of a stream as they go on the wire."""
        return render_tokens(s, to, self.join)

    def whole_of(self, s: Stream) -> bytes:
        """An answer in one piece."""
        return render_whole(s)

    def group_end(self, s: Stream) -> int:
        """The end of the tokens written together. The first always goes alone: TTFT keeps its meaning."""
        if not s.sse:
            return s.n
        return min(s.n, s.sent + self.merge * self.join if s.sent else 1)

    def log_text(self) -> str:
        return "\t".join(("id", *COLUMNS, "end")) + "\n" + "".join(self.rows)


class Connection(asyncio.Protocol):
    """One client. A request at a time, and those sent behind it in turn."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = bytearray()
        self.stream: Stream | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.blocked = False  # the client's window is full
        self.close_after = False
        self.expected = 0  # bytes of the request under way, 0: its head is not whole yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=0)  # so that pause_writing says: the kernel took no more

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.stream:
            self.end("cut")

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        s = self.stream
        if s:
            s.clear_since = time.monotonic_ns()
            if s.sent and s.first == s.last:
                s.first = s.clear_since
            if s.sent:
                s.last = s.clear_since
        self.go_on()
        self.next_request()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.stream and len(self.buffer) > BODY_LIMIT:
            self.transport.abort()
        else:
            self.next_request()

    def eof_received(self) -> bool:
        return False  # a client that hangs up has given up on its answer

    def go_on(self) -> None:
        """After a whole write of an answer's part: sets the next timer, or ends the answer."""
        s = self.stream
        if s:
            if s.sent < s.n:
                s.due = self.server.deadline(s, self.server.group_end(s) - 1)
                self.timer = asyncio.get_running_loop().call_at(s.due / 1e9, self.write_tokens)
                return
            self.end("done")
        if self.close_after:
            self.transport.close()

    def end(self, how: str) -> None:
        s = self.stream
        assert s is not None
        self.stream = None
        self.server.open.discard(s)
        self.server.rows.append(s.row(how))
        s.model.live_tokens -= s.prompt_tokens + s.sent
        s.model.running -= 1
        if how == "done":
            s.model.done += 1
            s.model.e2e.observe(s.last - s.arrival)
            if s.n > 1:
                s.model.tpot.observe((s.last - s.first) // (s.n - 1))
        else:
            s.model.cut += 1

    def write_tokens(self) -> None:
        """Writes the group of tokens that is due."""
        s = self.stream
        if s is None or self.transport.is_closing():
            return
        first, to = s.sent == 0, self.server.group_end(s)
        data = (
            self.server.tokens_of(s, to)
            if s.sse
            else answer(self.close_after, "200 OK", "application/json", self.server.whole_of(s))
        )
        now, before = time.monotonic_ns(), s.last
        late = max(0, now - s.due)
        if s.due >= s.clear_since:
            s.late_sum += late * (to - s.sent)
            s.late_max = max(s.late_max, late)
            s.late_first = late if first else s.late_first
        s.model.generation_tokens += to - s.sent
        s.model.live_tokens += to - s.sent
        if first:
            s.first = now
            s.model.ttft.observe(now - s.arrival)
        else:
            s.model.itl.observe(now - before)
        s.sent, s.last = to, now
        self.transport.write(data)
        if self.blocked:
            s.blocked += 1
        else:
            self.go_on()
            self.next_request()

    def next_request(self) -> None:
        """Handles the request at the start of the buffer, and any behind it, as far as they are whole."""
        while self.stream is None and not self.blocked and self.buffer and not self.transport.is_closing():
            if len(self.buffer) < self.expected:
                return
            at = self.buffer.find(b"\r\n\r\n")
            if at < 0 and len(self.buffer) < HEAD_LIMIT:
                return
            line, *lines = bytes(self.buffer[: max(at, 0)]).decode("latin-1").split("\r\n")
            fields = {
                key.lower(): value.strip(" \t")
                for key, colon, value in (f.partition(":") for f in lines)
                if colon
            }
            length = re.match(r"\d*", fields.get("content-length", ""))
            size = int(length[0]) if length and length[0] else 0
            refused = refusal(at, line, fields, size)
            if refused:
                self.close_after = True
                self.buffer.clear()
                self.transport.write(refuse(True, refused[0], "BadRequestError", refused[1]))
            else:
                whole = at + 4 + size
                if len(self.buffer) < whole:
                    if "expect" in fields and not self.expected:
                        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    self.expected = whole
                    return
                arrival = time.monotonic_ns()
                body = bytes(self.buffer[at + 4 : whole])
                del self.buffer[:whole]
                self.expected = 0
                self.close_after = fields.get("connection", "").lower() == "close"
                method, target, _ = line.split(" ", 2)
                data = self.route(method, target.partition("?")[0], fields, body, arrival)
                if data:
                    self.transport.write(data)
            if not self.blocked:
                self.go_on()

    def route(self, method: str, path: str, fields: dict[str, str], body: bytes, arrival: int) -> bytes:
        """What to write at once for a whole request; starts the stream when it asks for tokens."""
        close, server = self.close_after, self.server
        if path in server.paths:
            if method != "POST":
                return refuse(close, "405 Method Not Allowed", "BadRequestError", "Method Not Allowed")
            return self.start_stream(path, fields.get("x-request-id", ""), body, arrival)
        if path == "/health":
            return answer(close, "200 OK", TEXT, b"")
        if path == "/v1/models":
            return answer(close, "200 OK", "application/json", models_json(server.models.values()))
        if path == "/metrics":
            return answer(close, "200 OK", TEXT, metrics(list(server.models.values()), server.kv_tokens))
        if path == "/log":
            return answer(close, "200 OK", ROWS, server.log_text().encode())
        return refuse(close, "404 Not Found", "NotFoundError", "Not Found")

    def start_stream(self, path: str, request_id: str, body: bytes, arrival: int) -> bytes:
        """Begins an answer; returns its HTTP head, or the refusal of a bad body."""
        close, server = self.close_after, self.server
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return refuse(close, "400 Bad Request", "BadRequestError", "the body is not a JSON object")
        if missing := server.missing(path, asked):
            return refuse(close, "400 Bad Request", "BadRequestError", f"{missing}: Field required")
        model = server.models.get(asked.get("model", next(iter(server.models))))
        if model is None:
            return refuse(close, "404 Not Found", "NotFoundError", "The model does not exist.")
        options = asked.get("stream_options") or {}
        counts = [asked.get(key) for key in ("max_completion_tokens", "max_tokens")]
        n = next((count for count in counts if isinstance(count, int) and count != -1), server.tokens)
        if not 1 <= n <= MAX_TOKENS:
            return refuse(
                close, "400 Bad Request", "BadRequestError", "max_tokens must be from 1 to 10000000"
            )
        server.requests += not request_id
        self.stream = s = Stream(
            id=re.sub(r"[^A-Za-z0-9_.:/-]", "_", request_id)[:128] or f"{server.requests:016x}",
            model=model,
            chat=path == "/v1/chat/completions",
            sse=asked.get("stream") is True,
            usage=options.get("include_usage") is True,
            continuous=options.get("include_usage") is True and options.get("continuous_usage_stats") is True,
            n=n,
            prompt_tokens=(len(body) + 3) // 4,  # about four bytes of the body to a token
            created=int(time.time()),
            arrival=arrival,
        )
        server.prepare(s, path, asked)
        server.open.add(s)
        model.running += 1
        model.prompt_tokens += s.prompt_tokens
        model.live_tokens += s.prompt_tokens
        return EVENTS.format(close="connection: close\r\n" if close else "").encode() if s.sse else b""


def refusal(at: int, line: str, fields: dict[str, str], size: int) -> tuple[str, str] | None:
    """What a request cannot be answered for at all (status, message); the connection ends after it."""
    if at < 0:
        return "431 Request Header Fields Too Large", "the head is over 64 KiB"
    if line.count(" ") < 2:
        return "400 Bad Request", "not an HTTP request"
    if line.split(" ", 2)[2] != "HTTP/1.1":
        return "505 HTTP Version Not Supported", "this server speaks HTTP/1.1"
    if "transfer-encoding" in fields:
        return "411 Length Required", "send the body with a content-length"
    if size > BODY_LIMIT:
        return "413 Content Too Large", "the body is over 64 MiB"
    return None


def number(least: float, kind: type = float) -> type:
    """An argparse type: a number of at least ``least``."""

    def read(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text}: want a number of at least {least:g}")
        return float(value) if kind is float else int(value)

    return read  # type: ignore[return-value]


async def serve(options: argparse.Namespace, make: type[Server] = Server) -> Server:
    """Serves until SIGTERM, SIGINT or the end of a stdin that is a pipe."""
    loop = asyncio.get_running_loop()
    server, ended = make(options), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ended.set)

    def lease() -> None:
        if not os.read(0, 4096):
            ended.set()
            loop.remove_reader(0)

    with contextlib.suppress(PermissionError):  # a file or /dev/null: nobody holds it
        loop.add_reader(0, lease)
    try:
        listener = await loop.create_server(server.connect, options.host, options.port, backlog=4096)
    except OSError as fault:
        sys.exit(f"mock: port {options.port} of {options.host}: {fault.strerror}")
    print(listener.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    listener.close()
    server.rows += [s.row("open") for s in server.open]
    return server


def main(make: type[Server] = Server, more: Callable[[argparse.ArgumentParser], object] = bool) -> None:
    """Options as mock.c's; see `mock --help`. ``more`` adds those that ``make`` needs."""
    parser = argparse.ArgumentParser(prog="mock", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-ms", type=number(0), default=50.0)
    parser.add_argument("--step-ms", type=number(0), default=10.0)
    parser.add_argument("--tick-ms", type=number(0), default=0.0)
    parser.add_argument("--kv-tokens", type=number(1), default=1e6)
    parser.add_argument("--tokens", type=number(1, int), default=64)
    parser.add_argument("--merge", type=number(1, int), default=1)
    parser.add_argument("--join", type=number(1, int), default=1)
    parser.add_argument("--model", action="append")
    parser.add_argument("--log")
    more(parser)
    options = parser.parse_args()
    server = asyncio.run(serve(options, make))
    if options.log:
        with open(1 if options.log == "-" else options.log, "w", encoding="utf-8") as file:
            file.write(server.log_text())


if __name__ == "__main__":
    main()
