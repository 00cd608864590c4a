"""The load panel: the commanded rate in large digits, the dial that remembers, and what came of it."""

from __future__ import annotations

from rich.style import Style
from textual import events

from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.ui.axis import StickyMax, history
from rvtop.ui.draw import Cells, Line, area, eighths, fitting, large, over
from rvtop.ui.format import MISSING, clip, count, first_that_fits, rate, sig3
from rvtop.ui.layout import TWO_COLUMNS
from rvtop.ui.rate_dial import LEAST_WIDTH, RateDial
from rvtop.ui.rate_memory import Means, RateScale
from rvtop.ui.shell import may_steer, shell_of
from rvtop.ui.widgets.hints import Hints, load_hints
from rvtop.ui.widgets.panel import Panel

#: From so many rows on the digits are twice as high.
HIGH = 6
#: Cells of the digits with their unit, and of each column of figures: name, value, gap.
DIGITS, COLUMNS = 28, ((8, 6, 3), (9, 6, 3), (7, 8, 0))
FIGURES = sum(sum(column) for column in COLUMNS)
#: Cells that a dial of one row gets, at least where it is drawn and at most.
SHORT_DIAL, LONG_DIAL = 20, 40
#: Cells that a dial of three rows and the chart of the last minute get at most; the chart at least.
WIDEST_DIAL, WIDEST_SPARK, LEAST_SPARK = 72, 120, 24

#: A name, its value, and the style of both if it is not the usual one.
Figure = tuple[str, str, Style | None]


