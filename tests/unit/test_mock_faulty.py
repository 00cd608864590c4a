"""Every fault of the faulty server is on the wire as its line in FAULTS says (driven with httpx)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.mock.faulty import FAULTS, OUTCOMES, FaultyServer
from tests.mock.talk import PLAYS

N = 8
ASKED = {
    "model": "mock",
    "stream": True,
    "max_tokens": N,
    "messages": [{"role": "user", "content": "hi"}],
    "stream_options": {"include_usage": True},
}
CLASSES = {
    "ok",
    "refused",
    "timeout_connect",
    "timeout_ttft",
    "stalled",
    "reset",
    "stream_error",
    "bad_stream",
}
CLASSES |= {"truncated", "empty", "http_307", "http_404", "http_429", "http_500", "http_503"}


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as s:
        yield s


async def read(url: str, path: str = "/v1/chat/completions", quiet_s: float = 120, **more: Any) -> Seen:
    """Asks once and takes whatever comes: status, fields, body, and the error that ended it."""
    seen = Seen()
    timeout = httpx.Timeout(120, read=quiet_s, connect=quiet_s)
    async with httpx.AsyncClient(timeout=timeout) as client:
        try:
            async with client.stream("POST", url + path, json={**ASKED, **more}) as answer:
                seen.status, seen.fields = answer.status_code, answer.headers
                async for part in answer.aiter_bytes():
                    seen.parts.append(part)
        except httpx.HTTPError as error:
            seen.error = error
    return seen


def request(prefix: str) -> bytes:
    """A raw request under a fault's prefix."""
    data = json.dumps(ASKED).encode()
    head = f"POST {prefix}/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


class Seen:
    """What one request met."""

    def __init__(self) -> None:
        self.status = 0
        self.fields = httpx.Headers()
        self.parts: list[bytes] = []
        self.error: httpx.HTTPError | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def events(self) -> list[str]:
        """The data of each event, by the rules of the HTML standard (LF and CRLF only)."""
        made, lines = [], []
        for line in self.body.decode().replace("\r\n", "\n").split("\n"):
            field, colon, value = line.partition(":")
            if not line:
                if lines:
                    made.append("\n".join(lines))
                lines = []
            elif field == "data" and colon:
                lines.append(value.removeprefix(" "))
        assert not lines, "the body ends inside an event"
        return made

    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(event) for event in self.events() if event != "[DONE]"]


def said(chunk: dict[str, Any]) -> str:
    """The text of a chunk on any channel, "" for none."""
    for choice in chunk.get("choices", []):
        delta = choice.get("delta", choice)
        for key in ("content", "text", "reasoning", "reasoning_content"):
            if delta.get(key):
                return str(delta[key])
        for call in delta.get("tool_calls", []):
            return str(call["function"].get("name") or call["function"]["arguments"])
    return ""


# The good streams: fault -> (chunks with text, has usage, has [DONE], has a finish reason).
GOOD: dict[str, tuple[int, bool, bool, bool]] = {
    name: (N, True, True, True) for name, outcome in OUTCOMES.items() if outcome == "ok"
}
GOOD |= {
    "no_done": (N, True, False, True),
    "dies_after_finish": (N, False, False, True),
    "no_finish": (N, True, True, False),
    "no_usage": (N, False, True, True),
    "merged_tokens": (2, True, True, True),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_good_streams_hold_what_was_asked_for(server: FaultyServer, path: str) -> None:
    for name, (texts, counted, done, finished) in GOOD.items():
        if path == "/v1/completions" and name in (
            "reasoning",
            "reasoning_content",
            "tool_calls",
            "early_role",
        ):
            continue
        seen = await read(server.url(name), path)
        assert seen.status == 200, name
        chunks = seen.chunks()
        assert sum(bool(said(chunk)) for chunk in chunks) == texts, name
        usage = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
        assert (usage[-1:] == [N]) == counted, name
        assert ("[DONE]" in seen.events()) == done, name
        reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]]
        assert (reasons.count("length") == 1) == finished, name
        assert isinstance(seen.error, httpx.RemoteProtocolError) == (name == "dies_after_finish"), name
    assert server.requests["good"] == 1
    assert set(server.requests) <= set(GOOD)


async def raw(url: str) -> bytes:
    """The very bytes of an answer, until the connection ends."""
    parsed = httpx.URL(url)
    reader, writer = await asyncio.open_connection(parsed.host, parsed.port)
    writer.write(request(parsed.path))
    data = await reader.read()
    writer.close()
    return data


