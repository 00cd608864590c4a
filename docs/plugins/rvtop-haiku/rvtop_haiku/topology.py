"""The topology: an OpenAI-compatible server, of the standard library alone, that streams a haiku."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from backends.process.events import Steps
from backends.settings.options import Options

WORDS = ("an", "old", "silent", "pond", "a", "frog", "jumps", "into", "the", "pond", "splash", "silence")
TOKEN_S = 0.01


class Haiku:
    """The server while it runs."""

    def __init__(self, options: Options) -> None:
        self._models = [spec.name for spec in options.models]
        self._server: asyncio.Server | None = None
        self._tokens = 0

    async def start(self, options: Options) -> None:
        self._server = await asyncio.start_server(self._serve, sock=options.listener)

    async def failed(self) -> str:
        """Returns only if the server broke; this one does not."""
        await asyncio.Event().wait()
        return ""

    async def close(self, grace_s: float) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = await reader.readexactly(length)
                await self._answer(writer, method, path, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
        if method == "POST" and path == "/v1/chat/completions":
            await self._complete(writer, json.loads(body))
            return
        pages: dict[str, Any] = {
            "/v1/models": {
                "object": "list",
                "data": [{"id": name, "object": "model"} for name in self._models],
            },
            "/health": {"status": "ok"},
            "/rvtop/topology": {"topology": "haiku", "engines": []},
        }
        if path == "/metrics":
            page = (
                f'vllm:generation_tokens_total{{engine="0",model_name="{self._models[0]}"}} {self._tokens}\n'
            )
            await _send(writer, "200 OK", "text/plain", page.encode())
        elif path in pages:
            await _send(writer, "200 OK", "application/json", json.dumps(pages[path]).encode())
        else:
            error = {"error": {"message": f"no page {path}", "type": "NotFoundError", "code": 404}}
            await _send(writer, "404 Not Found", "application/json", json.dumps(error).encode())

    async def _complete(self, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        count = int(asked.get("max_tokens") or len(WORDS))
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        about = {"id": "haiku", "object": "chat.completion.chunk", "created": int(time.time())}
        about["model"] = asked.get("model") or self._models[0]
        for number in range(count):
            await asyncio.sleep(TOKEN_S)
            finish = "length" if number + 1 == count else None
            delta = {"content": WORDS[number % len(WORDS)] + " "}
            await _event(writer, about | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            self._tokens += 1
        usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": 1 + count}
        await _event(writer, about | {"choices": [], "usage": usage})
        await _chunk(writer, b"data: [DONE]\n\n")
        await _chunk(writer, b"")


async def _event(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    await _chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def _send(writer: asyncio.StreamWriter, status: str, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def start(options: Options, steps: Steps) -> Haiku:
    """What `python -m backends haiku` calls."""
    made = Haiku(options)
    with steps.step("http", options.url):
        await made.start(options)
    return made
