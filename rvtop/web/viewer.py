"""One viewer: a process that draws the session's dashboard for one browser."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from rvtop.ipc import child
from rvtop.text import log_line
from rvtop.web import DRIVER

#: Cells of a browser's window that a viewer draws at most.
MOST_COLUMNS, MOST_ROWS = 500, 200
_FPS = "20"
_QUIT_S = 2.0  # a viewer has to end by itself, then it is killed
_READY = b"__GANGLION__\n"  # Textual's web driver: packets follow
_TAIL = 4096  # bytes of what a viewer wrote to stderr last


class Viewer(AppService):
    """Draws for one browser, whose websocket ``write_bytes`` and the others are."""

    def __init__(
        self,
        arguments: list[str],
        *,
        write_bytes: Callable[[bytes], Awaitable[None]],
        write_str: Callable[[str], Awaitable[None]],
        close: Callable[[], Awaitable[object]],
        downloads: DownloadManager,
    ) -> None:
        async def close_it() -> None:
            await close()

        super().__init__(
            "",
            write_bytes=write_bytes,
            write_str=write_str,
            close=close_it,
            download_manager=downloads,
        )
        self._arguments = arguments

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        made = super()._build_environment(width, height)
        made |= {"TEXTUAL_DRIVER": DRIVER, "TEXTUAL_FPS": _FPS, "COLORTERM": "truecolor"}
        made |= {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
        return made

    async def _open_app_process(self, width: int = 80, height: int = 24) -> asyncio.subprocess.Process:
        process = await child.start(
            *child.module_command("rvtop.cli", *self._arguments),
            stderr=asyncio.subprocess.PIPE,
            env=self._build_environment(width, height),
        )
        assert process.stdin is not None
        self._process, self._stdin = process, process.stdin
        return process

    async def run(self) -> None:
        """Passes on what the viewer draws, until it has ended; one that ended before says why."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(_tail(process.stderr))
        ready = False
        try:
            while line := await process.stdout.readline():
                if line == _READY:
                    ready = True
                    break
            while ready:
                head = await process.stdout.readexactly(5)
                await self._take(head[:1], await process.stdout.readexactly(int.from_bytes(head[1:], "big")))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass  # the viewer or its browser has gone, or it drew what can't be read
        except asyncio.CancelledError:
            errors.cancel()
            raise
        with contextlib.suppress(ConnectionError):
            if not ready:
                why = log_line((await errors).rpartition("\n")[2]) or "it said nothing"
                await self.remote_write_bytes(f"the dashboard could not be drawn: {why}\r\n".encode())
            await self.remote_close()
        errors.cancel()

    async def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == b"D":
            await self.on_data(payload)
        elif kind == b"M":
            await self.on_meta(payload)
        elif kind == b"P":
            await self.on_packed(payload)

    async def set_terminal_size(self, width: int, height: int) -> None:
        await super().set_terminal_size(*size_of(width, height))

    async def stop(self) -> None:
        """Ends the viewer's process, which is gone when this returns."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_QUIT_S):
                await super().stop()
        if self._process is not None:
            child.kill(self._process)
            await self._process.wait()


def size_of(width: object, height: object) -> tuple[int, int]:
    """A browser's columns and rows; what is none, or too many, becomes some that can be drawn."""
    try:
        return (
            max(1, min(MOST_COLUMNS, int(width))),  # type: ignore[call-overload]
            max(1, min(MOST_ROWS, int(height))),  # type: ignore[call-overload]
        )
    except (TypeError, ValueError, OverflowError):
        return 80, 24


async def _tail(errors: asyncio.StreamReader) -> str:
    tail = b""
    while data := await errors.read(_TAIL):
        tail = (tail + data)[-_TAIL:]
    return tail.decode("utf-8", "replace").strip()
