"""Models behind one name: a row each, with a bar of the share that it was to have and that it got."""

from __future__ import annotations

from rvtop.contract.arms import Arm, steered
from rvtop.contract.snapshot import Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import clip, count, fixed, sig3
from rvtop.ui.widgets.engines import choose
from rvtop.ui.widgets.panel import Panel

#: Cells of a row beside the name and the bar, and of the columns for which there must be room.
FIXED, LEAST_NAME, MOST_NAME, LEAST_BAR, MOST_BAR = 37, 6, 24, 6, 24
LEAST_ALIAS = 4
GOODPUT, MEAN = 8, 8


def percent(share: float | None) -> str:
    """A share without its sign, in 4 cells at most."""
    return "--" if share is None else f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}"


def worst(arm: Arm) -> tuple[float, ...]:
    """Down before failing before loaded."""
    return (float(arm.up is False), float(arm.errors_recent), arm.asked or 0.0)


def _what(s: Snapshot) -> str:
    return "models" if all(arm.kind == "model" for arm in s.arms) else "arms"


def _names(s: Snapshot) -> list[str]:
    return sorted({arm.alias for arm in s.arms} - {""})


def _label(arm: Arm, names: list[str], cells: int) -> str:
    """Its name; where several names are split, with its own, which is cut first."""
    if not arm.alias or len(names) < 2:
        return arm.name
    return f"{clip(arm.alias, max(LEAST_ALIAS, cells - len(arm.name) - 1))} {arm.name}"


class ArmsPanel(Panel):
    TOPIC = "arms"
    PLACE = "left"
    GOOD = 3

    def wants(self, s: Snapshot) -> bool:
        return bool(s.arms)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 1 + min(2, len(s.arms)), 1 + len(s.arms)

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return (s.arms,)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, names = self.rich_styles, _names(s)
        heads = "asked  got %  TTFT p50     p99  errors"
        heads += "".join(f"{head:>{cells}}" for head, cells in self._more(width))
        title = Line(_what(s), styles.client_bold)
        if names:
            title.put(" of ", styles.quiet).put(clip(", ".join(names), 24), styles.base)
        return title, Line(heads if width >= FIXED + LEAST_NAME + len("arms of ") else "", styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        shown, rest = choose(s.arms, height, worst)
        moved = steered(s.arms)
        room = max(LEAST_NAME, width - FIXED - sum(cells for _, cells in self._more(width)))
        names, name = _names(s), LEAST_NAME + 4
        if len(names) > 1:  # two words tell a row from the others
            name = max(name, min(MOST_NAME, 2 + max(len(_label(arm, names, MOST_NAME)) for arm in shown)))
        bar = min(MOST_BAR, room - name)
        bar = bar if bar >= LEAST_BAR else 0
        lines = [self._row(arm, names, arm is moved, room - bar, bar, width) for arm in shown]
        if rest:
            lines.append(Line(f"{rest} more, all doing better", self.rich_styles.quiet))
        return lines

    def _more(self, width: int) -> list[tuple[str, int]]:
        """Columns for which there is room: their heads and cells."""
        room, shown = width - FIXED - 16, []
        for head, cells in (("good/s", GOODPUT), ("E2E ms", MEAN)):
            room -= cells
            if room >= 0:
                shown.append((head, cells))
        return shown

    def _row(self, arm: Arm, names: list[str], moved: bool, room: int, bar: int, width: int) -> Line:
        styles = self.rich_styles
        mark = "▸" if moved else " "
        name = styles.trouble if arm.up is False else styles.base
        line = Line(f"{mark}{fixed(_label(arm, names, room - 1), room - 1)}", name)
        if bar:
            line.join(self._bar(arm, bar))
        state = "down" if arm.up is False else percent(arm.asked)
        line.put(f"{state:>5}", styles.trouble if arm.up is False else styles.quiet)
        line.put(f"{percent(arm.got):>7}", styles.client)
        line.put(f"{sig3(arm.ttft_p50):>10}{sig3(arm.ttft_p99):>8}", styles.client)
        line.put(f"{count(arm.errors):>7}", styles.trouble if arm.errors_recent else styles.quiet)
        for head, cells in self._more(width):
            value = arm.goodput_rps if head == "good/s" else arm.e2e_mean
            line.put(f"{sig3(value):>{cells}}", styles.client)
        return line

    def _bar(self, arm: Arm, cells: int) -> Line:
        """Filled as far as it got, a mark where it was to be."""
        styles, room = self.rich_styles, cells - 1
        got = round((arm.got or 0.0) * room)
        line = Line("█" * got, styles.client).put("░" * (room - got), styles.faint).put(" ", styles.base)
        if arm.asked is None:
            return line
        at = min(room - 1, round(arm.asked * room))
        line = Line("█" * min(got, at), styles.client).put("░" * max(0, at - got), styles.faint)
        line.put("┃", styles.attention)
        return (
            line.put("█" * max(0, got - at - 1), styles.client)
            .put("░" * (room - 1 - max(at, got - 1)), styles.faint)
            .put(" ", styles.base)
        )

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        parts, names = [(0, Line(f" {_what(s):<9}", styles.quiet))], _names(s)
        for place, arm in enumerate(sorted(s.arms, key=worst, reverse=True)):
            alarm = styles.trouble if arm.up is False or arm.errors_recent else styles.client
            share = f"{percent(arm.got)}/{percent(arm.asked)} %"
            line = Line(f"{clip(_label(arm, names, 20), 20)} ", styles.base).put(f"{share}  ", alarm)
            line.put("p99 ", styles.quiet).put(f"{sig3(arm.ttft_p99)}  ", styles.client)
            parts.append((place + 1, line))
        return fitting(parts, width)
