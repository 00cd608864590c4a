"""The lines of live pairs: a row a figure with its interval, what is to be known beside, and how the interval
of the first figure closed. All pure."""

from __future__ import annotations

from dataclasses import replace

from rvtop.contract.pairs import (
    ALIKE,
    CENSORED,
    HIGHER,
    LOWER,
    NOT_YET,
    PairRow,
    Pairs,
    difference_words,
    same_words,
    signed,
)
from rvtop.ui.compare_lines import note_lines, word_style
from rvtop.ui.draw import Line
from rvtop.ui.format import MISSING, count, fixed, sig3
from rvtop.ui.theme import Styles

_NAME, _CELL, _INTERVAL = 12, 10, 20
_WORD = len(CENSORED)
_BAR_FROM, _MOST_BAR = 14, 61
_PAIRS = 11
_OPPOSITE = {LOWER: HIGHER, HIGHER: LOWER}


def mirrored(pairs: Pairs) -> Pairs:
    """The same with B as the reference."""

    def turned(value: float | None) -> float | None:
        return None if value is None else -value

    rows = tuple(
        replace(
            row,
            a=row.b,
            b=row.a,
            difference=turned(row.difference),
            low=turned(row.high),
            high=turned(row.low),
            same_low=turned(row.same_high),
            same_high=turned(row.same_low),
            word=_OPPOSITE.get(row.word, row.word),
        )
        for row in pairs.rows
    )
    points = tuple(
        replace(point, difference=-point.difference, low=-point.high, high=-point.low)
        for point in pairs.points
    )
    return replace(
        pairs,
        a=pairs.b,
        b=pairs.a,
        completed_a=pairs.completed_b,
        completed_b=pairs.completed_a,
        rows=rows,
        points=points,
        ttft_a=pairs.ttft_b,
        ttft_b=pairs.ttft_a,
    )


def table_lines(pairs: Pairs, row: int, styles: Styles, width: int) -> list[Line]:
    """Heads and rows; the row at the cursor stands out."""
    room = width - _NAME - 3 * _CELL - _INTERVAL - _WORD - 4
    bar = 0 if room < _BAR_FROM else min(_MOST_BAR, room) - (min(_MOST_BAR, room) % 2 == 0)
    most = max((_reach(one) for one in pairs.rows), default=0.0)
    lines = [_heads(styles, bar, most)]
    lines += [
        _row(one, styles, bar, most, chosen=number == min(row, len(pairs.rows) - 1))
        for number, one in enumerate(pairs.rows)
    ]
    return [line.cut(width) for line in lines]


def _percent(row: PairRow, value: float | None) -> float | None:
    """A difference in % of A."""
    return None if value is None or not row.a else 100 * value / row.a


def _reach(row: PairRow) -> float:
    """How far from 0 what is drawn of a row lies, in % of A."""
    drawn = (row.low, row.high, row.same_low, row.same_high)
    return min(100.0, max((abs(_percent(row, value) or 0.0) for value in drawn), default=0.0))


def _heads(styles: Styles, bar: int, most: float) -> Line:
    line = Line(" " * _NAME)
    for head in ("A", "B", "B − A"):
        line.put(f"{head:>{_CELL}}", styles.quiet)
    line.put(f"{'at any time':>{_INTERVAL}}", styles.quiet)
    if bar and most:
        half, label = bar // 2, f"{most:.0f} %"
        inside = max(0, half - len(label) - 1)
        line.put(f"  −{label}{' ' * inside}0{' ' * inside}+{label}", styles.quiet)
    return line


