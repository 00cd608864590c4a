"""Hosts of several addresses, of which one swallows what is sent there, and zones of IPv6."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop

import rvtop.net.http_get
from rvtop.load.wire.endpoint import Address, Endpoint, _place
from rvtop.load.wire.tls import Tls
from rvtop.net.http_get import get
from rvtop.net.transport import Transport, names_of
from tests.mock.faulty import FaultyServer, blackhole_port, refusing_port


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    made: asyncio.AbstractEventLoopPolicy = request.param()
    return made


class Noting(asyncio.Protocol):
    """Notes its connections."""

    def __init__(self, tls: Tls | None = None) -> None:
        assert tls is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def test_the_next_address_is_tried_beside_one_that_does_not_answer() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        good = server.sockets[0].getsockname()
        with blackhole_port() as swallows, refusing_port() as refuses:
            target = Endpoint(Address("http://both"))
            target._resolved = [("127.0.0.1", refuses), ("127.0.0.1", swallows), good]
            async with asyncio.timeout(240):  # the black hole alone takes two minutes
                made = await target.open(Noting)
            assert made.transport.get_extra_info("peername") == good
            assert target._resolved[0] == good  # the next ones begin with it
            made.transport.close()
            target._resolved = [("127.0.0.1", refuses), ("127.0.0.1", refuses)]
            with pytest.raises(ConnectionRefusedError):
                await target.open(Noting)


async def test_one_that_comes_second_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await reader.read()
            closed.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        good = server.sockets[0].getsockname()
        target = Endpoint(Address("http://both"))
        target._resolved = [good, good]
        open_one = target._open_one
        first = True

        async def late(factory: Any, address: Any) -> Any:
            nonlocal first
            if not first:
                return await open_one(factory, address)
            first = False
            made = await open_one(factory, address)
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                return made  # it stood just then

        monkeypatch.setattr(target, "_open_one", late)
        made = await target.open(Noting)
        await asyncio.wait_for(closed.wait(), 240)
        assert not made.transport.is_closing()
        made.transport.close()


def test_a_first_look_tries_the_next_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer() as server, blackhole_port() as swallows:
        good = server._ports[""]
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in (swallows, good)
        ]
        monkeypatch.setattr(rvtop.net.http_get.socket, "getaddrinfo", lambda *_, **__: list(found))
        seen: list[int] = []
        asked = threading.Thread(
            target=lambda: seen.append(get("http://both/v1/models", Transport(), {}, 600.0)[0]), daemon=True
        )
        asked.start()
        asked.join(240)  # the black hole alone takes two minutes
        assert seen == [200]
        found.pop()
        with pytest.raises(TimeoutError):
            get("http://both/v1/models", Transport(), {}, 0.3)
        with refusing_port() as refuses:
            found[:] = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", refuses))]
            with pytest.raises(ConnectionRefusedError):
                get("http://both/v1/models", Transport(), {}, 60.0)


@pytest.mark.parametrize("written", ["fe80::1%25eth0", "fe80::1%eth0"])
def test_a_zone_is_looked_up_and_not_told(written: str) -> None:
    url = f"http://[{written}]:8000"
    assert names_of(urlsplit(url)) == ("fe80::1%eth0", "fe80::1")
    head = Endpoint(Address(url)).request(b"{}", "x")
    assert b"\r\nHost: [fe80::1]:8000\r\n" in head


def test_what_a_look_up_says_of_a_zone_is_kept() -> None:
    assert _place(("fe80::1", 80, 0, 3)) == ("fe80::1%3", 80)
    assert _place(("::1", 80, 0, 0)) == ("::1", 80)
    assert _place(("127.0.0.1", 80)) == ("127.0.0.1", 80)
