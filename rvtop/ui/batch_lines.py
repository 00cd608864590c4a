"""The screen of a batch as lines: a lane a way, each with its progress, and the occupancy of its engines'
batches as a strip over time, in which what stands empty is seen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.batch.lane import Lane
from rvtop.batch.lines import clock
from rvtop.ui.draw import Cells, Line, bar, eighths, fitting, spread
from rvtop.ui.format import count, percent, sig3
from rvtop.ui.theme import Styles

#: Rows of a lane without its strip: its rule, its progress, its figures.
_FIXED = 3
_TALLEST = 6
_BAR = 30


@dataclass(frozen=True)
class BatchView:
    """What the screen shows: ``notes`` stand below the lanes, ``keys`` in the last row."""

    title: str
    lanes: Sequence[Lane]
    now: float
    began: float
    over: bool = False
    notes: Sequence[str] = ()


def batch_lines(view: BatchView, styles: Styles, width: int, height: int) -> list[Line]:
    """Exactly ``height`` lines of at most ``width`` cells."""
    head = spread(
        [
            Line(" rvtop  ", styles.strong).put("batch  ", styles.client_bold).put(view.title, styles.base),
            Line(clock(max(lane.ended or view.now for lane in view.lanes) - view.began), styles.strong).put(
                " "
            ),
        ],
        width,
    )
    notes = [Line(f" {note}", styles.quiet) for note in view.notes]
    foot = Line(" q", styles.key).put(" leave   " if view.over else " stop, keep results   ", styles.quiet)
    foot.put("T", styles.key).put(" theme", styles.quiet)
    room = height - 2 - len(notes)
    strip = min(_TALLEST, max(0, room // len(view.lanes) - _FIXED))
    longest = max([lane.run_s(view.now) or 0.0 for lane in view.lanes])
    body: list[Line] = []
    for lane in view.lanes:
        body += _lane(lane, view.now, longest, styles, width, strip)
    body = [*body[: max(0, room)], *notes]
    body += [Line()] * (height - 2 - len(body))
    return [line.cut(width) for line in (head, *body, foot)][:height]


def _lane(lane: Lane, now: float, longest: float, styles: Styles, width: int, rows: int) -> list[Line]:
    return [
        _rule(lane, styles, width),
        _progress(lane, now, styles, width),
        *_figures(lane, now, longest, styles, width, rows),
    ]


def _rule(lane: Lane, styles: Styles, width: int) -> Line:
    name, state = f"── {lane.how} ", f" {lane.state} ──"
    style = {"failed": styles.trouble, "interrupted": styles.attention, "runs": styles.strong}.get(
        lane.state, styles.quiet
    )
    line = Line("── ", styles.frame).put(lane.how, styles.server_bold).put(" ", styles.frame)
    line.put("─" * max(0, width - len(name) - len(state)), styles.frame)
    return line.put(f" {lane.state} ", style).put("──", styles.frame)


def _progress(lane: Lane, now: float, styles: Styles, width: int) -> Line:
    done = lane.done + lane.errors
    filled, track = bar(done / lane.total if lane.total else None, min(_BAR, width // 3))
    parts = [
        (0, Line(f" {count(done)}/{count(lane.total)} ", styles.base)),
        (2, Line(filled, styles.client).put(f"{track}  ", styles.faint)),
        (1, Line(f"{sig3(lane.rows_per_s(now))} rows/s  ", styles.client)),
        (3, Line(f"{sig3(lane.tokens_per_s(now))} tok/s  ", styles.client)),
    ]
    if lane.state == "runs":
        parts.append((1, Line("ETA ", styles.quiet).put(f"{clock(lane.eta_s(now))}  ", styles.strong)))
    errors = Line("errors ", styles.quiet).put(
        f"{lane.errors}  ", styles.attention if lane.errors else styles.base
    )
    parts.append((1, errors))
    if lane.before:
        parts.append((5, Line(f"{count(lane.before)} from before  ", styles.quiet)))
    if lane.restarts:
        parts.append((4, Line(f"started anew {lane.restarts}  ", styles.attention)))
    return fitting(parts, width)


def _figures(lane: Lane, now: float, longest: float, styles: Styles, width: int, rows: int) -> list[Line]:
    """Words, and the strip below them. All lanes have one scale of time: what takes longer is longer."""
    if lane.state == "waits":
        return [Line(" waits for its turn", styles.quiet), *[Line()] * rows]
    if lane.state == "starts" or lane.first is None:
        told = lane.reason or (lane.step if lane.state == "starts" else "")
        return [Line(f" {told}", styles.trouble if lane.reason else styles.quiet), *[Line()] * rows]
    load, run = clock(lane.load_s), clock(lane.run_s(now))
    parts = [
        (0, Line(" batch ", styles.quiet).put(f"{percent(lane.occupied_share)} taken  ", styles.server)),
        (1, Line("bubbles ", styles.quiet).put(f"{percent(lane.bubble_share)}  ", styles.server_bold)),
        (3, Line(f"of {lane.slots} × {lane.engines}  ", styles.quiet)),
        (2, Line(f"load {load}  run {run}  ", styles.quiet)),
    ]
    if lane.reason:
        parts.append((0, Line(lane.reason, styles.trouble)))
    whole = max(1, width - 2)
    columns = max(1, round(whole * (lane.run_s(now) or 0.0) / longest)) if longest else 1
    return [fitting(parts, width), *_strip(lane, styles, columns, rows)]


def _strip(lane: Lane, styles: Styles, columns: int, rows: int) -> list[Line]:
    if not rows:
        return []
    shares = lane.strip.shares(columns)
    cells = Cells(columns, rows)
    for x, height in enumerate(eighths(shares, 1.0, rows)):
        for y in range(rows):
            eighth = height - 8 * (rows - 1 - y)
            if eighth > 0:
                cells.set(x, y, " ▁▂▃▄▅▆▇█"[min(8, eighth)], styles.server)
            else:
                cells.set(x, y, "·", styles.faint)  # nothing is computed here
    return [line.indented() for line in cells.lines()]
