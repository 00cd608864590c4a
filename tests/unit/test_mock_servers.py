"""The mocks do what they say: tokens, ids, deadlines, log, metrics, and nothing left running."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.mock import fast
from tests.mock.fast import FastMock, NoCompiler, any_mock, build, compiler
from tests.mock.log import parse_log
from tests.mock.process import MockError, MockProcess, PythonMock
from tests.mock.wire import COLUMNS

HAS_COMPILER = sys.platform.startswith("linux") and any(map(shutil.which, ("cc", "gcc", "clang")))
KINDS = [
    pytest.param(
        FastMock, id="c", marks=pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")
    ),
    pytest.param(PythonMock, id="python"),
]
Kind = Callable[..., MockProcess]
each_kind = pytest.mark.parametrize("kind", KINDS)


def body(n: int, **more: Any) -> dict[str, Any]:
    """A streaming chat request of n tokens that asks for usage."""
    asked = {
        "model": "mock",
        "stream": True,
        "max_tokens": n,
        "messages": [{"role": "user", "content": "hi"}],
    }
    return {**asked, "stream_options": {"include_usage": True}, **more}


def events(text: str) -> list[dict[str, Any]]:
    """The JSON events of an SSE body; it must end with [DONE]."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(true: Callable[[], bool], what: str) -> None:
    """Waits until a condition holds; fails after two minutes."""
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.01)


@each_kind
async def test_streams_tokens_with_ids_usage_and_a_true_log(kind: Kind) -> None:
    counts = [1, 2, 7, 64] * 5
    async with kind(ttft_ms=20, step_ms=2) as mock:
        async with httpx.AsyncClient(base_url=mock.url, timeout=120) as client:

            async def ask(i: int) -> tuple[int, str, int]:
                before = time.perf_counter_ns()
                answer = await client.post(
                    "/v1/chat/completions", json=body(counts[i]), headers={"X-Request-ID": f"r {i}"}
                )
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
                return before, answer.text, time.perf_counter_ns()

            answers = await asyncio.gather(*map(ask, range(len(counts))))
        pid = mock.pid
    log = mock.stop()
    assert gone(pid)
    assert sorted(log.id) == sorted(f"r_{i}" for i in range(len(counts)))
    assert log.done.all()
    for i, (before, text, after) in enumerate(answers):
        chunks = events(text)
        n, row = counts[i], log.id.index(f"r_{i}")
        assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-r_{i}"}
        role, *tokens, usage = chunks
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert len(tokens) == n == log.tokens[row] == log.asked[row]
        assert all(chunk["choices"][0]["delta"]["content"] for chunk in tokens)
        assert [chunk["choices"][0]["finish_reason"] for chunk in tokens] == [None] * (n - 1) + ["length"]
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == n
        assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + n
        # One clock: what the server wrote lies between what this client sent and what it had read.
        assert before < log.arrival_ns[row] < log.first_ns[row] <= log.last_ns[row] < after
    # Deadlines are absolute and exact; only the writes can be late, never early.
    assert (log.first_ns - log.late_first_ns == log.arrival_ns + 20_000_000).all()
    assert (log.last_ns >= log.arrival_ns + 20_000_000 + (log.asked - 1) * 2_000_000).all()
    assert (log.late_first_ns >= 0).all()
    assert (log.late_max_ns >= log.late_first_ns).all()
    assert (log.late_sum_ns >= log.late_max_ns).all()
    assert (log.ttft_ns >= 20_000_000).all()
    assert log.late_mean_ms >= 0