def _row(row: PairRow, styles: Styles, bar: int, most: float, *, chosen: bool) -> Line:
    line = Line(fixed(f"{row.name} mean", _NAME - 3), styles.cursor if chosen else styles.base)
    line.put(fixed(f" {row.unit}", 3), styles.cursor_quiet if chosen else styles.quiet)
    line.put(f"{sig3(row.a):>{_CELL}}", styles.ghost)
    line.put(f"{sig3(row.b):>{_CELL}}", styles.client)
    line.put(f"{signed(row.difference):>{_CELL}}", styles.base)
    line.put(f"{interval_text(row):>{_INTERVAL}}", styles.quiet)
    if bar:
        line.put("  ").join(_span(row, styles, bar // 2, most))
    style = styles.quiet if row.word == NOT_YET else word_style(row.word, styles)
    return line.put("  ").put(row.word, style)


def interval_text(row: PairRow) -> str:
    """``−14.1 … −10.8``, ``--``."""
    return MISSING if row.low is None else f"{signed(row.low)} … {signed(row.high)}"


def _span(row: PairRow, styles: Styles, half: int, most: float) -> Line:
    """``├──●──┤`` over ``░``, what A against A had, on an axis of ``most`` % to both sides of 0."""

    def at(value: float | None) -> int | None:
        share = _percent(row, value)
        return None if share is None or not most else half + round(max(-1.0, min(1.0, share / most)) * half)

    low, middle, high = at(row.low), at(row.difference), at(row.high)
    floor = at(row.same_low), at(row.same_high)
    style = styles.quiet if row.word in (ALIKE, NOT_YET) else styles.client
    line = Line()
    for x in range(2 * half + 1):
        if low is not None and high is not None and low <= x <= high:
            line.put("●" if x == middle else "├" if x == low else "┤" if x == high else "─", style)
        elif x == half:
            line.put("│", styles.faint)
        elif floor[0] is not None and floor[1] is not None and floor[0] <= x <= floor[1]:
            line.put("░", styles.faint)
        else:
            line.put(" ")
    return line


def notes(pairs: Pairs) -> list[str]:
    """What else is to be known."""
    told = []
    if pairs.rows and any(row.word == CENSORED for row in pairs.rows):
        told.append(f"{CENSORED}: completion differs by over a point; those that were answered flatter")
    if pairs.same_count:
        told.append(f"░ {same_words(pairs)}")
    elif pairs.stage != "warm":
        told.append("no A against A: what the instrument adds is not known")
    done = [f"{name} {sig3(value)} %" for name, value in (("A", pairs.completed_a), ("B", pairs.completed_b))]
    if pairs.count:
        told.append(f"completed: {', '.join(done)}" + (f"; {count(pairs.lost)} lost" if pairs.lost else ""))
    told += [f"{row.name} settles in about {count(row.settles)} pairs" for row in pairs.rows if row.settles]
    if pairs.waiting:
        told.append(f"{count(pairs.waiting)} pairs wait for one that was sent before them")
    return told


def wrapped_notes(pairs: Pairs, styles: Styles, width: int) -> list[Line]:
    """The notes as lines."""
    return note_lines(notes(pairs), styles, width)


def point_lines(pairs: Pairs, styles: Styles, width: int, height: int) -> list[Line]:
    """How the interval of the first figure closed: a line each time that the pairs had doubled, the last one
    now, on one axis that holds 0."""
    bar = width - _PAIRS - 1
    points = pairs.points[-height:] if height > 0 else ()
    if not points or bar < _BAR_FROM:
        return []
    low, high = (min(0.0, *(one.low for one in points)), max(0.0, *(one.high for one in points)))

    def at(value: float) -> int:
        return round((value - low) / ((high - low) or 1.0) * (bar - 1))

    lines = []
    for number, one in enumerate(points):
        style = styles.client if number == len(points) - 1 else styles.quiet
        line = Line(f"{count(one.pairs):>{_PAIRS - 6}} pairs ", styles.quiet)
        left, middle, right = at(one.low), at(one.difference), at(one.high)
        for x in range(bar):
            if left <= x <= right:
                line.put("●" if x == middle else "├" if x == left else "┤" if x == right else "─", style)
            else:
                line.put("│" if x == at(0.0) else " ", styles.faint)
        lines.append(line.cut(width))
    return lines


def row_text(pairs: Pairs, row: int) -> str:
    """A row to be copied."""
    if not pairs.rows:
        return ""
    one = pairs.rows[min(row, len(pairs.rows) - 1)]
    return f"A {pairs.a}  B {pairs.b}  {difference_words(one, pairs.count)}: {one.word}"
