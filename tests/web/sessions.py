"""A real ``rvtop run --serve`` on a mock server, and what a browser would ask of it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from tests.unit.processes import children

LIMIT_S = 240.0


class Served:
    """The process and the address that it said."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process = process
        self.out = out
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"rvtop: web view: (http://(\S+?)/\?token=(\S+))\n", line)
        assert found, line
        self.url, self.netloc, self.token = found.groups()
        self.base = f"http://{self.netloc}"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def below(self, word: str) -> dict[int, str]:
        """Its descendants with ``word`` in their command lines."""
        return {pid: line for pid, line in children(self.process.pid).items() if word in line}


@contextmanager
def served(target: str, out: Path, *more: str) -> Iterator[Served]:
    """A run at 5 requests a second until somebody ends it."""
    run = ("run", "--target", target, "--rate", "5", "--duration", "2h", "--out", str(out), "--ui", "none")
    with serving(out, *run, "--serve", *more) as running:
        yield running


@contextmanager
def serving(out: Path, *words: str) -> Iterator[Served]:
    """``rvtop`` with these words, killed at the end."""
    command = [sys.executable, "-P", "-m", "rvtop.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield Served(process, out)
        finally:
            process.kill()


def client() -> aiohttp.ClientSession:
    """A browser's cookies for addresses without a name."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


class Viewing:
    """A websocket as the page opens it; ``drawn`` is all that came to draw, ``told`` what
    else the page was told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.drawn = b""
        self.told: list[list[object]] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                self.drawn += message.data
            elif message.type == aiohttp.WSMsgType.TEXT:
                self.told.append(message.json())

    @property
    def text(self) -> str:
        """What was drawn, without the codes between."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.drawn.decode("utf-8", "replace"))

    async def until(self, true: Callable[[], object], why: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not true():
                assert not self.socket.closed or true(), f"closed before {why}: {self.text[-400:]}"
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self.socket.close()
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)


async def view(session: aiohttp.ClientSession, base: str, size: str = "width=120&height=40") -> Viewing:
    """Opens a viewer; the session must have the cookie."""
    return Viewing(await session.ws_connect(f"{base}/ws?{size}", origin=base, max_msg_size=0))
