"""A batch in words: a line while it runs, a table when it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rvtop.batch.lane import Lane
from rvtop.text import digits, percent

_LINE_S = 5.0
_HEAD = ("", "rows", "errors", "rows/s", "tokens/s", "occupied", "bubbles", "a step", "load", "run")


def clock(seconds: float | None) -> str:
    """``01:15``, or ``--``."""
    if seconds is None:
        return "--"
    whole = round(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:02d}:{whole % 60:02d}"


def lane_line(lane: Lane, now: float) -> str:
    """A way as it is now."""
    done = lane.done + lane.errors
    parts = [f"{lane.how:<13} {done}/{lane.total} rows {percent(done / lane.total if lane.total else None)}"]
    if lane.state == "starts":
        parts.append(f"starts: {lane.step or 'process'}")
    elif lane.state == "runs":
        parts.append(f"{digits(lane.rows_per_s(now))} rows/s  {digits(lane.tokens_per_s(now))} tok/s")
        parts.append(f"occupied {percent(lane.occupied_share)}  bubbles {percent(lane.bubble_share)}")
    else:
        parts.append(lane.state + (f": {lane.reason}" if lane.reason else ""))
    parts.append(f"errors {lane.errors}")
    if lane.restarts:
        parts.append(f"started anew {lane.restarts}")
    if lane.state == "runs":
        parts.append(f"ETA {clock(lane.eta_s(now))}")
    return "  ".join(parts)


class Narrator:
    """Prints what is new: states and steps as they change, figures every five seconds."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out = out
        self._said: dict[str, tuple[str, str, int]] = {}
        self._next_s = 0.0

    def look(self, lanes: Iterable[Lane], now: float, began: float) -> None:
        for lane in lanes:
            about = (lane.state, lane.step if lane.state == "starts" else "", lane.restarts)
            changed = self._said.get(lane.how) != about and lane.state != "waits"
            if changed or (lane.state == "runs" and now >= self._next_s):
                self._said[lane.how] = about
                self._next_s = now + _LINE_S
                self._out(f"  {clock(now - began)}  {lane_line(lane, now)}")


def table(lanes: Sequence[Lane], now: float) -> list[str]:
    """The ways side by side."""
    rows = [_HEAD, *(_row(lane, now) for lane in lanes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _row(lane: Lane, now: float) -> tuple[str, ...]:
    ms = lane.step_ms
    return (
        lane.how,
        f"{lane.done}/{lane.total}",
        str(lane.errors),
        digits(lane.rows_per_s(now)),
        digits(lane.tokens_per_s(now)),
        percent(lane.occupied_share),
        percent(lane.bubble_share),
        "--" if ms is None else f"{digits(lane.sequences_a_step)} seq {digits(ms)} ms",
        clock(lane.load_s),
        clock(lane.run_s(now)),
    )