async def test_the_clothes_are_on_the_wire(server: FaultyServer) -> None:
    wire = {name: await raw(server.url(name)) for name in GOOD if name != "content_length"}
    assert b"}\r\n\r\ndata: " in wire["crlf"]
    assert wire["crlf"].partition(b"\r\n\r\n")[2].replace(b"\r\n", b"").count(b"\n") == 0
    assert wire["comments"].count(b": ping") > N
    assert b"event: message\nid: 3\ndata: " in wire["event_lines"]
    assert wire["multi_line_data"].count(b"\ndata: ") > 5 * N
    assert b"data:{" in wire["no_space"]
    assert b"data: " not in wire["no_space"]
    assert b"\\uc9c8\\ubb38" in wire["other_shape"]
    assert b"\\ud83d\\ude00" in wire["tricky_text"] or "\U0001f600".encode() in wire["tricky_text"]
    assert b"transfer-encoding" not in wire["close_delimited"]
    assert b"content-length" not in wire["close_delimited"]
    assert wire["close_delimited"].startswith(b"HTTP/1.0 200")
    assert b";name=value\r\n" in wire["chunk_extensions"]
    assert b"content-encoding: gzip" in wire["gzip"]
    assert b"content-encoding: deflate" in wire["deflate"]
    assert b"data: " not in wire["gzip"] + wire["deflate"]
    assert wire["informational"].startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints")
    assert b"content-type: text/plain" in wire["text_plain"]
    assert b"\r\n3\r\n" in wire["fragmented"]
    assert wire["after_done"].count(b"[DONE]") == 2
    assert wire["reasoning"].count(b'"reasoning":') == N
    assert wire["reasoning_content"].count(b'"reasoning_content":') == N
    assert wire["tool_calls"].count(b'"tool_calls":') == N
    assert wire["usage_every_chunk"].count(b'"usage":') == N + 2
    assert wire["coalesced"].count(b"\r\n\r\n") == 2
    length = await read(server.url("content_length"))
    assert int(length.fields["content-length"]) == len(length.body)


Check = Callable[[Seen], bool]


def ended(kind: type[httpx.HTTPError], *needs: bytes) -> Check:
    """The answer ended in this error, after these bytes of a 200."""
    return lambda seen: isinstance(seen.error, kind) and all(need in seen.body for need in needs)


def whole(status: int, *needs: bytes) -> Check:
    """The answer came whole, with this status and these bytes."""
    return lambda seen: (
        (seen.error, seen.status) == (None, status) and all(need in seen.body for need in needs)
    )


def as_json(code: int) -> Check:
    return lambda seen: whole(code)(seen) and json.loads(seen.body)["error"]["code"] == code


CUT, RESET, QUIET = httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout
HALF = "가".encode()[:2]
BROKEN: dict[str, Check] = {
    "refused": ended(httpx.ConnectError),
    "blackhole": ended(httpx.ConnectTimeout),
    "close_on_accept": lambda seen: isinstance(seen.error, httpx.NetworkError | CUT) and not seen.status,
    "never_answers": lambda seen: ended(QUIET)(seen) and not seen.status,
    "head_only": lambda seen: ended(QUIET)(seen) and seen.status == 200 and not seen.body,
    "only_pings": lambda seen: ended(QUIET)(seen) and seen.body == b": ping\n\n" * 20,
    "close_after_request": lambda seen: ended(CUT)(seen) and not seen.status,
    "rst_after_request": lambda seen: ended(RESET)(seen) and not seen.status,
    "dies_midstream": ended(CUT, b" steps"),
    "dies_mid_event": ended(CUT, b" steps"),
    "no_end": lambda seen: (
        whole(200, b" steps")(seen) and b"[DONE]" not in seen.body and b"length" not in seen.body
    ),
    "short_body": ended(CUT, b" steps"),
    "empty_body": lambda seen: whole(200)(seen) and not seen.body,
    "half_utf8_cut": lambda seen: ended(CUT)(seen) and seen.body.endswith(HALF),
    "rst_midstream": ended(RESET, b" steps"),
    "stall": ended(QUIET, b" steps"),
    "stall_mid_event": lambda seen: ended(QUIET, b" steps")(seen) and not seen.body.endswith(b"\n"),
    "empty": lambda seen: whole(200, b'"stop"', b"[DONE]")(seen) and not any(map(said, seen.chunks())),
    "only_done": lambda seen: whole(200)(seen) and seen.events() == ["[DONE]"],
    "error_event": whole(200, b" steps", b'data: {"error":{', b"[DONE]"),
    "error_first": lambda seen: whole(200)(seen) and seen.body.startswith(b'data: {"error":{'),
    "http_404": as_json(404),
    "http_429": lambda seen: as_json(429)(seen) and seen.fields["retry-after"] == "1",
    "http_500": as_json(500),
    "http_503": as_json(503),
    "http_404_html": whole(404, b"<html>"),
    "http_429_html": lambda seen: whole(429, b"<html>")(seen) and seen.fields["retry-after"] == "1",
    "http_500_html": whole(500, b"<html>"),
    "http_503_html": whole(503, b"<html>"),
    "redirect": lambda seen: whole(307)(seen) and seen.fields["location"] == "/good/v1/chat/completions",
    "not_http": lambda seen: ended(CUT)(seen) and not seen.status,
    "garbage": lambda seen: whole(200)(seen) and b"data:" not in seen.body and len(seen.body) == 4096,
    "not_json": whole(200, b"data: not json\n\n"),
    "not_object": whole(200, b"data: [1, 2, 3]\n\n"),
    "half_utf8_event": whole(200, HALF + b'"', b"[DONE]"),
    "html_200": lambda seen: whole(200, b"<html>")(seen) and "text/html" in seen.fields["content-type"],
    "json_200": lambda seen: whole(200)(seen) and "message" in json.loads(seen.body)["choices"][0],
    "long_line": lambda seen: (
        whole(200, b"[DONE]")(seen) and max(map(len, seen.body.split(b"\n"))) > 10 << 20
    ),
    "endless_line": lambda seen: whole(200)(seen) and len(seen.body) == 10 << 20 and b"\n" not in seen.body,
    "bad_chunk": ended(CUT, b" steps"),
    "endless_head": lambda seen: ended(CUT)(seen) and not seen.status,
    "endless_field": lambda seen: ended(CUT)(seen) and not seen.status,
}