@each_kind
def test_completions_default_length_and_whole_answers(kind: Kind) -> None:
    with (
        kind(ttft_ms=1, step_ms=0, tokens=5, models=("a", "b/c")) as mock,
        httpx.Client(base_url=mock.url, timeout=120) as client,
    ):
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["a", "b/c"]
        assert client.get("/health").status_code == 200
        text = client.post("/v1/completions", json={"model": "b/c", "prompt": "x", "stream": True}).text
        chunks = events(text)
        assert [chunk["model"] for chunk in chunks] == ["b/c"] * 5
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert not any("usage" in chunk for chunk in chunks)
        whole = client.post("/v1/completions", json={"prompt": "x", "max_tokens": 3}).json()
        assert whole["model"] == "a"
        assert whole["choices"][0]["text"] == "".join(chunk["choices"][0]["text"] for chunk in chunks[:3])
        assert whole["usage"]["completion_tokens"] == 3
        both = {"prompt": "x", "max_tokens": 3, "max_completion_tokens": 2}
        assert client.post("/v1/completions", json=both).json()["usage"]["completion_tokens"] == 2
        quoted = {
            "prompt": 'say "max_tokens": 9, \\',
            "x": [{"max_tokens": 8}],
            "y": {"stream": True},
            "max_tokens": 4,
        }
        assert client.post("/v1/completions", json=quoted).json()["usage"]["completion_tokens"] == 4
        log = mock.log()  # from the running server
    assert log.tokens.tolist() == [5, 3, 2, 4]
    assert mock.stop().tokens.tolist() == [5, 3, 2, 4]


@each_kind
def test_join_and_merge_keep_the_first_token_alone_and_the_counts(kind: Kind) -> None:
    words = ""
    for options, sizes in (
        ({}, [1] * 9),
        ({"merge": 4}, [1] * 9),
        ({"join": 4}, [1, 4, 4]),
        ({"join": 5}, [1, 5, 3]),
    ):
        with kind(ttft_ms=1, step_ms=1, **options) as mock:
            text = httpx.post(f"{mock.url}/v1/chat/completions", json=body(9), timeout=120).text
            log = mock.stop()
        _, *tokens, usage = events(text)
        said = [chunk["choices"][0]["delta"]["content"] for chunk in tokens]
        assert [len(piece.encode()) // 6 for piece in said] == sizes  # every word has six bytes
        assert usage["usage"]["completion_tokens"] == 9
        words = words or "".join(said)
        assert "".join(said) == words
        assert log.tokens.tolist() == [9]
        assert log.first_ns[0] - log.late_first_ns[0] == log.arrival_ns[0] + 1_000_000


@each_kind
async def test_tick_puts_every_write_on_one_grid(kind: Kind) -> None:
    async with (
        kind(ttft_ms=3, step_ms=7, tick_ms=10) as mock,
        httpx.AsyncClient(base_url=mock.url, timeout=120) as client,
    ):
        await asyncio.gather(*[client.post("/v1/chat/completions", json=body(3)) for _ in range(8)])
        log = mock.log()
    due = log.first_ns - log.late_first_ns
    assert len({int(at) % 10_000_000 for at in due}) == 1
    assert (due >= log.arrival_ns + 3_000_000).all()
    assert (due < log.arrival_ns + 13_000_000).all()


@each_kind
async def test_metrics_count_what_really_happens(kind: Kind) -> None:
    async with (
        kind(ttft_ms=1, step_ms=1) as mock,
        httpx.AsyncClient(base_url=mock.url, timeout=120) as client,
    ):

        async def value(name: str) -> float:
            text = (await client.get("/metrics")).text
            return sum(float(line.rpartition(" ")[2]) for line in text.split("\n") if line.startswith(name))

        await asyncio.gather(*[client.post("/v1/chat/completions", json=body(6)) for _ in range(4)])
        assert await value("vllm:generation_tokens_total") == 24
        assert await value("vllm:time_to_first_token_seconds_count") == 4
        assert await value("vllm:e2e_request_latency_seconds_count") == 4
        assert await value("vllm:inter_token_latency_seconds_count") == 20
        assert await value("vllm:num_requests_running") == 0
        assert await value("vllm:kv_cache_usage_perc") == 0
        request = client.build_request("POST", "/v1/chat/completions", json=body(10_000_000))
        answer = await client.send(request, stream=True)
        assert await value("vllm:num_requests_running") == 1
        assert await value("vllm:kv_cache_usage_perc") > 0
        await answer.aclose()  # the client goes away
        while await value("vllm:num_requests_running"):
            await asyncio.sleep(0.01)
        assert await value('vllm:request_success_total{engine="0",finished_reason="abort"') == 1
        assert await value('vllm:request_success_total{engine="0",finished_reason="length"') == 4
        generated = await value("vllm:generation_tokens_total")
    log = mock.stop()
    assert log.end == ["done"] * 4 + ["cut"]
    assert log.tokens.sum() == generated
    assert log.done.tolist() == [True] * 4 + [False]


@each_kind
def test_a_request_under_way_at_the_end_is_open(kind: Kind) -> None:
    with (
        kind(ttft_ms=1, step_ms=1) as mock,
        httpx.Client(base_url=mock.url, timeout=120) as client,
        client.stream("POST", "/v1/chat/completions", json=body(10_000_000)) as answer,
    ):
        lines = answer.iter_lines()
        assert any('"content":" token"' in line for line in lines)
        log = mock.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)
    assert log.end == ["open"]
    assert log.tokens[0] >= 1
    assert log.first_ns[0] >= log.arrival_ns[0]


