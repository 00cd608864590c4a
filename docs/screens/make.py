"""Records docs/screens from real sessions: a film of the dashboard while vLLM on Ray serves, and stills.

``make pictures`` runs it (about two minutes)."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from textual.pilot import Pilot

from rvtop.session.client import RemoteSession
from rvtop.session.request import shipped_request, topology_options
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.svg import Picture, film, picture_of, still
from rvtop.ui.theme import DARK, Styles

FOLDER = Path(__file__).parent
SIZE = (120, 40)
FRAME_S = 0.5
#: What the last picture stands, seconds.
LAST_S = 3.0


class Camera:
    """Takes pictures of ``app`` every FRAME_S while it records."""

    def __init__(self, app: RvtopApp) -> None:
        self._app = app
        self.frames: list[tuple[Picture, float]] = []

    def still(self, name: str) -> None:
        """Keeps what the screen shows now as ``name``.svg."""
        (FOLDER / f"{name}.svg").write_text(still(picture_of(self._app), f"rvtop: {name}"), "utf-8")
        print(f"{name}.svg", flush=True)

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Records while the context is open."""
        task = asyncio.create_task(self._record())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _record(self) -> None:
        while True:
            shot = picture_of(self._app)
            if self.frames and self.frames[-1][0] == shot:
                self.frames[-1] = (shot, self.frames[-1][1] + FRAME_S)
            else:
                self.frames.append((shot, FRAME_S))
            await asyncio.sleep(FRAME_S)

    def film(self, name: str) -> None:
        """Writes what was recorded as ``name``.svg."""
        *frames, (last, _) = self.frames
        (FOLDER / f"{name}.svg").write_text(film([*frames, (last, LAST_S)], "rvtop"), "utf-8")
        print(f"{name}.svg: {len(self.frames)} frames", flush=True)


async def until(true: Callable[[], bool], limit_s: float = 180.0) -> None:
    """Waits until it is so. Raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("what is to be recorded never came")
        await asyncio.sleep(0.1)


async def steer(pilot: Pilot[int], camera: Camera, app: RvtopApp) -> None:
    """The session of the film: load, a higher rate, what the servers do, the slowest requests."""

    def sent() -> int:
        live = app.session_screen
        return 0 if live is None or live.newest is None else live.newest.load.sent

    async def press(*keys: str, then_s: float = 2.0) -> None:
        await pilot.press(*keys)
        await asyncio.sleep(then_s)

    await until(
        lambda: app.live is not None and app.live.newest is not None and app.live.newest.state == "starting"
    )
    await asyncio.sleep(2)
    camera.still("start-steps")
    await until(lambda: sent() > 20)
    async with camera.recording():
        await asyncio.sleep(4)
        await press("up", "up", "up", then_s=6)
        await press("right_curly_bracket", then_s=8)
        camera.still("live")
        await press("2", then_s=4)
        camera.still("map")
        await press("3", then_s=4)
        camera.still("requests")
        await press("1", then_s=3)
    camera.film("rvtop")
    await press("tab", "question_mark", then_s=0.5)
    camera.still("help")
    await press("escape", "escape", "colon", "r", "a", then_s=0.5)
    camera.still("palette")
    await press("escape", "g", then_s=0.5)
    camera.still("rate")
    await press("escape", then_s=0.2)


async def main() -> None:
    """Records all."""
    with tempfile.TemporaryDirectory() as folder:
        backend = topology_options("rvc", models=(), port=0, arguments=())
        request = shipped_request("chat", Path(folder) / "run", backend=backend, live=True)
        session = await RemoteSession().start(request)
        app = RvtopApp(session, yes=True, look=Look(Styles(DARK)))
        try:
            async with app.run_test(size=SIZE) as pilot:
                await steer(pilot, Camera(app), app)
        finally:
            await session.close()


if __name__ == "__main__":
    asyncio.run(main())
