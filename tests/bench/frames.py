"""What the dashboard itself costs: ``python -m tests.bench.frames``.

CPU seconds (user and system) of the dashboard's own process while it shows a load of about 100 000 token
events a second at 10 frames a second, on each screen and in two sizes; and of all processes together while it
shows a server to which nothing is sent.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.terminal import Screen, cpu_s
from tests.bench.tree import descendants
from tests.mock.fast import FastMock

_FPS = 10
_SIZES = ((120, 40), (200, 60))
_SCREENS = (("live", b"1"), ("map", b"2"), ("requests", b"3"))
_TOKENS, _STEP_MS, _RATE = 500, 10, 200.0  # 200 requests a second of 500 tokens each
_RAMP_S, _WARM_S = 8.0, 2.0
_LIMIT_PCT, _IDLE_PCT = 15.0, 2.0
_KEYS = 21


def all_s(pid: int) -> float:
    """CPU seconds so far of a process and of all below it that live."""
    return sum(cpu_s(one) for one in (pid, *descendants(pid)))


@contextmanager
def dashboard(size: tuple[int, int], *arguments: str) -> Iterator[Screen]:
    """A dashboard on a pseudo-terminal of ``size`` that shows a run with these arguments."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "rvtop.cli", *arguments, "--yes", "--out", f"{folder}/run"]
    screen = Screen(command, size)
    try:
        yield screen
    finally:
        screen.leave()
        shutil.rmtree(folder, ignore_errors=True)


def under_load(size: tuple[int, int], seconds: float, passes: int) -> dict[str, list[float]]:
    """Percent of a core that the dashboard's process takes on each screen, once a pass."""
    found: dict[str, list[float]] = {name: [] for name, _ in _SCREENS}
    with FastMock(ttft_ms=50, step_ms=_STEP_MS, tick_ms=_STEP_MS, tokens=_TOKENS) as mock:
        load = ["--rate", f"{_RATE:g}", "--duration", "600s", "--arrivals", "constant"]
        load += ["--output-tokens", str(_TOKENS), "--prompt-tokens", "50", "--ui", "dashboard"]
        with dashboard(size, "run", "--target", mock.url, *load) as screen:
            screen.read(_RAMP_S)
            for _ in range(passes):
                for name, key in _SCREENS:
                    screen.press(key)
                    screen.read(_WARM_S)
                    before, began = cpu_s(screen.process.pid), time.monotonic()
                    screen.read(seconds)
                    took = cpu_s(screen.process.pid) - before
                    found[name].append(100 * took / (time.monotonic() - began))
    return found


def key_to_screen_ms(times: int) -> list[float]:
    """Milliseconds from the key that commands a rate until it is drawn, on a server that was idle before."""
    found = []
    with FastMock(tokens=8) as mock, dashboard(_SIZES[0], "attach", mock.url) as screen:
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


def idle(seconds: float, passes: int) -> list[float]:
    """Percent of a core that all processes together take while nothing is sent, once a pass."""
    found = []
    with FastMock() as mock, dashboard(_SIZES[0], "attach", mock.url) as screen:
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
    for size in _SIZES:
        for name, values in under_load(size, options.seconds, options.passes).items():
            per_frame = 10 * statistics.median(values) / _FPS
            where = f"{name:<9} {size[0]:>3} x {size[1]}"
            print(f"  {where}  {per_frame:4.1f} ms a frame, {_told(values, _LIMIT_PCT)}", flush=True)
    print(
        f"  idle server, all processes: {_told(idle(options.seconds, options.passes), _IDLE_PCT)}", flush=True
    )


if __name__ == "__main__":
    main()
