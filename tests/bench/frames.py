"""What the dashboard itself costs: ``python -m tests.bench.frames``.

CPU seconds (user and system) of the dashboard's own process while it shows a load of about 100 000 token
events a second at 10 frames a second, on each screen and in two sizes: Live, Map, Requests and Compare of the
load itself; Showdown and Replay (at 8 seconds a second) of a recording of such a load; the end card of a run;
and Start, which looks around here each 5 s. Then of all processes together while it shows a server to which
nothing is sent, and the time from a key to what it changes on the screen.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.played import record
from tests.bench.terminal import Screen, cpu_s
from tests.bench.tree import descendants
from tests.mock.fast import FastMock

_FPS = 10
_SIZES = ((120, 40), (200, 60))
_SCREENS = (("live", b"1"), ("map", b"2"), ("requests", b"3"), ("compare", b"4"))
_TOKENS, _STEP_MS, _RATE = 500, 10, 200.0  # 200 requests a second of 500 tokens each
_RAMP_S, _WARM_S, _LIMIT_S = 8.0, 2.0, 60.0
_RECORDED_S = 20
_PLAYED = [sys.executable, "-m", "tests.bench.played"]
_REPLAY = [sys.executable, "-m", "rvtop.cli", "replay", "--speed", "8"]
_LIMIT_PCT, _IDLE_PCT = 15.0, 2.0
_KEYS = 21
_KEY_MEDIAN_MS, _KEY_P95_MS = 100.0, 150.0
_PACE_S = 0.35  # no multiple of the screen's period: keys come at all moments between two frames


@dataclass(frozen=True)
class Cost:
    """CPU of one process: percent of a core, milliseconds for each update of the screen, updates a second."""

    percent: float
    frame_ms: float
    updates: float


def all_s(pid: int) -> float:
    """CPU seconds so far of a process and of all below it that live."""
    return sum(cpu_s(one) for one in (pid, *descendants(pid)))


@contextmanager
def shown(size: tuple[int, int], command: list[str]) -> Iterator[Screen]:
    """``command`` on a pseudo-terminal of ``size`` until it is left."""
    screen = Screen(command, size)
    try:
        yield screen
    finally:
        screen.leave()


@contextmanager
def dashboard(size: tuple[int, int], *arguments: str) -> Iterator[Screen]:
    """A dashboard on a pseudo-terminal of ``size`` that shows a run with these arguments."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "rvtop.cli", *arguments, "--yes", "--out", f"{folder}/run"]
    try:
        with shown(size, command) as screen:
            yield screen
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cost(screen: Screen, seconds: float) -> Cost:
    """What the screen's process takes within ``seconds`` from now."""
    before, began, drawn = cpu_s(screen.process.pid), time.monotonic(), len(screen.updates)
    screen.read(seconds)
    took, passed = cpu_s(screen.process.pid) - before, time.monotonic() - began
    frames = max(1, len(screen.updates) - drawn)
    return Cost(100 * took / passed, 1000 * took / frames, frames / passed)


def under_load(size: tuple[int, int], seconds: float, passes: int) -> dict[str, list[Cost]]:
    """What the dashboard's process takes on each screen, once a pass."""
    found: dict[str, list[Cost]] = {name: [] for name, _ in _SCREENS}
    with FastMock(ttft_ms=50, step_ms=_STEP_MS, tick_ms=_STEP_MS, tokens=_TOKENS) as mock:
        load = ["--rate", f"{_RATE:g}", "--duration", "600s", "--arrivals", "constant"]
        load += ["--output-tokens", str(_TOKENS), "--prompt-tokens", "50", "--ui", "dashboard"]
        with dashboard(size, "run", "--target", mock.url, *load) as screen:
            screen.read_until(b"running", _LIMIT_S)
            screen.read(_RAMP_S)
            for _ in range(passes):
                for name, key in _SCREENS:
                    screen.press(key)
                    screen.read(_WARM_S)
                    found[name].append(cost(screen, seconds))
    return found


def _at_its_end(screen: Screen) -> None:
    """A run that is over shows its end card by itself."""
    screen.read_until(b"do it", _LIMIT_S)


def of_a_recording(
    size: tuple[int, int], run: Path, seconds: float, passes: int
) -> Iterator[tuple[str, list[Cost]]]:
    """What the screens take that show the recorded ``run``, and what Start does."""
    with FastMock(tokens=8) as mock:
        load = ["run", "--target", mock.url, "--rate", "20", "--duration", "2s", "--ui", "dashboard"]
        ended = [sys.executable, "-m", "rvtop.cli", *load, "--yes", "--out", f"{run}-ended-{size[0]}"]
        kinds: list[tuple[str, list[str], Callable[[Screen], object]]] = [
            ("showdown", [*_PLAYED, str(run), "--showdown"], lambda s: s.read_until(b"showdown", _LIMIT_S)),
            ("replay", [*_REPLAY, str(run)], lambda s: s.read_until(b"recording", _LIMIT_S)),
            ("end", ended, _at_its_end),
            ("start", [sys.executable, "-m", "rvtop.cli"], lambda s: s.read_until(b"enter", _LIMIT_S)),
        ]
        for name, command, ready in kinds:
            found = []
            with shown(size, command) as screen:
                ready(screen)
                screen.read(_WARM_S)
                for _ in range(passes):
                    if name == "replay":
                        screen.press(b"\x1b[1;2D" * 10)  # back to its beginning: it is over after a while
                    found.append(cost(screen, min(seconds, 2.0) if name == "replay" else seconds))
            yield name, found


