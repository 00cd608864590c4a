"""The load panel: the commanded rate, large, and what came of it."""

from __future__ import annotations

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax, history
from rvtop.ui.draw import Cells, Line, area, eighths, fitting, large, over
from rvtop.ui.format import clip, count, rate
from rvtop.ui.keys import RATE_HINT
from rvtop.ui.widgets.panel import Panel

COUNTS, SPARK = 84, 96  # where the errors' counts and the spark line begin in the tall form


class LoadPanel(Panel):
    DEFAULT_CSS = """
    LoadPanel { height: 5; }
    """
    TOPIC = "load"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.target: float | None = None  # the dial's: ahead of the snapshot while a press is under way
        self._top = StickyMax(least=1.0)

    def observe(self, s: Snapshot) -> None:
        recent = (*s.series.target_rps[-120:], *s.series.completed_rps[-120:])
        self._top.follow(max((v for v in recent if v is not None), default=0.0))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        look = self.look
        right = Line()
        if s.load.sent and width >= SPARK + 12 and self.size.height >= 5:
            right = Line("─", look.command).put(" target  ", look.quiet)
            right.put("█", look.client).put(" served, last minute", look.quiet)
        return Line("load", look.strong), right

    def footing(self, s: Snapshot, width: int) -> Line:
        over = s.state in ("done", "lost", "failed", "crashed", "starting")
        return Line() if over or width < 60 else Line(RATE_HINT, self.look.quiet)

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(" ").join(self._short(s, width - 2))

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        return [self._short(s, width)] if height < 3 or width < COUNTS + 11 else self._tall(s, width, height)

    def _errors(self, s: Snapshot) -> tuple[int, str]:
        """How many in all, and the classes, most first."""
        return sum(n for _, n in s.load.errors), "  ".join(f"{name} {count(n)}" for name, n in s.load.errors)

    def _word(self, s: Snapshot) -> Line:
        if s.state == "paused":
            return Line("PAUSED", self.look.attention)
        return Line("CLOSED" if _concurrency(s) else "TARGET", self.look.quiet)

    def _commanded(self, s: Snapshot) -> tuple[str, str]:
        """What is commanded, and its unit: a rate, or the requests in flight of a closed loop."""
        closed = _concurrency(s)
        return (count(closed), "at once") if closed else (rate(self.target), "rps")

    def _short(self, s: Snapshot, width: int) -> Line:
        look, load = self.look, s.load
        value, unit = self._commanded(s)
        errors, classes = self._errors(s)
        bad = Line("  errors", look.trouble if errors else look.quiet)
        bad.put(f"{count(errors):>5}", look.trouble if errors else look.client)
        line = fitting(
            (
                (4, self._word(s)),
                (0, Line(f"{value:>7}" if width >= 16 else value, look.command).put(f" {unit}", look.quiet)),
                (5, self._figure("offered", f"{rate(load.offered_rps):>6}")),
                (2, self._figure("served", f"{rate(load.completed_rps):>6}")),
                (3, self._figure("in flight", f"{count(load.in_flight):>5}")),
                (1 if errors else 6, bad),
            ),
            width,
        )
        if errors and width - line.width > 30:
            line.put("  " + clip(classes, 24), look.trouble)
        if load.dropped and width - line.width > 15:
            line.put("  dropped", look.attention).put(f"{count(load.dropped):>6}", look.attention)
        room = width - line.width - 2
        if room >= 12:
            line.put("  ").join(self._kept_spark(s, room, 1)[0])
        return line

    def _figure(self, name: str, value: str) -> Line:
        return Line(f"  {name}", self.look.quiet).put(value, self.look.client)

    def _tall(self, s: Snapshot, width: int, height: int) -> list[Line]:
        look, load = self.look, s.load
        value, unit = self._commanded(s)
        target = value.replace(" ", "")
        digits = ("", target, "") if target[-1].isalpha() else large(f"{target:>5}")
        words = [self._word(s), Line(unit, look.quiet), Line()]
        if load.max_rate is not None:
            words[2] = Line(f"max {rate(load.max_rate)}", look.quiet)
        errors, _ = self._errors(s)
        bad = look.trouble if errors else look.quiet
        first = [("offered", load.offered_rps), ("sent", load.sent_rps), ("served", load.completed_rps)]
        second: list[tuple[str, str]] = [
            ("in flight", count(load.in_flight)),
            ("ok", count(load.ok)),
            ("dropped", count(load.dropped)),
        ]
        if load.goodput_rps is not None and not load.dropped:
            second[2] = ("goodput", rate(load.goodput_rps))
        lines = []
        for i in range(3):
            line = Line().join(words[i]).to(10).put(digits[i], look.command).to(32)
            line.put(first[i][0], look.quiet).to(40).put(f"{rate(first[i][1]):>6}", look.client)
            style = look.attention if second[i][0] == "dropped" and load.dropped else look.client
            line.to(50).put(second[i][0], look.quiet).to(60).put(f"{second[i][1]:>7}", style).to(71)
            if i == 0:
                line.put("errors", bad).to(COUNTS)
                line.put(f"{count(errors):>7}", look.trouble if errors else look.client)
            elif i <= len(load.errors):
                name, n = load.errors[i - 1]
                line.put(clip(name, COUNTS - 72), look.trouble).to(COUNTS).put(f"{count(n):>7}", look.trouble)
                if i == 2 and len(load.errors) > 2:
                    line.put(f" +{len(load.errors) - 2}", look.trouble)
            lines.append(line.to(min(SPARK, width)))
        room = width - SPARK
        if s.state == "watching" and room >= 12:
            lines[0].put("only watching", look.quiet)
            lines[1].put("↑", look.command).put(" sends 1 a second", look.quiet)
        elif room >= 12:
            lines += [Line().to(SPARK) for _ in range(height - 3)]
            for line, chart in zip(lines, self._kept_spark(s, room, height), strict=True):
                line.join(chart)
        return lines

    def _kept_spark(self, s: Snapshot, width: int, rows: int) -> list[Line]:
        series = s.series
        newest = (series.t_s[-1:], series.completed_rps[-1:], series.target_rps[-1:])
        return self.once((newest, width, rows, self._top.value), lambda: self._spark(s, width, rows))

    def _spark(self, s: Snapshot, width: int, rows: int) -> list[Line]:
        """The served rate as an area; the target as a line where the two differ."""
        served = history(s.series.t_s, s.series.completed_rps, width, span_s=60)
        heights = eighths(served, self._top.value, rows)
        lines = area(heights, rows, self.look.client)
        if rows == 1:
            return lines
        cells = Cells(width, rows)
        for y, line in enumerate(lines):
            cells.write(0, y, line.text, self.look.client)
        target = history(s.series.t_s, s.series.target_rps, width, span_s=60)
        levels = eighths(target, self._top.value, rows)
        over(cells, heights, levels, self.look.command, self.look.command_on_client)
        return cells.lines()


def _concurrency(s: Snapshot) -> int:
    """Requests in flight that a closed loop keeps up; 0 where arrivals have a rate."""
    return s.phase.concurrency if s.phase is not None and s.state in ("running", "draining") else 0
