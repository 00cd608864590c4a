"""Looks each second for a comb in the gaps between tokens (``stats.comb``)."""

from __future__ import annotations

from collections.abc import Callable

from rvtop.session.live import LiveState, merged
from rvtop.stats.comb import Comb, comb_of, knob, said

#: Seconds in a row that have to show it before it is said, and without it until it is said no more.
_SURE = 2
_GONE = 10


class CombWatch:
    """``comb`` is what there is to show. ``say(text, level, kind)`` adds an event where one begins."""

    def __init__(self, say: Callable[[str, str, str], None]) -> None:
        self.comb: Comb | None = None
        self._say = say
        self._seen = 0  # seconds in a row
        self._missed = 0

    def look(self, live: LiveState, now_ns: int, engine_gap_ms: float | None, topology: str | None) -> None:
        """Once a second. ``engine_gap_ms``: the mean gap between tokens by the engine's own figures."""
        gaps = merged([second.gaps for second in live.recent(now_ns)])
        found = comb_of(gaps.distribution(), engine_gap_ms)
        if found is None:
            self._seen, self._missed = 0, self._missed + 1
            if self._missed >= _GONE:
                self.comb = None
            return
        self._seen, self._missed = self._seen + 1, 0
        if self.comb is None and self._seen >= _SURE:
            self._say("; ".join(filter(None, (*said(found), knob(found, topology)))), "warn", "comb")
        if self.comb is not None or self._seen >= _SURE:
            self.comb = found
