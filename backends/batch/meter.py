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
    the engine and ``step_s`` seconds that these took, ``running`` at the last, ``slots`` places of its batch
    (max_num_seqs).
    """

    def __init__(
        self, engine: str, slots: int, emit: Emit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine, self._slots, self._emit, self._clock = engine, slots, emit, clock
        self._lock = threading.Lock()
        self._told = self._since = self._began = clock()
        self._step_s = 0.0  # how long the last step took whose beginning is known
        self._busy_s = self._in_steps_s = 0.0
        self._steps = 0
        self._running = 0
        self._waits = False  # whether a step goes on: the one before left something to compute
        self._stop = threading.Event()

    def step(self, running: int, left: int) -> None:
        """A step of the engine has ended: it computed ``running`` sequences, and ``left`` are there still,
        running or waiting. The step began when the one before it ended; after a pause its length is not
        known, and taken to be that of the step before."""
        with self._lock:
            now = self._clock()
            passed = now - self._since
            if self._waits or not self._step_s:
                self._step_s = now - self._began
            self._count(running, passed if self._waits else min(passed, self._step_s))
            self._since = self._began = now
            self._steps, self._running, self._waits = self._steps + 1, running, left > 0

    def tell(self) -> None:
        """Tells what has passed since it was told last; of a step that goes on, as much as has passed."""
        with self._lock:
            now = self._clock()
            if self._waits:
                self._count(self._running, now - self._since)
                self._since = now
            told: dict[str, Any] = {
                "span_s": now - self._told,
                "busy_s": self._busy_s,
                "steps": self._steps,
                "step_s": self._in_steps_s,
                "running": self._running if self._waits else 0,
                "slots": self._slots,
            }
            self._told, self._steps = now, 0
            self._busy_s = self._in_steps_s = 0.0
        self._emit("occupied", engine=self._engine, **told)

    def _count(self, running: int, seconds: float) -> None:
        self._busy_s += running * seconds
        self._in_steps_s += seconds

    def start(self) -> None:
        """Tells from now on, in a thread of its own."""
        self._told = self._since = self._began = self._clock()
        threading.Thread(target=self._run, name="meter", daemon=True).start()

    def close(self) -> None:
        """Tells once more, and no more."""
        self._stop.set()
        self.tell()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.tell()