def request(n: int, *fields: str, path: str = "/v1/chat/completions") -> bytes:
    """A raw request of n tokens."""
    data = json.dumps(body(n)).encode()
    head = [f"POST {path} HTTP/1.1", "host: mock", f"content-length: {len(data)}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the connection; a reset counts as its end."""
    parts = []
    try:
        while part := sock.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@each_kind
def test_keep_alive_pipelining_and_requests_in_pieces(kind: Kind) -> None:
    with kind(ttft_ms=1, step_ms=1) as mock:
        with socket.create_connection(("127.0.0.1", mock.port), timeout=120) as sock:
            both = request(2, "x-request-id: one") + request(3, "x-request-id: two", "connection: close")
            for at in range(0, len(both), 7):
                sock.sendall(both[at : at + 7])
            text = read_all(sock)
        log = mock.stop()
    assert text.count(b"HTTP/1.1 200 OK") == 2
    assert text.count(b"data: [DONE]") == 2
    assert text.index(b"chatcmpl-two") > text.rindex(b"chatcmpl-one")
    assert log.id == ["one", "two"]
    assert log.arrival_ns[1] >= log.last_ns[0]


@each_kind
def test_a_reader_that_stops_reading_gets_every_byte_later(kind: Kind) -> None:
    n = 40_000
    with kind(ttft_ms=0, step_ms=0) as mock:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(60)
            sock.connect(("127.0.0.1", mock.port))
            sock.sendall(request(n, "x-request-id: slow", "connection: close"))
            # It writes until the kernel takes no more, and stays there, ...
            written, same = -1, 0
            while same < 10:
                time.sleep(0.1)
                page = httpx.get(f"{mock.url}/metrics", timeout=120).text
                now = int(re.findall(r"vllm:generation_tokens_total\S+ (\d+)", page)[0])
                written, same = now, same + 1 if now == written else 0
            assert 0 < written < n
            # ... while another client is served.
            assert (
                len(events(httpx.post(f"{mock.url}/v1/chat/completions", json=body(3), timeout=120).text))
                == 5
            )
            text = read_all(sock)
        log = mock.stop()
    assert text.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert text.count(b'"token_ids":null') == n
    slow = log.id.index("slow")
    assert log.tokens[slow] == n
    assert log.blocked[slow] > 0
    assert log.first_ns[slow] <= log.last_ns[slow]


BAD = [
    (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
    (b"GET /v1/completions HTTP/1.1\r\n\r\n", 405),
    (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", 400),
    (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 16\r\n\r\n" + b'{"max_tokens":0}', 400),
    (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 13\r\n\r\n" + b'{"model":"z"}', 404),
    (b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
    (b"GET /health HTTP/1.0\r\n\r\n", 505),
    (b"hello\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nx: " + b"a" * (64 << 10), 431),
]


@each_kind
def test_bad_requests_get_an_error_in_openais_shape(kind: Kind) -> None:
    with kind() as mock:
        for sent, status in BAD:
            with socket.create_connection(("127.0.0.1", mock.port), timeout=120) as sock:
                sock.sendall(sent)
                text = b""
                while b"}}" not in text and (part := sock.recv(1 << 16)):
                    text += part
            assert text.startswith(b"HTTP/1.1 %d " % status), (sent[:60], text)
            assert json.loads(text.partition(b"\r\n\r\n")[2])["error"]["code"] == status
        assert len(mock.stop()) == 0


@each_kind
def test_ends_with_its_stdin_on_sigterm_and_with_its_parent(kind: Kind, tmp_path: Path) -> None:
    with kind() as mock:
        command = [*mock.command(), "--port=0", "--ttft-ms=1", f"--log={tmp_path / 'log'}"]
        mock.stop()
    root = Path(__file__).parents[2]
    for ending in ("stdin", "sigterm"):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        assert child.stdin is not None
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        httpx.post(f"{url}/v1/chat/completions", json=body(2), headers={"x-request-id": ending}, timeout=120)
        if ending == "stdin":
            child.stdin.close()
        else:
            child.send_signal(signal.SIGTERM)
        assert child.wait(120) == 0
        assert parse_log((tmp_path / "log").read_text()).id == [ending]
        child.stdin.close()
        child.stdout.close()

    name = kind.__name__  # type: ignore[attr-defined]
    code = f"from {kind.__module__} import {name} as M; m = M().start(); print(m.pid, flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    eventually(lambda: gone(pid), "the mock outlived its killed parent")
    parent.stdin.close()
    parent.stdout.close()


@each_kind
def test_what_goes_wrong_at_the_start_is_said(kind: Kind) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MockError, match="port"):
            kind(port=taken.getsockname()[1]).start()
    with pytest.raises(MockError, match="step-ms"):
        kind(step_ms=-1).start()
    with pytest.raises(MockError, match="not running"):
        assert kind().url
    mock = kind().start()
    os.kill(mock.pid, signal.SIGKILL)
    with pytest.raises(MockError, match="it had ended with -9"):
        mock.stop()


def test_a_log_is_read_or_refused() -> None:
    head = "\t".join(("id", *COLUMNS, "end")) + "\n"
    log = parse_log(head + "a\t1\t2\t3\t4\t5\t6\t7\t8\t9\tdone\n")
    assert (log.id, log.end) == (["a"], ["done"])
    assert [int(column[0]) for column in (log.arrival_ns, log.first_ns, log.last_ns, log.tokens)] == [
        1,
        2,
        3,
        4,
    ]
    assert log.late_mean_ms == 8 / 4 / 1e6
    assert np.isnan(parse_log(head).late_mean_ms)
    with pytest.raises(ValueError, match="not a mock's log"):
        parse_log("")
    with pytest.raises(ValueError, match="line 2"):
        parse_log(head + "a\t1\n")


def test_without_a_compiler_it_says_so_and_falls_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("RVTOP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(NoCompiler, match=r"compiler|Linux"):
        compiler()
    with pytest.raises(NoCompiler, match="PythonMock"):
        FastMock().start()
    assert isinstance(any_mock(), PythonMock)


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")
def test_it_is_compiled_once_for_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RVTOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fast, "FLAGS", ("-O0", *fast.FLAGS[1:]))  # how fast it is does not matter here
    program = build()
    stamp = program.stat().st_mtime_ns
    assert build() == program
    assert program.stat().st_mtime_ns == stamp
    assert isinstance(any_mock(), FastMock)
    changed = tmp_path / "source"
    shutil.copytree(fast.HERE, changed)
    (changed / "record.h").write_text((changed / "record.h").read_text() + "\n/* other */\n")
    monkeypatch.setattr(fast, "HERE", changed)
    assert build() != program
    (changed / "record.h").write_text("this is no C")
    with pytest.raises(MockError, match=r"could not build mock\.c"):
        build()
    assert len(list((tmp_path / "cache" / "mock").iterdir())) == 2