async def test_broken_answers_break_as_they_say(server: FaultyServer) -> None:
    quiet = ("blackhole", "never_answers", "head_only", "only_pings", "stall", "stall_mid_event")
    loud = [name for name in BROKEN if name not in quiet]
    seen = await asyncio.gather(*[read(server.url(name), quiet_s=120) for name in loud])
    seen += await asyncio.gather(*[read(server.url(name), quiet_s=2) for name in quiet])
    for name, one in zip((*loud, *quiet), seen, strict=True):
        assert BROKEN[name](one), (name, one.status, one.error, one.body[-200:])
    for name in ("never_answers", "head_only", "stall", "stall_mid_event"):
        while not server.hung_up[name]:
            await asyncio.sleep(0.01)
        assert server.requests[name] == 1


def test_the_table_is_whole() -> None:
    assert set(GOOD) | set(BROKEN) == set(FAULTS) == set(OUTCOMES)
    assert set(PLAYS) == set(FAULTS) - {"refused", "blackhole", "close_on_accept"}
    assert set(OUTCOMES.values()) == CLASSES
    assert all(about and "\n" not in about for about in FAULTS.values())


async def test_a_fault_is_chosen_by_url_or_by_model(server: FaultyServer) -> None:
    root = server.url("good").removesuffix("/good")
    assert (await read(root)).status == 200
    assert (await read(root, model="fault:http_503")).status == 503
    assert (await read(root, model="fault:nonsense")).status == 404
    assert server.requests == {"good": 1, "http_503": 1}
    with pytest.raises(KeyError, match="nonsense"):
        server.url("nonsense")
    async with httpx.AsyncClient(timeout=120) as client:
        for fault in ("stall", "http_500"):  # one can attach before the fault shows
            assert (await client.get(f"{server.url(fault)}/health")).status_code == 200
            models = (await client.get(f"{server.url(fault)}/v1/models")).json()
            assert [card["id"] for card in models["data"]] == ["mock"]
            assert "num_requests_running" in (await client.get(f"{server.url(fault)}/metrics")).text
            assert (await client.get(f"{server.url(fault)}/v1/embeddings")).status_code == 404


async def test_connections_stay_unless_the_fault_ends_them(server: FaultyServer) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:
        for _ in range(3):
            assert (await client.post(server.url("good") + "/v1/completions", json=ASKED)).status_code == 200
        assert server.connections == 1
        await client.post(server.url("closes_idle") + "/v1/completions", json=ASKED)
        assert server.connections == 1


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6"))]
)
def test_it_serves_blocking_callers_and_leaves_nothing(host: str) -> None:
    before = threading.active_count()
    with FaultyServer(host) as server:
        url = httpx.URL(server.url("good"))
        assert url.host == host
        assert httpx.post(f"{url}/v1/chat/completions", json=ASKED, timeout=120).status_code == 200
        stuck = socket.create_connection((url.host, url.port), timeout=30)
        stuck.sendall(request("/stall"))
        assert stuck.recv(100).startswith(b"HTTP/1.1 200 OK")
    with stuck, contextlib.suppress(ConnectionResetError):
        while stuck.recv(65536):
            pass
    assert threading.active_count() <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.host, url.port), timeout=30)
