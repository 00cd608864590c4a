"""The lines of a comparison: a row a figure, what differs, and why it is refused. All pure."""

from __future__ import annotations

import textwrap

from rich.style import Style

from rvtop.results.compare import ALL, CENSORED, TOO_FEW, Comparison, Row
from rvtop.ui.draw import Line
from rvtop.ui.format import MISSING, clip, count, fixed, sig3
from rvtop.ui.theme import Styles

#: The figures that give way first where there are fewer rows; the rest keep their order.
GIVE_WAY = (
    *("itl_p90", "e2e_p90", "ttft_p90", "itl_p50", "e2e_p50", "goodput_rps", "itl_p99", "e2e_p99"),
    *("ttft_p50", "itl_mean", "errors", "e2e_mean", "ttft_mean", "tps"),
)
_NAME, _CELL, _CHANGE = 14, 10, 11
_INTERVAL = 18
_WORD = len(TOO_FEW)
_BAR_FROM, _MOST_BAR = 14, 61


def table_lines(
    found: Comparison, part: str, row: int, styles: Styles, width: int, height: int
) -> list[Line]:
    """Heads and rows in at most ``height`` lines of ``width`` cells; the row at the cursor stands out."""
    if height < 2:
        return []
    listed = shown_rows(found, part, height - 1)
    room = width - _NAME - 3 * _CELL - _CHANGE - _WORD - 4
    level = f"{found.level:g} %" if found.has_intervals and room >= _INTERVAL else ""
    room -= _INTERVAL if level else 0
    bar = 0 if room < _BAR_FROM else min(_MOST_BAR, room) - (min(_MOST_BAR, room) % 2 == 0)
    most = max(map(_reach, listed), default=0.0)
    lines = [_heads(styles, bar, most, level)]
    for number, one in enumerate(listed):
        chosen = number == min(row, len(listed) - 1)
        lines.append(_row(one, styles, bar, most, chosen=chosen, interval=bool(level)))
    return [line.cut(width) for line in lines]


def shown_rows(found: Comparison, part: str, room: int) -> list[Row]:
    """The rows of a part that have room, of those that at least one side has a figure for."""
    rows = [one for one in found.parts.get(part, found.parts[ALL]) if (one.a, one.b) != (None, None)]
    for key in GIVE_WAY:
        if len(rows) <= room:
            break
        rows = [one for one in rows if one.figure.key != key]
    return rows[: max(0, room)]


def _reach(row: Row) -> float:
    """How far from 0 a change and its interval lie, in % of A."""
    ends = (row.percent, *_in_percent(row))
    return max((abs(end) for end in ends if end is not None), default=0.0)


def _in_percent(row: Row) -> tuple[float, ...]:
    """The ends of the interval in % of A; empty where there is none."""
    if row.interval is None or not row.a or row.figure.points:
        return ()
    return 100 * row.interval.low / row.a, 100 * row.interval.high / row.a


def _heads(styles: Styles, bar: int, most: float, level: str) -> Line:
    line = Line(" " * _NAME)
    for head in ("A", "B", "B − A"):
        line.put(f"{head:>{_CELL}}", styles.quiet)
    line.put(f"{'change':>{_CHANGE}}", styles.quiet)
    line.put(f"{level:>{_INTERVAL}}" if level else "", styles.quiet)
    if bar:
        half, label = bar // 2, f"{min(most, 100.0):.0f} %"
        inside = max(0, half - len(label) - 1)
        left, right = f"−{label}" + " " * inside, " " * inside + f"+{label}"
        line.put("  " + (f"{left}0{right}" if most else " " * half + "0"), styles.quiet)
    return line


def _row(row: Row, styles: Styles, bar: int, most: float, *, chosen: bool, interval: bool) -> Line:
    unit = row.figure.unit if row.figure.unit in ("ms", "rps") else ""
    name = Line(fixed(row.figure.name, _NAME - 4), styles.cursor if chosen else styles.base)
    name.put(fixed(f" {unit}", 4), styles.cursor_quiet if chosen else styles.quiet)
    line = name.put(f"{value_text(row, row.a):>{_CELL}}", styles.ghost)
    line.put(f"{value_text(row, row.b):>{_CELL}}", styles.client)
    line.put(f"{difference_text(row):>{_CELL}}", styles.base)
    line.put(f"{percent_text(row):>{_CHANGE}}", styles.base)
    line.put(f"{interval_text(row):>{_INTERVAL}}" if interval else "", styles.quiet)
    if bar:
        line.put("  ").join(_bar(row, styles, bar, most))
    return line.put("  ").put(row.word, word_style(row.word, styles))


