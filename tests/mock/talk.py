"""One request under a fault: what was asked, how to write to its connection, and the table of faults.

Answers hold ``Talk.n`` tokens (the request's max_tokens, else 8) in vLLM's shape unless said otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
PIECES = (" token", " 질문", " steps", " 답변", " cache", " 서버", " clock", " 문장")


@dataclass
class Talk:
    """One request being answered: what was asked, and how to write to its connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: str
    fields: dict[str, str]
    body: dict[str, Any]
    gap_s: float
    framing: str = "chunked"
    close: bool = False  #: the connection ends after this answer
    held: bool = field(default=False)  #: the client hung up on an answer that was held back

    @property
    def n(self) -> int:
        """Tokens asked for."""
        return int(self.body.get("max_completion_tokens") or self.body.get("max_tokens") or len(PIECES))

    @property
    def chat(self) -> bool:
        return self.path.endswith("/chat/completions")

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    async def raw(self, data: bytes) -> None:
        """Writes bytes as they are. Raises ConnectionError when the client is gone."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(
        self, status: str = "200 OK", kind: str = EVENT_STREAM, framing: str = "chunked", *extra: str
    ) -> None:
        """Writes the head. framing: "chunked", "close" (ends with the connection), or a content-length."""
        lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", *extra]
        if framing == "chunked":
            lines.append("transfer-encoding: chunked")
        elif framing == "close":
            lines.append("connection: close")
            self.close = True
        else:
            lines.append(f"content-length: {framing}")
        self.framing = framing
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def data(self, data: bytes) -> None:
        """Writes a piece of the body in the framing that head() announced."""
        if self.framing == "chunked":
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self.raw(data)

    async def end(self) -> None:
        """Ends the body well."""
        if self.framing == "chunked":
            await self.raw(b"0\r\n\r\n")

    async def whole(self, status: str, kind: str, body: bytes, *extra: str) -> None:
        """A whole answer of a known length."""
        await self.head(status, kind, str(len(body)), *extra)
        await self.raw(body)

    async def hold(self) -> None:
        """Says nothing more until the client hangs up."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(4096):
                pass
        self.held = self.close = True

    def fin(self) -> None:
        """Ends the connection in good order (FIN)."""
        self.close = True

    def rst(self) -> None:
        """Ends the connection with a reset (RST)."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        self.close = True

    # ---- events in vLLM's shape

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        name, kind = ("chatcmpl", "chat.completion.chunk") if self.chat else ("cmpl", "text_completion")
        model = self.body.get("model", "mock")
        return {"id": f"{name}-1", "object": kind, "created": 1, "model": model, "choices": choices, **more}

    def delta(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return self.chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])

    def role(self) -> dict[str, Any]:
        return self.delta({"role": "assistant", "content": ""})

    def token(self, i: int, finish: str | None = None, text: str | None = None) -> dict[str, Any]:
        """The chunk of token i; its text is one of PIECES unless given."""
        said = PIECES[i % len(PIECES)] if text is None else text
        if self.chat:
            return self.delta({"content": said}, finish)
        return self.chunk([{"index": 0, "text": said, "logprobs": None, "finish_reason": finish}])

    def counts(self, completion: int) -> dict[str, int]:
        return {"prompt_tokens": 5, "total_tokens": 5 + completion, "completion_tokens": completion}

    def usage(self) -> list[dict[str, Any]]:
        """The usage chunk, when asked for."""
        return [self.chunk([], usage=self.counts(self.n))] if self.wants_usage else []

    def tokens(self, count: int | None = None, finish: str | None = "length") -> list[dict[str, Any]]:
        """The role chunk (chat) and the first ``count`` tokens, the answer's last with its finish reason."""
        last = self.n - 1
        made = [
            self.token(i, finish if i == last else None) for i in range(self.n if count is None else count)
        ]
        return [self.role(), *made] if self.chat else made

    async def play(self, events: list[dict[str, Any]]) -> None:
        """Writes chunks, one event a write, with the server's gap between them."""
        for one in events:
            await self.data(sse(one))
            await asyncio.sleep(self.gap_s)


def sse(chunk: dict[str, Any]) -> bytes:
    """A chunk as an event, compact and unescaped as vLLM dumps it."""
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def whole_stream(t: Talk) -> bytes:
    """A whole good body: tokens, usage when asked for, [DONE]."""
    return b"".join(map(sse, t.tokens() + t.usage())) + DONE


Play = Callable[[Talk], Awaitable[None]]
FAULTS: dict[str, str] = {}  #: name -> what it does, in a line
OUTCOMES: dict[str, str] = {}  #: name -> "ok" or the error class that it must be filed under
PLAYS: dict[str, Play] = {}


def fault(about: str, outcome: str = "ok", name: str = "") -> Callable[[Play], Play]:
    """Registers a behaviour under its function's name (or ``name``)."""

    def register(play: Play) -> Play:
        key = name or getattr(play, "__name__", "")
        FAULTS[key], OUTCOMES[key], PLAYS[key] = about, outcome, play
        return play

    return register
