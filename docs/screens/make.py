"""Records docs/screens from real sessions: a film of the dashboard while vLLM on Ray serves, and stills.

``make pictures`` runs it (about five minutes) with the small model on the CPU, into build/screens. On a host
with GPUs ``python docs/screens/make.py --out docs/screens --model NAME=DIR … --rate R --peak R --options "…"
--showdown SCENARIO --topologies …`` records what larger models do there."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from textual.pilot import Pilot

from rvtop.cli.showdown import SameForAll, check, prepared
from rvtop.cli.start_facts import first_facts, look_around
from rvtop.contract.handle import Choice, ConnectFailed, SessionHandle
from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.results.recording import read_recording
from rvtop.session.client import RemoteSession
from rvtop.session.replay import ReplaySession
from rvtop.session.request import SessionRequest, shipped_request, topology_options
from rvtop.study.live import LiveShowdown
from rvtop.ui.app import RvtopApp
from rvtop.ui.look import Look
from rvtop.ui.screens.table import SHOWDOWN_SCREENS
from rvtop.ui.svg import Picture, film, picture_of, still
from rvtop.ui.theme import DARK, Styles

SIZE = (120, 40)
FRAME_S = 0.5
#: vLLM's first start on a GPU host.
START_S = 400.0
#: What the last picture stands, seconds.
LAST_S = 3.0


class Camera:
    """Takes pictures of ``app`` every FRAME_S while it records, and keeps them in the folder ``out``."""

    def __init__(self, app: RvtopApp, out: Path) -> None:
        self._app = app
        self._out = out
        self.frames: list[tuple[Picture, float]] = []

    def still(self, name: str) -> None:
        """Keeps what the screen shows now as ``name``.svg."""
        (self._out / f"{name}.svg").write_text(still(picture_of(self._app), f"rvtop: {name}"), "utf-8")
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
        (self._out / f"{name}.svg").write_text(film([*frames, (last, LAST_S)], "rvtop"), "utf-8")
        print(f"{name}.svg: {len(self.frames)} frames", flush=True)


async def until(true: Callable[[], bool], limit_s: float = 180.0) -> None:
    """Waits until it is so. Raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("what is to be recorded never came")
        await asyncio.sleep(0.1)


async def steer(pilot: Pilot[int], camera: Camera, app: RvtopApp, asked: argparse.Namespace) -> None:
    """The session of the film: load, a higher rate before the ghost of the lower one, what the servers do,
    the slowest requests. With ``--try`` the knob of what binds is tried, and the film goes on where the load
    does."""

    def snapshot() -> Snapshot | None:
        screen = app.session_screen
        return None if screen is None else screen.newest

    async def press(*keys: str, then_s: float = 2.0) -> None:
        await pilot.press(*keys)
        await asyncio.sleep(then_s)

    def loaded() -> bool:
        s = snapshot()
        if s is None:
            return False
        if s.state in OVER:
            raise RuntimeError(s.message or s.state)
        return s.state == "running" and s.switch is None and s.load.sent > 10 and s.load.in_flight > 0

    await until(lambda: (s := snapshot()) is not None and s.state == "starting")
    await asyncio.sleep(3)
    camera.still("start-steps")
    await until(loaded, START_S)
    async with camera.recording():
        await asyncio.sleep(4)
        await press("g", *asked.rate, "enter", then_s=8)
        await press("B", "g", *asked.peak, "enter", then_s=14 if asked.try_knob else 10)
        camera.still("live")
        if asked.try_knob:
            await press("v", then_s=4)
            camera.still("verdict")
            await press("enter", then_s=3)
    if asked.try_knob:
        await until(lambda: (s := snapshot()) is not None and s.switch is not None)
        await until(loaded, START_S)
        await asyncio.sleep(6)
    async with camera.recording():
        if asked.try_knob:
            await asyncio.sleep(8)
            camera.still("tried")
        await press("2", then_s=4)
        camera.still("map")
        await press("3", then_s=4)
        camera.still("requests")
        await press("1", then_s=3)
    camera.film("rvtop")
    await press("t", then_s=2)
    camera.still("switch")
    await press("escape", "tab", "question_mark", then_s=0.5)
    camera.still("help")
    await press("escape", "escape", "colon", "r", "a", then_s=0.5)
    camera.still("palette")
    await press("escape", "g", then_s=0.5)
    camera.still("rate")
    await press("escape", then_s=0.2)