def word_style(word: str, styles: Styles) -> Style:
    """What is one side's gets weight, what is no comparison attention."""
    if word == CENSORED:
        return styles.attention
    return styles.quiet if word in ("same", TOO_FEW) else styles.strong


def _bar(row: Row, styles: Styles, width: int, most: float) -> Line:
    """The change, left of the middle where B is lower: its interval with the change in it, else a bar."""
    half = width // 2
    line = Line()
    if row.percent is None or not most:
        return line.put(" " * half + "│" + " " * half, styles.faint)
    if row.interval is not None:
        return _span(row, styles, half, min(most, 100.0))
    share = min(1.0, abs(row.percent) / min(most, 100.0))
    cells = max(1, round(share * half)) if row.word not in ("same", TOO_FEW) else 0
    if row.percent < 0:
        line.put(" " * (half - cells)).put("■" * cells, styles.client).put("│", styles.faint)
        return line.put(" " * half)
    line.put(" " * half).put("│", styles.faint).put("■" * cells, styles.client)
    return line.put(" " * (half - cells))


def _span(row: Row, styles: Styles, half: int, most: float) -> Line:
    """``├──●──┤`` over an axis of ``most`` % to both sides of 0, which is in the middle."""
    ends = [max(-most, min(most, end)) for end in (*_in_percent(row), row.percent or 0.0)]
    low, high, at = (half + round(end / most * half) for end in ends)
    style = styles.quiet if row.word == "same" else styles.client
    line = Line()
    for x in range(2 * half + 1):
        if x == at:
            line.put("●", style)
        elif x in (low, high):
            line.put("├" if x == low else "┤", style)
        elif low < x < high:
            line.put("┼" if x == half else "─", style)
        else:
            line.put("│" if x == half else " ", styles.faint)
    return line


def value_text(row: Row, value: float | None) -> str:
    """A figure as its column writes it."""
    if value is None:
        return MISSING
    if row.figure.points:
        return f"{value:.4g} %"
    return count(value) if row.figure.key == "errors" else sig3(value)


def difference_text(row: Row) -> str:
    """``−12.4``, ``+3``, ``−2.9 pt``, ``--``."""
    if row.difference is None:
        return MISSING
    return _signed(row, row.difference) + (" pt" if row.figure.points else "")


def _signed(row: Row, value: float) -> str:
    sign = "+" if value > 0 else "−" if value < 0 else ""
    if row.figure.points:
        return f"{sign}{abs(value):.1f}"
    return sign + (count(abs(value)) if row.figure.key == "errors" else sig3(abs(value)))


def interval_text(row: Row) -> str:
    """``−14.1 … −10.8``, ``--``."""
    found = row.interval
    return MISSING if found is None else f"{_signed(row, found.low)} … {_signed(row, found.high)}"


def percent_text(row: Row) -> str:
    """``−43.7 %``, ``× 54.0`` from ten times on, ``--``; nothing of a percentage."""
    if row.figure.points:
        return ""
    if row.percent is None:
        return MISSING
    if row.percent >= 900:
        return f"× {sig3(1 + row.percent / 100)}"
    text = f"{abs(row.percent):.1f} %"
    sign = "" if text == "0.0 %" else "+" if row.percent > 0 else "−"
    return sign + text


def note_lines(notes: list[str], styles: Styles, width: int) -> list[Line]:
    """What else is to be known, wrapped."""
    made = []
    for note in notes:
        style = styles.attention if note.startswith(CENSORED) else styles.quiet
        wrapped = textwrap.wrap(note, max(8, width), subsequent_indent="  ", break_on_hyphens=False)
        made += [Line(part, style) for part in wrapped]
    return made


def refusal_lines(found: Comparison, keys: str, styles: Styles, width: int) -> list[Line]:
    """Why nothing is compared, and what to press."""
    lines = [Line(" ✗ refused: work differs ", styles.trouble), Line()]
    for one in found.refused:
        wrapped = textwrap.wrap(one, max(8, width - 2), subsequent_indent="  ", break_on_hyphens=False)
        lines += [Line("  ").put(part, styles.base) for part in wrapped]
    lines += [Line(), Line(clip(keys, width), styles.quiet)]
    return [line.cut(width) for line in lines]


def row_text(row: Row, part: str) -> str:
    """A row to be copied."""
    unit = f" {row.figure.unit}" if row.figure.unit and not row.figure.points else ""
    values = f"A {value_text(row, row.a)}  B {value_text(row, row.b)}  B − A {difference_text(row)}"
    change = f"  {percent_text(row)}" if percent_text(row) else ""
    change += f"  ({interval_text(row)})" if row.interval is not None else ""
    return f"{row.figure.name}{unit} ({part}): {values}{change}  {row.word}".rstrip()
