"""Whether a picture of a session that only watches is worth drawing: an idle server looks always the same."""

from __future__ import annotations

from dataclasses import replace

from rvtop.contract.requests import NO_REQUESTS
from rvtop.contract.snapshot import Series, Snapshot

#: Seconds between two pictures of a server on which nothing changes: charts move by a column in about that.
STILL_S = 3.0


class Stillness:
    """Looks at a session once a second."""

    def __init__(self) -> None:
        self._told: Snapshot | None = None  # without what the time alone changes …
        self._told_s = 0.0  # … and when it was

    def is_news(self, s: Snapshot) -> bool:
        """Whether ``s`` is to be drawn: nothing else but a clock has moved while it watches, for STILL_S."""
        if s.state != "watching":
            self._told = None
            return True
        now = _without_times(s)
        if now == self._told and s.t_s - self._told_s < STILL_S - 0.5:  # it comes a little early or late
            return False
        self._told, self._told_s = now, s.t_s
        return True


def _without_times(s: Snapshot) -> Snapshot:
    phase = replace(s.phase, elapsed_s=0.0) if s.phase is not None else None
    # One that answers is a little older or younger each time.
    sources = tuple(replace(one, age_s=None) if one.state == "ok" else one for one in s.sources)
    # The power of a GPU that idles is never quite the same, and its energy grows.
    gpus = tuple(replace(gpu, watts=None, joules=None, joules_integrated=None) for gpu in s.gpus)
    return replace(
        s,
        seq=0,
        t_s=0.0,
        unix_s=0.0,
        plan_s=None,
        phase=phase,
        sources=sources,
        gpus=gpus,
        spending=None,
        series=Series(),
        requests=NO_REQUESTS,
    )
