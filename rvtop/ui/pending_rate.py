"""The pending rate: what the keys have asked for and no snapshot shows yet."""

from __future__ import annotations

from collections.abc import Callable

from rvtop.contract.snapshot import Snapshot

#: How long a press is shown instead of what the snapshot says. A command takes effect within 150 ms;
#: a session that has not followed after this has refused, and the screen shows the rate in force again.
HOLD_S = 2.0


class PendingRate:
    """Adds up quick presses: each begins from the rate last asked for, not from an older snapshot's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked_at = 0.0
        self._in_force: float | None = None  # the rate to come back to while paused
        self._max: float | None = None
        self.pending: float | None = None

    def observe(self, snapshot: Snapshot) -> None:
        """Takes in a new snapshot, and forgets the pending rate once it is in force."""
        target = snapshot.load.target_rps
        self._max = snapshot.load.max_rate
        if snapshot.state != "paused" and target is not None:
            self._in_force = target
        self.expire()
        if self.pending is not None and target is not None and abs(target - self.pending) < 1e-6:
            self.pending = None

    def expire(self) -> bool:
        """Forgets a pending rate that the session has not taken within HOLD_S; True if there was one."""
        if self.pending is not None and self._clock() - self._asked_at > HOLD_S:
            self.pending = None
            return True
        return False

    @property
    def shown(self) -> float | None:
        """The rate to show as the target: what was asked for, else what is in force (also while paused)."""
        return self.pending if self.pending is not None else self._in_force

    def clamp(self, rps: float) -> float:
        """``rps`` within 0 and the session's maximum."""
        kept = max(0.0, round(rps, 6))
        return kept if self._max is None else min(kept, self._max)

    def after(self, delta: float) -> float:
        """What the target would be after a press of ``delta``."""
        return self.clamp((self.shown or 0.0) + delta)

    def percent(self, percent: float) -> float:
        """What the target would be after a change by ``percent``, to three digits; from 0 it begins at 1."""
        now = self.shown or 0.0
        if now == 0:
            return self.clamp(1.0 if percent > 0 else 0.0)
        changed = now * (1 + percent / 100)
        return self.clamp(float(f"{changed:.3g}"))

    def ask(self, rps: float) -> None:
        """Remembers that ``rps`` was sent to the session."""
        self.pending = self._in_force = rps
        self._asked_at = self._clock()
