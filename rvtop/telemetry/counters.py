"""What counters and histograms of a server have grown by since we began to watch, restarts bridged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from rvtop.contract.figures import BY_KEY
from rvtop.telemetry.buckets import Growth, growth, mean, merged
from rvtop.telemetry.sample import EngineSample

WINDOW_S = 10.0  # the server's histograms cover this much
SERVE_WINDOW_S = 20.0  # figures of Serve's deployments: Ray brings them up to date every 10 s
STEP_S = 15.0  # counters told at second hand that stand still for this long do so in truth


class EngineCounters:
    """The counters of one engine. What it counted before ``first`` is not ours. ``grown`` is the growth of
    each since then (keys of ``rvtop.contract.figures``); a histogram that the summary wants the mean of has
    ``key.sum`` (seconds) and ``key.count`` there."""

    def __init__(self, first: EngineSample) -> None:
        self.grown: dict[str, float] = dict.fromkeys(first.counters, 0.0)
        self._last = dict(first.counters)  # a page may leave one out for once
        self._last_histograms = dict(first.hists)
        self.ttft_ms: float | None = None  # the mean since the look before

    def update(self, now: EngineSample) -> tuple[dict[str, float], dict[str, Growth]]:
        """The growth since the sample before, of counters and of histograms."""
        more: dict[str, float] = {}
        for name, value in now.counters.items():
            before = self._last.get(name, 0.0)
            # A counter that shrank began anew: its server restarted.
            more[name] = value - before if value >= before else value
            self.grown[name] = self.grown.get(name, 0.0) + more[name]
        events = {name: growth(self._last_histograms.get(name), now.hists[name]) for name in now.hists}
        self.ttft_ms = mean(events.get("ttft"))
        for name, grown in events.items():
            if BY_KEY[name].summary and math.isfinite(grown.sum):
                for part, more_of_it in (("sum", grown.sum), ("count", sum(grown.counts))):
                    key = f"{name}.{part}"
                    self.grown[key] = self.grown.get(key, 0.0) + more_of_it
        self._last.update(now.counters)
        self._last_histograms.update(now.hists)
        return more, events


class TokenRate:
    """Tokens a second of one source, between its last two samples. ``per_s`` is None while not known."""

    def __init__(self) -> None:
        self.per_s: float | None = None
        self._stepped_ns: int | None = None

    def update(self, tokens: float | None, before_ns: int | None, now_ns: int, *, second_hand: bool) -> None:
        """``tokens`` came between the samples of ``before_ns`` and ``now_ns``; None: the source has no such
        counter. ``second_hand``: Ray re-exports counters every 10 s, so between two of their steps the last
        rate stands."""
        if second_hand:
            stepped_ns = self._stepped_ns
            if not tokens and stepped_ns is not None and (now_ns - stepped_ns) / 1e9 <= STEP_S:
                return
            before_ns, self._stepped_ns = stepped_ns, now_ns
        elapsed_s = 0.0 if before_ns is None else (now_ns - before_ns) / 1e9
        if elapsed_s > 0:
            self.per_s = None if tokens is None else tokens / elapsed_s


class RecentEvents:
    """The histograms' growth of one source over the last WINDOW_S."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, Mapping[str, Growth]]] = deque()

    def add(self, t_ns: int, parts: Mapping[str, Sequence[Growth]]) -> None:
        """What all engines of the source grew by between its last two samples, by histogram."""
        together = {name: events for name, each in parts.items() if (events := merged(each)) is not None}
        self._steps.append((t_ns, together))
        while (t_ns - self._steps[0][0]) / 1e9 > WINDOW_S:
            self._steps.popleft()

    def of(self, name: str, now_ns: int) -> Iterator[Growth]:
        """The steps of one histogram that are in the window at ``now_ns``."""
        for t_ns, events in self._steps:
            if name in events and (now_ns - t_ns) / 1e9 <= WINDOW_S:
                yield events[name]

    def clear(self) -> None:
        """Forgets them."""
        self._steps.clear()


class Ratio:
    """The growth of one counter over that of another, of the last ``SERVE_WINDOW_S``."""

    def __init__(self) -> None:
        self._grown: deque[tuple[int, float, float]] = deque()  # (when, more of one, more of the other)

    def add(
        self,
        now_ns: int,
        before: tuple[float | None, float | None],
        now: tuple[float | None, float | None],
    ) -> None:
        """Both counters at two moments, the later being ``now_ns``. Where one shrank (a replica went away,
        and what it had counted), that time tells nothing."""
        values = (*before, *now)
        if all(value is not None for value in values):
            over, under, later_over, later_under = cast("tuple[float, float, float, float]", values)
            if over <= later_over and under < later_under:
                self._grown.append((now_ns, later_over - over, later_under - under))
        while self._grown and not _recent(self._grown[0][0], now_ns):
            self._grown.popleft()

    def value(self, now_ns: int) -> float | None:
        """None where the second one did not grow."""
        recent = [(over, under) for t_ns, over, under in self._grown if _recent(t_ns, now_ns)]
        total = sum(under for _, under in recent)
        return sum(over for over, _ in recent) / total if total else None


def _recent(then_ns: int, now_ns: int) -> bool:
    return (now_ns - then_ns) / 1e9 <= SERVE_WINDOW_S
