"""When one more load worker is needed (``--workers auto``). Pure: decides from what was measured.

A worker near the end of its core sends and reads late: every figure bends then, so the next worker must
stand by before that. Its loop's delays tell sooner than its CPU where others use the cores, but there one
more worker helps only if ours is busy itself.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The busiest worker's share of a core from which on another one is wanted.
CPU_HIGH = 0.6
#: Delays of the event loop from which on another one is wanted, of a worker that is busy itself.
LAG_HIGH_MS = 3.0
CPU_BUSY = 0.3
#: Seconds in a row that must say so, and seconds that a new worker is given before it is judged.
_SECONDS = 2
_SETTLE_S = 3


@dataclass
class Autoscale:
    """Looks at each second; ``most`` is the largest number of workers that makes sense here."""

    most: int
    _high: int = 0
    _wait: int = 0

    def look(self, workers: int, cpu: float | None, loop_lag_ms: float | None) -> str | None:
        """Once a second: why one more worker is wanted, or None.

        ``cpu`` is the busiest worker's share (0..1) of a core, ``loop_lag_ms`` the longest delay of a loop,
        both of the last second.
        """
        if self._wait:
            self._wait -= 1
            return None
        why = _why(cpu, loop_lag_ms)
        self._high = self._high + 1 if why else 0
        if why is None or self._high < _SECONDS or workers >= self.most:
            return None
        self._high, self._wait = 0, _SETTLE_S
        return why


def _why(cpu: float | None, loop_lag_ms: float | None) -> str | None:
    if cpu is None:
        return None
    if cpu > CPU_HIGH:
        return f"a worker uses {100 * cpu:.0f} % of a core"
    if loop_lag_ms is not None and loop_lag_ms > LAG_HIGH_MS and cpu > CPU_BUSY:
        return f"a worker's loop is {loop_lag_ms:.1f} ms late"
    return None