def key_to_screen_ms(times: int) -> list[float]:
    """Milliseconds from the key that commands a rate until it is drawn, on a server that was idle before."""
    found = []
    with FastMock(tokens=8) as mock, dashboard(_SIZES[0], "attach", mock.url) as screen:
        screen.read_until(b"watching", _LIMIT_S)
        screen.read(_RAMP_S)
        for _ in range(times):
            drawn, began = len(screen.updates), time.monotonic()
            screen.press(b"+")
            while len(screen.updates) == drawn and time.monotonic() < began + _RAMP_S:
                screen.read(0.002)
            found.append(1000 * (screen.updates[-1] - began))
            screen.press(b"-")
            screen.read(_WARM_S)
    return sorted(found)


def key_through_session_ms(times: int) -> list[float]:
    """Milliseconds from the key that pauses, or goes on, until what the session says of it is drawn."""
    found = []
    with FastMock(tokens=8) as mock, dashboard(_SIZES[0], "attach", mock.url) as screen:
        screen.read_until(b"watching", _LIMIT_S)
        screen.press(b"+y")  # the first load on a server of others is asked about
        screen.read_until(b"running", _LIMIT_S)
        screen.read(_RAMP_S)
        for number in range(times):
            screen.seen, began = b"", time.monotonic()
            screen.press(b" ")
            screen.read_until(b"running" if number % 2 else b"paused", _LIMIT_S)
            found.append(1000 * (time.monotonic() - began))
            screen.read(_PACE_S)
    return sorted(found)


def idle(seconds: float, passes: int) -> list[float]:
    """Percent of a core that all processes together take while nothing is sent, once a pass."""
    found = []
    with FastMock() as mock, dashboard(_SIZES[0], "attach", mock.url) as screen:
        screen.read_until(b"watching", _LIMIT_S)
        screen.read(_RAMP_S)
        for _ in range(passes):
            before, began = all_s(screen.process.pid), time.monotonic()
            screen.read(seconds)
            found.append(100 * (all_s(screen.process.pid) - before) / (time.monotonic() - began))
    return found


def _told(values: list[float], limit: float) -> str:
    middle = statistics.median(values)
    each = " ".join(f"{value:.1f}" for value in values)
    kept = "within" if middle <= limit else "MORE than"
    return f"{middle:5.1f} % of a core (runs: {each}): {kept} {limit:g} %"


def _tell_cost(name: str, size: tuple[int, int], costs: list[Cost]) -> None:
    """Prints the line of a screen."""
    frame_ms = statistics.median(one.frame_ms for one in costs)
    updates = statistics.median(one.updates for one in costs)
    told = _told([one.percent for one in costs], _LIMIT_PCT)
    where = f"{name:<9} {size[0]:>3} x {size[1]}"
    print(f"  {where}  {frame_ms:4.1f} ms a frame, {updates:.1f} frames/s, {told}", flush=True)


def _tell_keys(what: str, found: list[float]) -> None:
    """Prints a line of times in ascending order."""
    median, late = statistics.median(found), found[round(0.95 * (len(found) - 1))]
    kept = "within" if median <= _KEY_MEDIAN_MS and late <= _KEY_P95_MS else "MORE than"
    limits = f"{_KEY_MEDIAN_MS:g} and {_KEY_P95_MS:g} ms"
    print(
        f"  {what}: median {median:.0f} ms, p95 {late:.0f} ms ({len(found)} keys): {kept} {limits}",
        flush=True,
    )


def main(arguments: list[str] | None = None) -> None:
    """Prints a line for each screen and size, and one for the idle server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--passes", type=int, default=5)
    options = parser.parse_args(arguments)
    print(
        f"frames: CPU of the dashboard's process, {_RATE * _TOKENS:,.0f} tokens/s, {_FPS} frames/s",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        record(run, _RATE, _TOKENS, _STEP_MS, _RECORDED_S)
        for size in _SIZES:
            for name, costs in under_load(size, options.seconds, options.passes).items():
                _tell_cost(name, size, costs)
            for name, costs in of_a_recording(size, run, options.seconds, options.passes):
                _tell_cost(name, size, costs)
    _tell_keys("key to screen, the rate asked for", key_to_screen_ms(_KEYS))
    _tell_keys("key to screen, through the session", key_through_session_ms(_KEYS))
    told = _told(idle(options.seconds, options.passes), _IDLE_PCT)
    print(f"  idle server, all processes: {told}", flush=True)


if __name__ == "__main__":
    main()
