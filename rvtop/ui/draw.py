"""Drawing in cells: lines of styled runs, bars and columns in eighths, and large digits. All pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

Run = tuple[str, Style | None]

_CLICK = "@click"  # the key of what a click does among what a style carries

UP = " ▁▂▃▄▅▆▇█"  # columns grow upward in eighths


def _cells(text: str) -> int:
    return len(text) if text.isascii() and text.isprintable() else cell_len(text)


class Line:
    """One row of the screen while it is put together: runs of text, each with a style."""

    __slots__ = ("runs", "width")

    def __init__(self, text: str = "", style: Style | None = None) -> None:
        self.runs: list[Run] = [(text, style)] if text else []
        self.width = _cells(text) if text else 0

    def put(self, text: str, style: Style | None = None) -> Line:
        """Adds ``text`` at the end."""
        if text:
            self.runs.append((text, style))
            self.width += _cells(text)
        return self

    def to(self, column: int) -> Line:
        """Fills with blanks up to ``column``; does nothing when the line is already that long."""
        return self.put(" " * (column - self.width)) if column > self.width else self

    def join(self, other: Line) -> Line:
        """Adds all of ``other`` at the end."""
        self.runs.extend(other.runs)
        self.width += other.width
        return self

    def indented(self) -> Line:
        """A line of the same behind one blank cell."""
        made = Line()
        made.runs, made.width = [(" ", None), *self.runs], self.width + 1
        return made

    def led_by(self, mark: str, style: Style) -> Line:
        """The line with ``mark``, of one cell, in place of its first one."""
        made = Line(mark, style)
        for text, own in self.runs:
            made.put(text[1:] if made.runs == [(mark, style)] else text, own)
        return made

    def segments(self, width: int, base: Style, behind: Style | None = None) -> list[Segment]:
        """The line as Rich takes it: exactly ``width`` cells, ``base`` where no style was given, and
        ``behind`` what has no background."""
        runs = [(text, style and _seen(style)) for text, style in self.cut(width).runs]
        if self.width < width:
            runs = [*runs, (" " * (width - self.width), base)]
        if behind is None:
            return [Segment(text, style or base) for text, style in runs]
        styles = ((text, style or base) for text, style in runs)
        return [Segment(text, style if style.bgcolor else behind + style) for text, style in styles]

    def action_at(self, x: int) -> str | None:
        """What a click on cell ``x`` does, if it does anything."""
        for text, style in self.runs:
            x -= _cells(text)
            if x < 0:
                return style.meta.get(_CLICK) if style is not None else None
        return None

    def strip(self, width: int, base: Style) -> Strip:
        """The same as Textual takes it."""
        return Strip(self.segments(width, base), width)

    def cut(self, width: int) -> Line:
        """The line if it fits into ``width`` cells, else as much of it as does."""
        if self.width <= width:
            return self
        made = Line()
        for text, style in self.runs:
            made.put(set_cell_size(text, min(cell_len(text), max(0, width - made.width))), style)
        return made

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.runs)


def clickable(style: Style, action: str) -> Style:
    """``style`` of what does ``action`` (Textual's) when it is clicked."""
    return style + Style(meta={_CLICK: action})


@lru_cache(maxsize=512)
def _seen(style: Style) -> Style:
    """What of ``style`` goes to the terminal."""
    return style.clear_meta_and_links() if style.meta else style


def spread(parts: Sequence[Line], width: int) -> Line:
    """Parts laid out over ``width``: the first at the left, the last at the right, the rest between."""
    line = Line()
    if not parts:
        return line
    total = sum(part.width for part in parts)
    gaps = len(parts) - 1
    spare = max(gaps, width - total)
    for i, part in enumerate(parts):
        if i:
            line.put(" " * (spare * i // gaps - spare * (i - 1) // gaps))
        line.join(part)
    return line


def fitting(parts: Sequence[tuple[int, Line]], width: int) -> Line:
    """The lines of (rank, line) beside each other; where they do not fit into ``width`` cells, those of the
    highest rank are left out first, the later of two that are equal. The last one left is cut."""
    kept = list(enumerate(parts))
    while len(kept) > 1 and sum(line.width for _, (_, line) in kept) > width:
        kept.remove(max(kept, key=lambda item: (item[1][0], item[0])))
    made = Line()
    for _, (_, line) in kept:
        made.join(line)
    return made.cut(width)


def bar(share: float | None, width: int) -> tuple[str, str]:
    """A horizontal bar of ``width`` cells as (filled, track); None is all track.

    Squares instead of full blocks: bars on neighbouring rows stay apart, and the two parts differ
    without colour.
    """
    if share is None or width <= 0:
        return "", "·" * max(0, width)
    full = round(min(max(share, 0.0), 1.0) * width)
    if share > 0:
        full = max(1, full)  # a share above 0 shows at least one cell
    return "■" * full, "·" * (width - full)


def eighths(values: Iterable[float | None], top: float, rows: int) -> list[int]:
    """Column heights in eighths of a cell for values of 0..``top``; what is above 0 shows at least one."""
    full = rows * 8
    scale = full / top if top > 0 else 0.0
    made = []
    for value in values:
        height = round(value * scale) if value else 0
        made.append(full if height > full else height if height > 0 else 1 if value and value > 0 else 0)
    return made


def area(heights: Sequence[int], rows: int, style: Style) -> list[Line]:
    """Columns of ``heights`` eighths as ``rows`` lines, top first."""
    full = rows * 8
    glyphs = " " * full + UP[:8] + "█" * (full - 7)  # by height above the row's floor, from -full on
    lines = []
    for row in range(rows):
        shift = full - (rows - 1 - row) * 8
        lines.append(Line("".join([glyphs[h + shift] for h in heights]), style))
    return lines


class Cells:
    """A small grid of (character, style) for charts whose layers meet in one cell."""

    __slots__ = ("chars", "height", "styles", "width")

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.chars = [[" "] * width for _ in range(height)]
        self.styles: list[list[Style | None]] = [[None] * width for _ in range(height)]

    def set(self, x: int, y: int, char: str, style: Style | None) -> None:
        if 0 <= x < self.width and 0 <= y < self.height:
            self.chars[y][x] = char
            self.styles[y][x] = style

    def write(self, x: int, y: int, text: str, style: Style | None) -> None:
        """Writes single-width ``text`` from column ``x`` on."""
        for i, char in enumerate(text):
            self.set(x + i, y, char, style)

    def lines(self) -> list[Line]:
        """The grid as lines, neighbours of one style put together."""
        made = []
        for chars, styles in zip(self.chars, self.styles, strict=True):
            line = Line()
            begin, current = 0, styles[0] if styles else None
            for x, style in enumerate(styles):
                if style is not current:
                    line.put("".join(chars[begin:x]), current)
                    begin, current = x, style
            made.append(line.put("".join(chars[begin:]), current))
        return made


def over(cells: Cells, heights: Sequence[int], levels: Sequence[int], style: Style, solid: Style) -> None:
    """A line at ``levels`` (eighths, 0: none) over the area of ``heights`` that ``cells`` shows.

    Only where the two are about a row apart: a cell holds one character, and where the two agree the
    edge of the area shows both. ``solid`` is for where the line crosses the area.
    """
    for x, level in enumerate(levels):
        if level == 0 or abs(level - heights[x]) < 6:
            continue
        row, part = divmod(level - 1, 8)
        y = cells.height - 1 - row
        if 0 < heights[x] - 8 * row < 8:
            continue  # the area ends in this very cell
        inside = heights[x] > 8 * row
        cells.set(x, y, "▁" if part < 3 else "─" if part < 6 else "▔", solid if inside else style)


# A 3 x 5 pixel face; two pixels share a cell, so that a figure takes three rows.
_FACE = {
    "0": ("111", "101", "101", "101", "111"),
    "1": ("010", "110", "010", "010", "111"),
    "2": ("111", "001", "111", "100", "111"),
    "3": ("111", "001", "111", "001", "111"),
    "4": ("101", "101", "111", "001", "001"),
    "5": ("111", "100", "111", "001", "111"),
    "6": ("111", "100", "111", "101", "111"),
    "7": ("111", "001", "001", "001", "001"),
    "8": ("111", "101", "111", "101", "111"),
    "9": ("111", "101", "111", "001", "111"),
    ".": ("0", "0", "0", "0", "1"),
    "-": ("000", "000", "111", "000", "000"),
    " ": ("0", "0", "0", "0", "0"),
}


def large(text: str) -> tuple[str, str, str]:
    """Digits, point, minus and blank as three rows of half blocks, one blank column between."""
    rows = []
    for upper in (0, 2, 4):
        cells = []
        for char in text:
            face = _FACE[char]
            top = face[upper]
            low = face[upper + 1] if upper + 1 < 5 else "0" * len(top)
            cells.append("".join(" ▀▄█"[(a == "1") + 2 * (b == "1")] for a, b in zip(top, low, strict=True)))
        rows.append(" ".join(cells))
    return rows[0], rows[1], rows[2]
