"""``--serve``: browsers that guess, flood, dawdle, never read and lie; the run beside them goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import end_all, ended, folder, lines, mock, rvtop, until
from tests.unit.processes import alive, children
from tests.web.sessions import Served, client, served, view

_VIEWER = "attach"


@contextlib.contextmanager
def shown(*words: str) -> Iterator[Served]:
    """A run with a web view. It must still send, and end well, when the attempt on it is over."""
    with mock() as server, tempfile.TemporaryDirectory() as base:
        with served(server.url, Path(base) / "run", *words) as running:
            until(lambda: lines(running.out) >= 3, "three requests")
            yield running
            before = lines(running.out)
            until(lambda: lines(running.out) >= before + 3, "three more requests")
            below = children(running.process.pid)
            running.process.send_signal(signal.SIGINT)
            assert running.process.stderr is not None
            said = running.process.stderr.read()
            assert running.process.wait(60) == 130, said
            assert "Traceback" not in said and running.token not in said, said
            until(lambda: not any(alive(pid) for pid in below), "the end of all")
        assert not running_files(running)
    end_all()


def running_files(running: Served) -> list[str]:
    """Files of the run folder that hold the token."""
    found = [path for path in running.out.rglob("*") if path.is_file()]
    return [path.name for path in found if running.token.encode() in path.read_bytes()]


def browse(running: Served, visit: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    """What a browser that was let in does."""

    async def go() -> None:
        async with client() as session:
            async with session.get(running.url) as answer:
                assert answer.status == 200
            await visit(session)

    asyncio.run(go())


@attempt(
    "2000 guesses of the token and the cookie, long ones and odd ones: 403, and nothing told", limit_s=150
)
def views_guesses() -> None:
    odd = ["", "x" * 6000, "%00", "%ff%fe", "' or 1=1", "../../etc/passwd", "%0d%0aSet-Cookie:%20a=b"]

    with shown() as running:

        async def guess() -> None:
            async with client() as session:
                for number in range(2000):
                    token = odd[number % len(odd)] if number < 50 else f"{number:032x}"
                    path = ("/", "/ws", "/static/../../server.py", "/download/x")[number % 4]
                    cookies = {f"rvtop-{running.port}": f"{number:032x}"}
                    url = f"{running.base}{path}?token={token}"
                    async with session.get(url, cookies=cookies) as answer:
                        assert answer.status in (400, 403), (url, answer.status)
                        assert "Set-Cookie" not in answer.headers and running.token not in await answer.text()

        asyncio.run(guess())


@attempt(
    "a port scanner, TLS, HTTP/2, endless heads, 200 connections that say nothing: the view still answers"
)
def views_garbage() -> None:
    with shown() as running:
        idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
        garbage = (
            b"\x16\x03\x01\x02\0",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /" + b"a" * 100_000,
            b"\0" * 999,
        )
        garbage += (
            b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
            b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        )
        for text in garbage:
            with socket.create_connection(("127.0.0.1", running.port)) as one, contextlib.suppress(OSError):
                one.settimeout(5)
                one.sendall(text)
                assert b"Traceback" not in one.recv(1 << 16)

        async def look(session: aiohttp.ClientSession) -> None:
            async with session.get(running.base) as answer:
                assert answer.status == 200

        browse(running, look)
        for one in idle:
            one.close()


@attempt(
    "a viewer that never reads, one that floods keys, one that sends huge messages: others see on",
    limit_s=200,
)
def views_hostile_viewers() -> None:
    with shown() as running:

        async def visit(session: aiohttp.ClientSession) -> None:
            deaf = await session.ws_connect(f"{running.base}/ws", origin=running.base, max_msg_size=0)
            flood = await view(session, running.base)
            for _ in range(3000):
                await flood.socket.send_json(["stdin", "?:\x1b[A1 2 3 \x1b" * 10])
            await flood.socket.send_json(["resize", {"width": 1, "height": 1}])
            huge = await view(session, running.base)
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await huge.socket.send_str("[" + "1," * (1 << 20) + "1]")
            good = await view(session, running.base)
            await good.until(lambda: "READ-ONLY" in good.text, "the picture of a good one")
            seen = len(good.drawn)
            await good.until(lambda: len(good.drawn) > seen, "a further picture")
            for one in (flood, huge, good):
                await one.close()
            await deaf.close()

        browse(running, visit)
        until(lambda: not running.below(_VIEWER), "the end of the viewers")


@attempt("30 browsers at once, that come and go: 8 see it, the others are told; nothing is left", limit_s=200)
def views_many() -> None:
    with shown() as running:

        async def visit(session: aiohttp.ClientSession) -> None:
            async def one() -> bool:
                try:
                    socket = await session.ws_connect(f"{running.base}/ws", origin=running.base)
                except aiohttp.WSServerHandshakeError as error:
                    assert error.status == 503, error
                    return False
                await asyncio.sleep(0.5)
                await socket.close()
                return True

            got = await asyncio.gather(*(one() for _ in range(30)))
            assert 8 <= sum(got) < 30, got

        browse(running, visit)
        until(lambda: not running.below(_VIEWER), "the end of the viewers")


@attempt("viewers killed, stopped (SIGSTOP) and cut off: the run and the others go on", limit_s=200)
def views_viewers_killed() -> None:
    with shown() as running:

        async def visit(session: aiohttp.ClientSession) -> None:
            views = [await view(session, running.base) for _ in range(3)]
            for one in views:
                await one.until(lambda one=one: "READ-ONLY" in one.text, "a picture")
            first, second, _ = sorted(running.below(_VIEWER))
            os.kill(first, signal.SIGKILL)
            os.kill(second, signal.SIGSTOP)
            seen = [len(one.drawn) for one in views]
            await asyncio.sleep(3)
            assert sum(len(one.drawn) > before for one, before in zip(views, seen, strict=True)) >= 1
            for one in views:
                transport = one.socket._response.connection
                if transport is not None and transport.transport is not None:
                    transport.transport.abort()
                await one.close()

        browse(running, visit)
        until(lambda: not running.below(_VIEWER), "the end of the viewers, the stopped one too")


@attempt("--serve-on a port that is taken, one of root's, no host, a name that is none: one line, exit 2")
def views_places() -> None:
    with mock() as server, socket.create_server(("127.0.0.1", 0)) as taken:
        places = [
            f"127.0.0.1:{taken.getsockname()[1]}",
            "127.0.0.1:99999",
            "no.such.host.invalid:0",
            "x",
            ":",
        ]
        for place in [*places, "203.0.113.1:0", "[::1", ""]:
            run = folder() / "run"
            words = ("--rate", 5, "--duration", "1s", "--ui", "none", "--serve-on", place, "--out", run)
            done = ended(rvtop("run", "--target", server.url, *words), run)
            assert done.code == 2 and len(done.err.splitlines()) == 1, (place, done.code, done.err)
            assert not run.exists(), place


@attempt("the web view's process is killed and stopped: the run goes on, and ends")
def views_process_killed() -> None:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        with shown() as running:
            (web,) = running.below("rvtop.web")
            os.kill(web, number)
            time.sleep(1)
