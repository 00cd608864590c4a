"""The lines of a comparison: a row a figure, what differs, and why it is refused. All pure."""

from __future__ import annotations

import textwrap

from rich.style import Style

from rvtop.results.compare import ALL, CENSORED, Comparison, Row
from rvtop.ui.draw import Line
from rvtop.ui.format import MISSING, clip, count, fixed, sig3
from rvtop.ui.theme import Styles

#: The figures that give way first where there are fewer rows; the rest keep their order.
GIVE_WAY = (
    *("itl_p90", "e2e_p90", "ttft_p90", "itl_p50", "e2e_p50", "goodput_rps", "itl_p99", "e2e_p99"),
    *("ttft_p50", "itl_mean", "errors", "e2e_mean", "ttft_mean", "tps"),
)
_NAME, _CELL, _CHANGE = 14, 10, 11
_WORD = 10
_BAR_FROM, _MOST_BAR = 14, 61


def table_lines(
    found: Comparison, part: str, row: int, styles: Styles, width: int, height: int
) -> list[Line]:
    """Heads and rows in at most ``height`` lines of ``width`` cells; the row at the cursor stands out."""
    if height < 2:
        return []
    listed = shown_rows(found, part, height - 1)
    bar = min(_MOST_BAR, width - _NAME - 3 * _CELL - _CHANGE - _WORD - 4)
    bar = 0 if bar < _BAR_FROM else bar - (bar % 2 == 0)
    most = max((abs(one.percent) for one in listed if one.percent is not None), default=0.0)
    lines = [_heads(styles, bar, most)]
    for number, one in enumerate(listed):
        lines.append(_row(one, styles, bar, most, chosen=number == min(row, len(listed) - 1)))
    return [line.cut(width) for line in lines]


def shown_rows(found: Comparison, part: str, room: int) -> list[Row]:
    """The rows of a part that have room, of those that at least one side has a figure for."""
    rows = [one for one in found.parts.get(part, found.parts[ALL]) if (one.a, one.b) != (None, None)]
    for key in GIVE_WAY:
        if len(rows) <= room:
            break
        rows = [one for one in rows if one.figure.key != key]
    return rows[: max(0, room)]


def _heads(styles: Styles, bar: int, most: float) -> Line:
    line = Line(" " * _NAME)
    for head in ("A", "B", "B − A"):
        line.put(f"{head:>{_CELL}}", styles.quiet)
    line.put(f"{'change':>{_CHANGE}}", styles.quiet)
    if bar:
        half, label = bar // 2, f"{min(most, 100.0):.0f} %"
        inside = max(0, half - len(label) - 1)
        left, right = f"−{label}" + " " * inside, " " * inside + f"+{label}"
        line.put("  " + (f"{left}0{right}" if most else " " * half + "0"), styles.quiet)
    return line


def _row(row: Row, styles: Styles, bar: int, most: float, *, chosen: bool) -> Line:
    unit = row.figure.unit if row.figure.unit in ("ms", "rps") else ""
    name = Line(fixed(row.figure.name, _NAME - 4), styles.cursor if chosen else styles.base)
    name.put(fixed(f" {unit}", 4), styles.cursor_quiet if chosen else styles.quiet)
    line = name.put(f"{value_text(row, row.a):>{_CELL}}", styles.ghost)
    line.put(f"{value_text(row, row.b):>{_CELL}}", styles.client)
    line.put(f"{difference_text(row):>{_CELL}}", styles.base)
    line.put(f"{percent_text(row):>{_CHANGE}}", styles.base)
    if bar:
        line.put("  ").join(_bar(row, styles, bar, most))
    return line.put("  ").put(row.word, word_style(row.word, styles))


def word_style(word: str, styles: Styles) -> Style:
    """What is one side's gets weight, what is no comparison attention."""
    return styles.attention if word == CENSORED else styles.quiet if word == "same" else styles.strong


def _bar(row: Row, styles: Styles, width: int, most: float) -> Line:
    """The change, left of the middle where B is lower."""
    half = width // 2
    line = Line()
    if row.percent is None or not most:
        return line.put(" " * half + "│" + " " * half, styles.faint)
    share = min(1.0, abs(row.percent) / min(most, 100.0))
    cells = max(1, round(share * half)) if row.word != "same" else 0
    if row.percent < 0:
        line.put(" " * (half - cells)).put("■" * cells, styles.client).put("│", styles.faint)
        return line.put(" " * half)
    line.put(" " * half).put("│", styles.faint).put("■" * cells, styles.client)
    return line.put(" " * (half - cells))


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
    sign = "+" if row.difference > 0 else "−" if row.difference < 0 else ""
    if row.figure.points:
        return f"{sign}{abs(row.difference):.1f} pt"
    text = count if row.figure.key == "errors" else sig3
    return sign + text(abs(row.difference))


def percent_text(row: Row) -> str:
    """``−43.7 %``, ``× 54.0`` from ten times on, ``--``; nothing of a percentage."""
    if row.figure.points:
        return ""
    if row.percent is None:
        return MISSING
    if row.percent >= 900:
        return f"× {sig3(1 + row.percent / 100)}"
    sign = "+" if row.percent > 0 else "−" if row.percent < 0 else ""
    return f"{sign}{abs(row.percent):.1f} %"


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
    return f"{row.figure.name}{unit} ({part}): {values}{change}  {row.word}".rstrip()
