"""The load panel: the commanded rate in large digits, and the rates and errors that resulted."""

from __future__ import annotations

from textual import events

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.axis import StickyMax, history
from rvtop.ui.draw import Cells, Line, area, eighths, fitting, large, over
from rvtop.ui.format import clip, count, rate
from rvtop.ui.layout import TWO_COLUMNS
from rvtop.ui.shell import shell_of
from rvtop.ui.widgets.banner import OVER
from rvtop.ui.widgets.hints import Hints, load_hints
from rvtop.ui.widgets.panel import Panel

COUNTS, SPARK = 84, 96  # where the errors' counts and the spark line begin in the tall form


class LoadPanel(Panel):
    TOPIC = "load"
    PLACE = "top"
    GOOD = 4

    def wants(self, s: Snapshot) -> bool:
        return s.state not in OVER

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return (2, 7) if width >= TWO_COLUMNS else (1, 1)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.target: float | None = None  # PendingRate.shown: the rate asked for, until the snapshot shows it
        self._scale = StickyMax(least=1.0)
        self._hints = Hints(Line(), ())

    def observe(self, s: Snapshot) -> None:
        recent = (*s.series.target_rps[-120:], *s.series.completed_rps[-120:])
        self._scale.follow(max((v for v in recent if v is not None), default=0.0))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        right = Line()
        if s.load.sent and width >= SPARK + 12 and self.size.height >= 4:
            right = Line("─", styles.command).put(" target  ", styles.quiet)
            right.put("█", styles.client).put(" served, last minute", styles.quiet)
        return Line("load", styles.strong), right

    def footing(self, s: Snapshot, width: int) -> Line:
        over = s.state in ("done", "lost", "failed", "crashed", "starting")
        if over or width < 60:
            self._hints = Hints(Line(), ())
        else:
            self._hints = load_hints(self.rich_styles, shell_of(self).actions, s.state == "paused")
        return self._hints.line

    @property
    def shows_keys(self) -> bool:
        """Whether the rule says how to steer the load, so that the footer need not."""
        return self.size.height >= 2 and self._hints.line.width > 0

    async def on_click(self, event: events.Click) -> None:
        if event.y == 0 and self.shows_keys:
            begin = self.plain_text()[0].find(self._hints.line.text)
            await self._hints.click(self, event.x - begin if begin >= 0 else -1)

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(" ").join(self._short(s, width - 2))

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        return [self._short(s, width)] if height < 3 or width < COUNTS + 11 else self._tall(s, width, height)

    def _errors(self, s: Snapshot) -> tuple[int, str]:
        """How many in all, and the classes, most first."""
        return sum(n for _, n in s.load.errors), "  ".join(f"{name} {count(n)}" for name, n in s.load.errors)

    def _label(self, s: Snapshot) -> Line:
        if s.state == "paused":
            return Line("PAUSED", self.rich_styles.attention)
        return Line("CLOSED" if _concurrency(s) else "TARGET", self.rich_styles.quiet)

    def _commanded(self, s: Snapshot) -> tuple[str, str]:
        """What is commanded, and its unit: a rate, or the requests in flight of a closed loop."""
        closed = _concurrency(s)
        return (count(closed), "at once") if closed else (rate(self.target), "rps")

    def _short(self, s: Snapshot, width: int) -> Line:
        styles, load = self.rich_styles, s.load
        value, unit = self._commanded(s)
        errors, classes = self._errors(s)
        bad = Line("  errors", styles.trouble if errors else styles.quiet)
        bad.put(f"{count(errors):>5}", styles.trouble if errors else styles.client)
        line = fitting(
            (
                (4, self._label(s)),
                (
                    0,
                    Line(f"{value:>7}" if width >= 16 else value, styles.command).put(
                        f" {unit}", styles.quiet
                    ),
                ),
                (5, self._figure("offered", f"{rate(load.offered_rps):>6}")),
                (2, self._figure("served", f"{rate(load.completed_rps):>6}")),
                (3, self._figure("in flight", f"{count(load.in_flight):>5}")),
                (1 if errors else 6, bad),
            ),
            width,
        )
        if errors and width - line.width > 30:
            line.put("  " + clip(classes, 24), styles.trouble)
        if load.dropped and width - line.width > 15:
            line.put("  dropped", styles.attention).put(f"{count(load.dropped):>6}", styles.attention)
        room = width - line.width - 2
        if room >= 12:
            line.put("  ").join(self._kept_spark(s, room, 1)[0])
        return line

    def _figure(self, name: str, value: str) -> Line:
        return Line(f"  {name}", self.rich_styles.quiet).put(value, self.rich_styles.client)

    def _tall(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, load = self.rich_styles, s.load
        value, unit = self._commanded(s)
        target = value.replace(" ", "")
        plain = target[-1].isalpha() or shell_of(self).ascii
        digits = ("", target, "") if plain else large(f"{target:>5}")
        labels = [self._label(s), Line(unit, styles.quiet), Line()]
        if load.max_rate is not None:
            labels[2] = Line(f"max {rate(load.max_rate)}", styles.quiet)
        errors, _ = self._errors(s)
        bad = styles.trouble if errors else styles.quiet
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
            line = Line().join(labels[i]).to(10).put(digits[i], styles.command).to(32)
            line.put(first[i][0], styles.quiet).to(40).put(f"{rate(first[i][1]):>6}", styles.client)
            style = styles.attention if second[i][0] == "dropped" and load.dropped else styles.client
            line.to(50).put(second[i][0], styles.quiet).to(60).put(f"{second[i][1]:>7}", style).to(71)
            if i == 0:
                line.put("errors", bad).to(COUNTS)
                line.put(f"{count(errors):>7}", styles.trouble if errors else styles.client)
            elif i <= len(load.errors):
                name, n = load.errors[i - 1]
                line.put(clip(name, COUNTS - 72), styles.trouble).to(COUNTS).put(
                    f"{count(n):>7}", styles.trouble
                )
                if i == 2 and len(load.errors) > 2:
                    line.put(f" +{len(load.errors) - 2}", styles.trouble)
            lines.append(line.to(min(SPARK, width)))
        room = width - SPARK
        if s.state == "watching" and room >= 12:
            lines[0].put("only watching", styles.quiet)
            lines[1].put("↑", styles.command).put(" sends 1 a second", styles.quiet)
        elif room >= 12:
            lines += [Line().to(SPARK) for _ in range(height - 3)]
            for line, chart in zip(lines, self._kept_spark(s, room, height), strict=True):
                line.join(chart)
        return lines

    def _kept_spark(self, s: Snapshot, width: int, rows: int) -> list[Line]:
        series = s.series
        newest = (series.t_s[-1:], series.completed_rps[-1:], series.target_rps[-1:])
        return self.once((newest, width, rows, self._scale.value), lambda: self._spark(s, width, rows))

    def _spark(self, s: Snapshot, width: int, rows: int) -> list[Line]:
        """The served rate as an area; the target as a line where the two differ."""
        served = history(s.series.t_s, s.series.completed_rps, width, span_s=60)
        heights = eighths(served, self._scale.value, rows)
        lines = area(heights, rows, self.rich_styles.client)
        if rows == 1:
            return lines
        cells = Cells(width, rows)
        for y, line in enumerate(lines):
            cells.write(0, y, line.text, self.rich_styles.client)
        target = history(s.series.t_s, s.series.target_rps, width, span_s=60)
        levels = eighths(target, self._scale.value, rows)
        over(cells, heights, levels, self.rich_styles.command, self.rich_styles.command_on_client)
        return cells.lines()


def _concurrency(s: Snapshot) -> int:
    """Requests in flight that a closed loop keeps up; 0 where arrivals have a rate."""
    return s.phase.concurrency if s.phase is not None and s.state in ("running", "draining") else 0
