"""What a session learns of a gRPC target, which it asks by a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rvtop.errors import UserError
from rvtop.net.transport import Transport
from rvtop.target.grpc_probe import ask_grpc, grpc_url, trouble
from rvtop.target.probe import TargetError, answers, ask, base_url, probe
from rvtop.telemetry.discover import sources_for
from rvtop.telemetry.prometheus import PrometheusSource
from tests.mock.process import GrpcMock


@pytest.fixture(scope="module")
def mock() -> Iterator[GrpcMock]:
    with GrpcMock(ttft_ms=1, step_ms=1, tokens=4, models=("a", "b")) as running:
        yield running


async def test_a_target_is_asked_and_warmed_up(mock: GrpcMock) -> None:
    info = await probe(f"{mock.url}/rvtop.v1.Generation")
    assert (info.url, info.models, info.engine) == (mock.url, ("a", "b"), "mock")
    assert (info.topology, info.pages) == (None, mock.url)
    assert await answers(info.url)
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "q"}], "max_tokens": 2}'
    told = await ask_grpc(mock.url, {"X-A": "1"}, Transport(), 60.0, [body % b"a", body % b"b"])
    assert (told["error"], told["ready"]) == (None, True)
    assert not [s for s in sources_for(info.url) if isinstance(s, PrometheusSource)]
    with pytest.raises(TargetError, match="has no HTTP pages"):
        ask(f"{info.url}/metrics", Transport())


async def test_a_target_that_is_none() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(TargetError, match="nothing answers there"):
            await probe(url)
        assert not await answers(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("grpc://host", "should look like grpc://host:50051"),
        ("grpc://user:secret@host:1", "shows in process lists"),
        ("grpc://host:1?x=1", "should look like"),
        ("grpc://host:port", "not a URL"),
    ],
)
def test_urls_that_are_none(url: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        base_url(url)
    assert raised.value.exit_code == 2
    assert "secret" not in str(raised.value)


def test_urls_and_troubles() -> None:
    assert grpc_url("grpc://[::1]:5/a.B/") == "grpc://[::1]:5/a.B"
    assert trouble("u", ["missing", "gRPC is not installed"]) == ("u: gRPC is not installed", 2)
    assert trouble("u", ["http_401", "no\x1b[31mkey"])[1] == 3
    assert "\x1b" not in trouble("u", ["reset", "no\x1b[31mkey"])[0]
