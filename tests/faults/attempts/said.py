"""What scripted servers say: events and HTTP answers, as bytes."""

from __future__ import annotations

import json
from typing import Any

DONE = b"data: [DONE]\n\n"


def data(value: Any) -> bytes:
    """A JSON value as an event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def choice(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk with one choice."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def token(text: str, finish: str | None = None) -> bytes:
    return data(choice({"content": text}, finish))


def usage(tokens: Any) -> bytes:
    return data({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})


ROLE = data(choice({"role": "assistant", "content": ""}))
TWO = token("하나") + token("둘")
THREE = TWO + token("셋", "stop")
#: A whole good stream of three tokens.
STREAM = ROLE + THREE + usage(3) + DONE


def chunk(body: bytes, extension: bytes = b"") -> bytes:
    """One chunk of the transfer encoding."""
    return b"%x%b\r\n%b\r\n" % (len(body), extension, body)


def head(*fields: bytes, status: bytes = b"200 OK", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([version + b" " + status, b"content-type: text/event-stream", *fields, b"", b""])


def chunked(*parts: bytes, fields: tuple[bytes, ...] = ()) -> bytes:
    """A whole answer, each part a chunk."""
    return head(*fields, b"transfer-encoding: chunked") + b"".join(map(chunk, parts)) + b"0\r\n\r\n"


def sized(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer with its length."""
    return head(*fields, b"content-length: %d" % len(body), status=status) + body
