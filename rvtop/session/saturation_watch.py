"""Looks each second whether load comes faster than the server answers it (``stats.saturation``)."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, replace

from rvtop.session.live import LiveState
from rvtop.session.load_parts import Parts, Second
from rvtop.session.player import Player
from rvtop.stats.saturation import KEPT, LEAST_SHARE, LoadSecond, Saturation, said, saturation_of, slopes

#: Seconds in a row in which the server has to keep up until it is said no more.
_GONE = 5
#: Seconds over which the slopes are shown once it is said.
_SHOWN = 10


class SaturationWatch:
    """``saturation`` is what there is to show. Where one begins there is an event and a line of the command
    log, and the run ends if that was asked for."""

    def __init__(self, parts: Parts, live: LiveState, player: Player) -> None:
        self.saturation: Saturation | None = None
        self._parts = parts
        self._live = live
        self._player = player
        self._seconds: deque[LoadSecond] = deque(maxlen=KEPT)
        self._sent = 0
        self._due = 0
        self._gone = 0

    def look(self, second: Second) -> None:
        """Once a second."""
        self._seconds.append(self._load_second(second))
        seconds = tuple(self._seconds)
        if self.saturation is None:
            found = None if second.last else saturation_of(seconds)
            if found is not None:
                self._begin(found, second.row["t_s"])
            return
        lasts_s = self.saturation.lasts_s + 1
        now = slopes(seconds, _SHOWN) or slopes(seconds, _SHOWN // 2)
        goes_on = now is not None and now.in_flight.per_s > LEAST_SHARE * now.planned_rps
        self._gone = 0 if goes_on else self._gone + 1
        if second.last:
            return
        if self._gone >= _GONE:
            self.saturation, self._gone = None, 0
            self._parts.feed.say(f"over saturation: ended after {lasts_s:.0f} s", kind="saturation")
        else:
            self.saturation = replace(now or self.saturation, lasts_s=lasts_s)

    def _begin(self, found: Saturation, t_s: float) -> None:
        self.saturation = found
        text = "; ".join(said(found))
        self._parts.feed.say(f"over saturation {text}", "warn", "saturation")
        figures = {
            "planned_rps": found.planned_rps,
            "answered_rps": found.answered_rps,
            "in_flight": asdict(found.in_flight),
            "ttft_ms": asdict(found.ttft),
        }
        phase, since_s = self._player.phase, max(0.0, t_s - found.lasts_s)
        name = phase.name if phase is not None else None
        self._parts.recorder.note(
            {"cmd": "saturated", "phase": name, "since_s": since_s, "text": text, "figures": figures}
        )
        if self._parts.request.stops_when_saturated:
            self._parts.ending.fail("saturated", f"stopped: over saturation {text}")

    def _load_second(self, second: Second) -> LoadSecond:
        live, phase = self._live, self._player.phase
        sent, due = live.sent, live.due
        planned = second.row["target_rps"]
        if phase is not None and phase.trace and planned:
            planned = float(due - self._due)  # a trace says itself when it is fast and when it is slow
        if planned is not None and self._parts.request.pair is not None:
            planned *= 2  # each arrival is a request to both servers
        last = live.last_full(second.now_ns)
        ttft_ns = last.ttft.mean_ns if last is not None and last.ttft.count else None
        service_s = None
        if last is not None and last.e2e.count and ttft_ns is not None:
            service_s = max(0.0, last.e2e.mean_ns - ttft_ns) / 1e9
        made = LoadSecond(
            live.in_flight,
            sent - self._sent,
            planned,
            None if ttft_ns is None else ttft_ns / 1e6,
            service_s,
        )
        self._sent, self._due = sent, due
        return made
