"""The turn of the event loop that a read by asyncio belongs to."""

from __future__ import annotations

from collections.abc import Callable

from rvtop.load.plan.schedule import NEVER


class LoopTurn:
    """What reads by asyncio share: when their turn of the loop began, and what comes due in the middle of it.

    The fields are public and read in ``Connection.data_received``: a call for each token would cost more than
    the rest of the read.
    """

    __slots__ = ("began_ns", "clock", "clock_s", "due_ns", "on_due", "seen_ns")

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: the loop's own; uvloop's stands still during a turn."""
        self.clock = clock
        self.clock_s = 0.0  # what it showed at the last read
        self.began_ns = 0  # the first read of this turn
        self.seen_ns = 0  # the last read
        self.due_ns = NEVER  # when ``on_due`` is to be called
        self.on_due: Callable[[], None] = lambda: None