async def nothing(choice: Choice) -> SessionHandle:
    """Nothing is chosen on the Start screen here."""
    raise ConnectFailed(f"{choice.label} was not asked for")


async def start_screen(look: Look, out: Path) -> None:
    """What rvtop shows on this machine without a session."""
    app = RvtopApp(connect=nothing, facts=first_facts, look_around=look_around, look=look)
    async with app.run_test(size=SIZE):
        await asyncio.sleep(5)
        Camera(app, out).still("start")


async def session(run: Path, look: Look, asked: argparse.Namespace) -> None:
    """vLLM on Ray under load, driven by keys."""
    backend = topology_options("rvc", models=asked.model, port=0, arguments=shlex.split(asked.options))
    held = await RemoteSession().start(shipped_request(asked.scenario, run, backend=backend, live=True))
    os.nice(10)  # recording costs more than the screen itself, and would make the load's sends late
    app = RvtopApp(held, yes=True, look=look, facts=first_facts, look_around=look_around)
    try:
        async with app.run_test(size=SIZE) as pilot:
            await steer(pilot, Camera(app, asked.out), app, asked)
    finally:
        await held.close()


async def replay(run: Path, look: Look, out: Path) -> None:
    """The same session once more, from its folder."""
    app = RvtopApp(replay=ReplaySession(read_recording(run), f"runs/{run.name}"), look=look)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("shift+right", "shift+right", "shift+right", "space")
        await asyncio.sleep(0.5)
        Camera(app, out).still("replay")


async def showdown(folder: Path, look: Look, asked: argparse.Namespace) -> None:
    """Topologies on the same work."""
    same = SameForAll(model=asked.model, max_model_len=asked.max_model_len)
    run = prepared(asked.showdown, asked.topologies.split(","), folder, None, 1, same)

    async def opened(request: SessionRequest) -> RemoteSession:
        return await RemoteSession().start(request)

    live = LiveShowdown(run, opened, check).start()
    app = RvtopApp(live, yes=True, look=look, screens=SHOWDOWN_SCREENS, showdown=live)
    try:
        async with app.run_test(size=SIZE):
            await until(lambda: run.picture().over, 900)
            await asyncio.sleep(1)
            Camera(app, asked.out).still("showdown")
    finally:
        await live.close()


async def main() -> None:
    """Records all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", default=[], help="NAME=DIR; default the small model")
    parser.add_argument("--options", default="--threads 1", help="further ones of rvc's backend, as one text")
    parser.add_argument("--scenario", default="chat", help="of the film")
    parser.add_argument("--try", dest="try_knob", action="store_true", help="try the knob of what binds")
    parser.add_argument("--rate", default="4", help="requests a second of the film")
    parser.add_argument("--peak", default="8", help="and what they are raised to")
    parser.add_argument("--showdown", default="smoke", help="its scenario; none: the one that there is stays")
    parser.add_argument("--topologies", default="baseline,rac", help="of the showdown")
    parser.add_argument("--max-model-len", type=int, help="of the showdown")
    parser.add_argument("--out", type=Path, default=Path("build/screens"), help="the pictures' folder")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    look = Look(Styles(DARK))
    with tempfile.TemporaryDirectory() as folder:
        await start_screen(look, asked.out)
        await session(Path(folder) / "chat", look, asked)
        await replay(Path(folder) / "chat", look, asked.out)
        if asked.showdown != "none":
            await showdown(Path(folder) / "showdown", look, asked)


if __name__ == "__main__":
    asyncio.run(main())
