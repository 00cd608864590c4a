"""A headless Chromium with one tab, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
LIMIT_S = 240.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

#: One text a violation.
_AXE = """
axe.run(document, {resultTypes: ['violations']}).then(told => JSON.stringify(told.violations
  .filter(one => ['serious', 'critical'].includes(one.impact))
  .map(one => `${one.id}: ${one.help}: ${one.nodes[0].html} (${one.nodes.length})`)))
"""


class Tab:
    """A page; ``frames`` holds what came by its websockets, ``log`` what it wrote to its console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.frames = b""
        self.log: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(LIMIT_S):
            return await self._answers[number]

    async def open(self, url: str, width: int = 1280, height: int = 800) -> None:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """What a line of JavaScript says on the page."""
        answer = await self.call("Runtime.evaluate", expression=script)
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not await self.value(script):
                await asyncio.sleep(0.1)

    async def until_drawn(self, text: str) -> None:
        """Waits until ``text`` came in one piece."""
        async with asyncio.timeout(LIMIT_S):
            while text.encode() not in self.frames:
                await asyncio.sleep(0.05)

    async def faults(self) -> list[str]:
        """What axe-core finds on the page that is serious or critical, in light and in dark: the rule, and
        the first element."""
        spec = find_spec("axe_playwright_python")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        await self.call(
            "Runtime.evaluate",
            expression=Path(spec.submodule_search_locations[0], "axe.min.js").read_text("utf-8"),
        )
        found = []
        for scheme in ("light", "dark"):
            told = [{"name": "prefers-color-scheme", "value": scheme}]
            await self.call("Emulation.setEmulatedMedia", features=told)
            answer = await self.call("Runtime.evaluate", expression=_AXE, awaitPromise=True)
            found += [f"{scheme}: {one}" for one in json.loads(answer["result"]["value"])]
        return found

    async def picture(self, path: Path) -> int:
        """Writes what is drawn as a PNG; returns its bytes."""
        answer = await self.call("Page.captureScreenshot")
        return path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told.get("result", told))
            elif told["method"] == "Network.webSocketFrameReceived":
                frame = told["params"]["response"]
                binary = frame["opcode"] == 2
                self.frames += base64.b64decode(frame["payloadData"]) if binary else b""
            elif told["method"] == "Log.entryAdded":
                self.log.append(told["params"]["entry"]["text"])


@asynccontextmanager
async def tab() -> AsyncIterator[Tab]:
    """A tab of a new Chromium, which has ended afterwards."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *_FLAGS,
            f"--user-data-dir={folder}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": folder},  # or it leaves folders of its own in that of the tests
        )
        try:
            async with aiohttp.ClientSession() as client:
                pages = await _pages(client, Path(folder) / "DevToolsActivePort")
                async with client.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    made = Tab(socket)
                    yield made
                    await made.close()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _pages(client: aiohttp.ClientSession, file: Path) -> list[dict[str, Any]]:
    async with asyncio.timeout(LIMIT_S):
        while True:
            with suppress(OSError, IndexError, ValueError, aiohttp.ClientError):
                port = int(file.read_text("utf-8").split()[0])
                async with client.get(f"http://127.0.0.1:{port}/json") as answer:
                    if pages := [p for p in await answer.json() if p["type"] == "page"]:
                        return pages
            await asyncio.sleep(0.05)
