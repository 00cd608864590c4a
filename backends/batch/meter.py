"""How many places of an engine's batch are taken, over time. Stdlib only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

#: How often an engine tells.
EVERY_S = 0.25

Emit = Callable[..., None]


class Meter:
    """Integrates the sequences that an engine computes over time, and tells every quarter of a second.

    ``occupied`` events: ``span_s`` seconds that passed, ``busy_s`` sequences × seconds in them, ``steps`` of
    the engine, ``running`` at the last, ``slots`` places of its batch (max_num_seqs).
    """

    def __init__(
        self, engine: str, slots: int, emit: Emit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._slots, self._emit, self._clock = engine, slots, emit, clock
        self._lock = threading.Lock()
        self._told = self._last = clock()
        self._step_s = 0.0  # how long a step takes
        self._busy_s = 0.0
        self._steps = 0
        self._running = 0
        self._waits = False  # whether the step before left something to compute
        self._stop = threading.Event()

    def step(self, running: int, left: int) -> None:
        """A step of the engine has ended: it computed ``running`` sequences, and ``left`` are there still,
        running or waiting. The step began when the one before it ended; after a pause its length is not
        known, and taken to be that of the step before."""
        with self._lock:
            now = self._clock()
            gap = now - self._last
            if self._waits or not self._step_s:
                self._step_s = gap
            self._busy_s += running * min(gap, self._step_s)
            self._last, self._steps, self._running = now, self._steps + 1, running
            self._waits = left > 0

    def tell(self) -> None:
        """Tells what has passed since it was told last."""
        with self._lock:
            now = self._clock()
            told: dict[str, Any] = {
                "span_s": now - self._told,
                "busy_s": self._busy_s,
                "steps": self._steps,
                "running": self._running if self._waits else 0,
                "slots": self._slots,
            }
            self._told, self._busy_s, self._steps = now, 0.0, 0
        self._emit("occupied", engine=self._engine, **told)

    def start(self) -> None:
        """Tells from now on, in a thread of its own."""
        self._told = self._last = self._clock()
        threading.Thread(target=self._run, name="meter", daemon=True).start()

    def close(self) -> None:
        """Tells once more, and no more."""
        self._stop.set()
        self.tell()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.tell()
