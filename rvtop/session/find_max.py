"""``--find-max`` inside a session: turns what a step measured into the next step, and records both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rvtop.load.plan.schedule import PhasePlan
from rvtop.session.live import LiveState
from rvtop.session.search import Search, SearchOptions, SearchStep
from rvtop.session.view import limited_since
from rvtop.stats.histogram import QUANTILES

#: So many refusals and not one good answer end a search.
_REFUSALS = 5
_REFUSED = ("tls", "stream_error", "bad_stream", "truncated", "empty")
_NO_ROOM = ("http_429", "http_503")

Note = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


class Searcher:
    """``note`` writes a line of the command log, ``say`` adds an event; ``workers`` is as ``--workers`` has
    it."""

    def __init__(self, options: SearchOptions, note: Note, say: Say, workers: str) -> None:
        self._search = Search(options)
        self._slo = options.slo
        self._note = note
        self._say = say
        self._workers = workers
        self._running = False
        self._given_up = False  # the step that runs
        self._limited_by: str | None = None  # what the client of the step that runs was limited by last

    @property
    def best(self) -> float | None:
        """The highest rate that held and was confirmed."""
        return self._search.best

    def observe(self, live: LiveState, now_ns: int, since_ns: int) -> None:
        """Once a second, and before ``more``: notes whether the client is limited in the step that began at
        ``since_ns``. The drain can last longer than the live window, so its end alone would be too late."""
        if self._running and now_ns >= since_ns:
            self._limited_by = limited_since(live, now_ns, since_ns, self._workers) or self._limited_by

    def more(self, live: LiveState) -> PhasePlan | None:
        """The next step, after the one that ran (if one did) was judged by ``live``; None at the end."""
        if self._running:
            step = self._search.judge(self._figures(live), self._limited_by)
            self._say(step.describe(self._slo))
            self._note({"cmd": "step", **_plain(step)})
            if not live.ok and any(_is_refusal(kind) for kind in live.errors):
                self._give_up()
                return None
        phase = self._search.next()
        self._running, self._given_up, self._limited_by = phase is not None, False, None
        if phase is None:
            found = {"rps": self.best, "capped": self._search.capped, "slo": dict(self._slo)}
            self._note({"cmd": "found", **found})
            self._say(found_line(found))
        return phase

    def hopeless(self, live: LiveState) -> bool:
        """Whether the step that runs need not run on; said once."""
        if not self._running or self._given_up:
            return False
        ended = live.phase_ok + sum(live.phase_errors.values())
        self._given_up = self._search.hopeless(self._figures(live), ended)
        return self._given_up

    def refused(self, live: LiveState) -> bool:
        """Whether the server refuses whatever it is sent, so that no rate will do; said once."""
        if not self._running or live.ok:
            return False
        refusals = sum(n for kind, n in live.errors.items() if _is_refusal(kind))
        if refusals < _REFUSALS or live.phase_ttft.count:
            return False
        self._give_up()
        return True

    def _give_up(self) -> None:
        self._running = False
        found = {"rps": None, "capped": False, "slo": dict(self._slo)}
        self._note({"cmd": "found", **found})
        self._say("find-max: no request succeeded; the server refuses them at any rate")

    def outcome(self) -> str:
        """One line for a search that found nothing."""
        limits = ", ".join(f"{name} ≤ {limit:g}" for name, limit in self._slo.items())
        return f"--find-max: no rate holds the SLO ({limits})"

    def _figures(self, live: LiveState) -> dict[str, float | None]:
        return {name: _figure(name, live) for name in self._slo}


def _is_refusal(kind: str) -> bool:
    """Whether an error of this class is the server's answer, and not for want of room: then a lower rate
    would not help."""
    return kind in _REFUSED or (kind.startswith("http_") and kind not in _NO_ROOM)


def found_line(found: Mapping[str, Any]) -> str:
    """What a search ended with, from its line in the command log or the summary."""
    if found["rps"] is None:
        return "find-max: no rate held the SLO"
    if found["capped"]:
        return f"find-max: {found['rps']:.4g} rps, the most that --max-rate allows, holds the SLO"
    return f"find-max: {found['rps']:.4g} rps is the highest rate that holds the SLO"


def _figure(name: str, live: LiveState) -> float | None:
    """One figure of the phase so far: ms, or the share of requests that failed."""
    if name == "error_rate":
        failed = sum(n for kind, n in live.phase_errors.items() if kind != "cancelled")
        ended = live.phase_ok + failed
        return failed / ended if ended else None
    dist, _, stat = name.rpartition("_")
    histogram = {
        "ttft": live.phase_ttft,
        "itl": live.phase_gaps,
        "tpot": live.phase_tpot,
        "e2e": live.phase_e2e,
    }[dist]
    ns = histogram.mean_ns if stat == "mean" else histogram.percentile(QUANTILES[stat])
    return None if math.isnan(ns) else ns / 1e6


def _plain(step: SearchStep) -> dict[str, Any]:
    return {
        "rps": step.rps,
        "held": step.held,
        "confirms": step.confirms,
        "figures": dict(step.figures),
        "limited_by": step.limited_by,
    }