class LoadPanel(Panel):
    TOPIC = "load"
    PLACE = "top"
    GOOD = 4

    def wants(self, s: Snapshot) -> bool:
        return s.state not in OVER

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return (2, 1 + HIGH) if width >= TWO_COLUMNS else (1, 1)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.target: float | None = None  # PendingRate.shown: the rate asked for, until the snapshot shows it
        self.taken = True  # the load has that rate
        self.means: Means | None = None  # since the last command, where the screen has seen a second of it
        self._scale = StickyMax(least=1.0)
        self._hints = Hints(Line(), ())
        self._dial_at: tuple[int, RateScale] | None = None  # the dial's first column in the panel

    def observe(self, s: Snapshot) -> None:
        recent = (*s.series.target_rps[-120:], *s.series.completed_rps[-120:])
        self._scale.follow(max((v for v in recent if v is not None), default=0.0))

    # -- the rule ------------------------------------------------------------------------------

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, right = self.rich_styles, Line()
        if self.size.height >= 4 and self._spark_width(s, width):
            right.put("─", styles.command).put(" commanded  ", styles.quiet)
            right.put("█", styles.client).put(" served, last minute", styles.quiet)
        classes = "  ".join(f"{name} {count(n)}" for name, n in s.load.errors)
        if classes and self.size.height >= 2:
            right.put("  " if right.width else "").put(clip(classes, max(12, width // 3)), styles.trouble)
        return Line("load", styles.strong), right

    def footing(self, s: Snapshot, width: int) -> Line:
        nothing_to_steer = s.state in (*OVER, "starting") or not may_steer(shell_of(self))
        if nothing_to_steer or width < 60:
            self._hints = Hints(Line(), ())
        else:
            paused = s.state == "paused"
            actions = shell_of(self).actions
            self._hints = self.once((paused,), lambda: load_hints(self.rich_styles, actions, paused), "keys")
        return self._hints.line

    @property
    def shows_keys(self) -> bool:
        """Whether the rule says how to steer the load, so that the footer need not."""
        return self.size.height >= 2 and self._hints.line.width > 0

    # -- the mouse -----------------------------------------------------------------------------

    async def on_click(self, event: events.Click) -> None:
        if event.y == 0 and self.shows_keys:
            begin = self.plain_text()[0].find(self._hints.line.text)
            await self._hints.click(self, event.x - begin if begin >= 0 else -1)
        elif self._dial_at is not None and 0 <= event.x - self._dial_at[0] < self._dial_at[1].width:
            first, scale = self._dial_at
            asked = float(f"{scale.rate(event.x - first):.2g}")
            await self.run_action(f"screen.go('{rate(min(asked, scale.top)).replace(' ', '')}')")

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("screen.nudge(1)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("screen.nudge(-1)")

    # -- content -------------------------------------------------------------------------------

    def one_line(self, s: Snapshot, width: int) -> Line:
        return Line(" ").join(self._short(s, width - 2))

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if height < 3 or width < DIGITS + LEAST_WIDTH + 2 + FIGURES:
            return [self._short(s, width)]
        return self._tall(s, width, height)

    def _commanded(self, s: Snapshot) -> tuple[str, str]:
        """What is commanded, and its unit: a rate, or the requests in flight of a closed loop."""
        closed = _concurrency(s)
        return (count(closed), "at once") if closed else (rate(self.target), "rps")

    def _dial(self, s: Snapshot, width: int) -> RateDial:
        memory = shell_of(self).rates.memory
        scale = RateScale(width, max(memory.highest, self.target or 0.0), s.load.max_rate)
        steered = may_steer(shell_of(self))
        return RateDial(scale, memory, self.target, self.taken, s.slo_ttft_ms is not None, steered)

    def _short(self, s: Snapshot, width: int) -> Line:
        styles, load = self.rich_styles, s.load
        value, unit = self._commanded(s)
        errors = sum(n for _, n in load.errors)
        commanded = Line(f"{value:>5}" if width >= 16 else value, self._value_style()).put(
            f" {unit}", styles.quiet
        )
        paused = Line("PAUSED ", styles.attention) if s.state == "paused" else Line()
        bad = Line("  errors", styles.trouble if errors else styles.quiet)
        bad.put(f"{count(errors):>5}", styles.trouble if errors else styles.client)
        due, served, _ = self._means(s)
        with_dial = width >= 70 and not _concurrency(s)
        parts = [
            (0, paused.join(commanded)),
            (3, self._beside("in flight", f"{count(load.in_flight):>5}")),
            (1 if errors else 4, bad),
            (2, self._beside("served", f"{served:>6}")),
            (5, self._beside("due", f"{due:>6}")),
        ]
        if load.goodput_rps is not None:
            parts.append((6, self._beside("goodput", f"{rate(load.goodput_rps):>6}")))
        if load.dropped:
            dropped = Line("  dropped", styles.attention).put(f"{count(load.dropped):>6}", styles.attention)
            parts.append((2, dropped))
        head, rest = parts[0][1], Line()
        room = width - head.width - (SHORT_DIAL + 2 if with_dial else 0)
        if room > 0:
            rest = fitting([(-1, Line()), *parts[1:]], room)
        dial = min(LONG_DIAL, width - head.width - rest.width - 2)
        self._dial_at = None
        if with_dial and dial >= LEAST_WIDTH:
            made = self._dial(s, dial)
            self._dial_at = (head.width + 3, made.scale)
            head.put("  ").join(made.one_row(styles))
        return head.join(rest).cut(width)

    def _value_style(self) -> Style:
        command = self.rich_styles.command
        return command if self.taken else command + Style(underline=True)

    def _beside(self, name: str, value: str) -> Line:
        """A name and its value, which is as wide as it mostly is and keeps its distance where it is wider."""
        value = value if value.startswith(" ") else f" {value}"
        return Line(f"  {name}", self.rich_styles.quiet).put(value, self.rich_styles.client)

    def _means(self, s: Snapshot) -> tuple[str, str, str]:
        """What was due and served a second, and the noise of arrivals; before the screen has seen a second
        of it, and of an earlier second, the session's own means of 2 s."""
        means = self.means
        if means is None:
            return rate(s.load.offered_rps), rate(s.load.completed_rps), MISSING
        noise = MISSING if _concurrency(s) else f"±{sig3(means.noise)}"
        return rate(means.due), rate(means.served), noise

    def _figures(self, s: Snapshot) -> list[tuple[Figure, Figure, Figure]]:
        """Three columns of three figures; while we only watch, the server's."""
        styles, load = self.rich_styles, s.load
        if s.state == "watching" and not load.sent:
            told, server = s.figures, styles.server
            tokens = s.tokens.server_per_s
            return [
                (("SERVER", "", styles.server_bold), ("running", count(told.get("running")), server), _NONE),
                (("tok/s", sig3(tokens), server), ("waiting", count(told.get("waiting")), server), _NONE),
                (_NONE, ("only watching", "", styles.quiet), _NONE),
            ]
        due, served, noise = self._means(s)
        errors = sum(n for _, n in load.errors)
        waiting = ("waiting", count(s.figures.get("waiting")), styles.server)
        bad = ("errors", count(errors), styles.trouble if errors else None)
        dropped = ("dropped", count(load.dropped), styles.attention if load.dropped else None)
        return [
            (("due", due, None), ("in flight", count(load.in_flight), None), ("ok", count(load.ok), None)),
            (("served", served, None), ("goodput", rate(load.goodput_rps), None), bad),
            (("noise", noise, None), waiting, dropped),
        ]

    def _tall(self, s: Snapshot, width: int, height: int) -> list[Line]:
        high = height >= HIGH
        lines = self._digits(s, high)
        begin = max(DIGITS, max(line.width for line in lines) + 2)
        room = min(WIDEST_DIAL, width - FIGURES - 2 - begin)
        between = self._between(s, begin, room)
        figures, at = self._figures(s), begin + room + 2
        lines += [Line() for _ in range(height - len(lines))]
        for line, dial in zip(lines, between, strict=False):
            line.to(begin).join(dial)
        for line, row in zip(lines, figures, strict=False):
            line.to(at)
            for column, (name, value, style) in zip(COLUMNS, row, strict=True):
                self._put(line, column, name, value, style)
        if self._spark_width(s, width):
            at += FIGURES + 3
            for line, chart in zip(
                lines, self._kept_spark(s, min(WIDEST_SPARK, width - at), height), strict=True
            ):
                line.to(at).join(chart)
        return lines

    def _between(self, s: Snapshot, begin: int, room: int) -> list[Line]:
        """What stands between digits and figures, from cell ``begin`` on."""
        self._dial_at = None
        if _concurrency(s):
            texts = ("closed loop: each answer sends the next request", "each answer sends the next", "")
            return [Line(), Line(first_that_fits(texts, room), self.rich_styles.quiet)]
        dial = self._dial(s, room)
        self._dial_at = (begin + 1, dial.scale)
        memory, scale = dial.memory, dial.scale
        remembered = (memory, memory.version, memory.target)
        key = (remembered, scale.width, scale.top, dial.rate, dial.taken, dial.judged)
        return self.once(key, lambda: dial.rows(self.rich_styles), "dial")

    def _spark_width(self, s: Snapshot, width: int) -> int:
        """Cells that are left for the last minute at the right of the figures; 0: too few."""
        left = min(WIDEST_SPARK, width - DIGITS - WIDEST_DIAL - 2 - FIGURES - 3)
        return left if left >= LEAST_SPARK and s.load.sent else 0

    def _put(
        self, line: Line, column: tuple[int, int, int], name: str, value: str, style: Style | None
    ) -> None:
        styles, (names, values, gap) = self.rich_styles, column
        if not value:
            line.put(f"{name:<{names + values + gap}}", style)
            return
        loud = style is not None and style is not styles.server
        wider = max(0, len(name) + 1 + len(value) - names - values)  # which it takes from the gap
        values, gap = values + wider, max(0, gap - wider)
        line.put(f"{name:<{names}}", style if loud else styles.quiet)
        missing = value == MISSING
        line.put(f"{value:>{values}}", styles.stale if missing else style or styles.client).put(" " * gap)

    def _digits(self, s: Snapshot, high: bool) -> list[Line]:
        """The commanded figure as rows, with its unit beside it."""
        styles = self.rich_styles
        value, unit = self._commanded(s)
        value = value.replace(" ", "")
        plain = value[-1].isalpha() or shell_of(self).ascii
        rows = ["", value, ""] if plain else list(large(f"{value:>5}"))
        if high and not plain:
            rows = _twice(rows)
        lines = [Line(row, self._value_style()).to(20 if plain or not high else 0) for row in rows]
        middle = len(lines) // 2
        lines[middle].put("  ").put(unit, styles.quiet)
        if s.state == "paused":
            lines[middle - 1].put("  ").put("PAUSED", styles.attention)
        if s.load.max_rate is not None:
            lines[middle + 1].put("  ").put(f"≤ {rate(s.load.max_rate)}", styles.quiet)
        return lines

    def _kept_spark(self, s: Snapshot, width: int, rows: int) -> list[Line]:
        series = s.series
        newest = (series.t_s[-1:], series.completed_rps[-1:], series.target_rps[-1:])
        return self.once((newest, width, rows, self._scale.value), lambda: self._spark(s, width, rows))

    def _spark(self, s: Snapshot, width: int, rows: int) -> list[Line]:
        """The served rate as an area; the commanded one as a line where the two differ."""
        served = history(s.series.t_s, s.series.completed_rps, width, span_s=60)
        heights = eighths(served, self._scale.value, rows)
        cells = Cells(width, rows)
        for y, line in enumerate(area(heights, rows, self.rich_styles.client)):
            cells.write(0, y, line.text, self.rich_styles.client)
        target = history(s.series.t_s, s.series.target_rps, width, span_s=60)
        levels = eighths(target, self._scale.value, rows)
        over(cells, heights, levels, self.rich_styles.command, self.rich_styles.command_on_client)
        return cells.lines()


_NONE: Figure = ("", "", None)


def _twice(rows: list[str]) -> list[str]:
    """Half blocks twice as wide and high."""
    upper = str.maketrans({" ": "  ", "▀": "██", "▄": "  ", "█": "██"})
    lower = str.maketrans({" ": "  ", "▀": "  ", "▄": "██", "█": "██"})
    return [row.translate(half) for row in rows for half in (upper, lower)]


def _concurrency(s: Snapshot) -> int:
    """Requests in flight that a closed loop keeps up; 0 where arrivals have a rate."""
    return s.phase.concurrency if s.phase is not None and s.state in ("running", "paused", "draining") else 0
