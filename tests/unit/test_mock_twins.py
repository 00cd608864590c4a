"""The C mock and its Python twin write the same bytes, and both write vLLM's shape."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from typing import Any

import pytest

from tests.mock.fast import FastMock
from tests.mock.process import MockProcess, PythonMock

HAS_COMPILER = sys.platform.startswith("linux") and any(map(shutil.which, ("cc", "gcc", "clang")))

# What vLLM 0.29.0's own models give (model_dump_json(exclude_unset=True), the usage chunks with
# exclude_none=True) when filled as its streaming generators fill them, for an answer of two tokens.
VLLM_CHAT = """\
data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"질문"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2},"system_fingerprint":"vllm-0.29.0-mock"}

data: [DONE]

"""  # noqa: E501
VLLM_TEXT = """\
data: {"id":"cmpl-x","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" token","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}

data: {"id":"cmpl-x","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"질문","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"system_fingerprint":"vllm-0.29.0-mock"}

data: [DONE]

"""  # noqa: E501

USAGE = {"include_usage": True}
EACH = {"include_usage": True, "continuous_usage_stats": True}
BODIES: list[tuple[str, Any]] = [
    (path, {"prompt": '한국어 "max_tokens": 99 \\', "messages": [], **more})
    for path in ("/v1/chat/completions", "/v1/completions")
    for more in (
        {"max_tokens": 1, "stream": True},
        {"max_tokens": 2, "stream": True, "stream_options": USAGE},
        {"max_tokens": 70, "stream": True, "stream_options": EACH},
        {"max_tokens": 9, "stream": True, "stream_options": {"include_usage": False}},
        {"max_tokens": 9, "stream": True, "stream_options": {"continuous_usage_stats": True}},
        {"max_tokens": 9, "stream": True, "stream_options": None},
        {"max_tokens": None, "max_completion_tokens": 33, "stream": True, "model": "other/model"},
        {"max_tokens": 3, "stream": False, "stream_options": USAGE},
        {"stream": None},
        {"max_tokens": -5},
        {"max_tokens": 10**8},
        {"model": "unknown"},
    )
] + [("/v1/chat/completions", body) for body in ([], "text", 5)]


def ask(port: int, method: str, path: str, data: bytes, fields: str = "") -> bytes:
    """The raw answer to one request on a connection of its own, its times set to 1111111111 s."""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\nconnection: close\r\n"
    head += f"{fields}\r\n"
    parts = []
    with socket.create_connection(("127.0.0.1", port), timeout=120) as sock:
        sock.sendall(head.encode() + data)
        while part := sock.recv(1 << 16):
            parts.append(part)
    return re.sub(rb'"created":\d+', b'"created":1111111111', b"".join(parts))


def unchunked(answer: bytes) -> str:
    """The body of a chunked answer; every chunk must hold exactly one event."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while not rest.startswith(b"0\r\n\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        piece, rest = rest[: int(size, 16)], rest[int(size, 16) :]
        assert rest.startswith(b"\r\n")
        assert piece.startswith(b"data: ")
        assert piece.endswith(b"\n\n")
        assert piece.count(b"data: ") == 1
        body, rest = body + piece, rest[2:]
    assert rest == b"0\r\n\r\n"
    return body.decode()


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")
@pytest.mark.parametrize("options", [{}, {"join": 3}, {"merge": 4}, {"join": 2, "merge": 3}], ids=str)
def test_the_same_bytes_for_the_same_requests(options: dict[str, Any]) -> None:
    models = ("mock", "other/model")
    with (
        FastMock(1, 0.1, 5, models=models, **options) as one,
        PythonMock(1, 0.1, 5, models=models, **options) as other,
    ):
        for path, body in BODIES:
            data = json.dumps(body, ensure_ascii=False).encode()
            answers = [ask(mock.port, "POST", path, data) for mock in (one, other)]
            assert answers[0] == answers[1], body
            assert answers[0].startswith(b"HTTP/1.1 ")
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/health"),
            ("GET", "/x"),
            ("GET", "/v1/completions"),
        ):
            assert ask(one.port, method, path, b"") == ask(other.port, method, path, b"")
        counters = [ask(mock.port, "GET", "/metrics", b"").decode() for mock in (one, other)]
        # Equal but for the times: buckets and sums.
        kept = [
            re.sub(r"(?m)^content-length: .*|(_bucket\{.*|_sum\{.*) \S+$", r"\1", text) for text in counters
        ]
        assert kept[0] == kept[1]
        assert 'le="2560.0"' in kept[0]
        logs = [mock.log() for mock in (one, other)]
        assert logs[0].id == logs[1].id
        assert logs[0].end == logs[1].end
        assert logs[0].tokens.tolist() == logs[1].tokens.tolist()
        assert len(logs[0]) == 2 * 9


KINDS = [
    pytest.param(
        FastMock, marks=pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")
    ),
    PythonMock,
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shape_is_vllms(kind: type[MockProcess]) -> None:
    asked = {"model": "m", "stream": True, "max_tokens": 2}
    with kind(1, 1, models=("m",)) as mock:
        for path, more, shape in (
            ("/v1/chat/completions", {"stream_options": USAGE}, VLLM_CHAT),
            ("/v1/completions", {}, VLLM_TEXT),
        ):
            data = json.dumps({**asked, **more}).encode()
            text = unchunked(ask(mock.port, "POST", path, data, "x-request-id: x\r\n"))
            prompt = (len(data) + 3) // 4
            counted = f'"prompt_tokens":{prompt},"total_tokens":{prompt + 2},'
            assert text.replace("1111111111", "1") == shape.replace(
                '"prompt_tokens":3,"total_tokens":5,', counted
            )
