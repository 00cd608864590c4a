"""Pictures and films of a screen, as SVG that stands alone: blocks, shades and rules are drawn as shapes, so
that charts have no gaps whatever the font, and each cell of text has its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME
from textual.app import App

#: A cell, in the picture's pixels.
CELL_W, CELL_H = 8, 17
_BASELINE = 13
_PAD = 10
_FONT = "'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace"
#: The style sheet of the text in a picture.
LOOKS = f"text{{font:13px {_FONT};white-space:pre}}.b{{font-weight:bold}}.u{{text-decoration:underline}}"
_COLUMNS = "▁▂▃▄▅▆▇█"
_SHADES = {"░": 0.25, "▒": 0.5, "▓": 0.75}
#: What is drawn as one rectangle: x, y, width and height in parts of the cell.
_RECTANGLES = {
    "▀": (0, 0, 1, 0.5),
    "▔": (0, 0, 1, 0.125),
    "▌": (0, 0, 0.5, 1),
    "▐": (0.5, 0, 0.5, 1),
    "■": (0.06, 0.22, 0.88, 0.56),
    "─": (0, 0.47, 1, 0.06),
    "━": (0, 0.44, 1, 0.13),
    "│": (0.45, 0, 0.1, 1),
    "┃": (0.4, 0, 0.2, 1),
    **{glyph: (0, 1 - (n + 1) / 8, 1, (n + 1) / 8) for n, glyph in enumerate(_COLUMNS)},
}


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring cells of one look. ``fg``, ``bg``: CSS colours; ``width``: cells."""

    text: str
    width: int
    fg: str
    bg: str
    bold: bool = False
    underline: bool = False
    dim: bool = False


Row = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A screen at one moment, row by row. ``background``: the CSS colour where nothing is drawn."""

    rows: tuple[Row, ...]
    width: int  # cells
    background: str


def picture_of(app: App[Any]) -> Picture:
    """What ``app`` shows now."""
    width, height = app.size
    console = Console(
        width=width, height=height, force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    if update is None or isinstance(update, str):
        raise ValueError("the screen has not been drawn yet")
    segments = Segment.filter_control(console.render(update))
    background = app.theme_variables.get("background", "#000000")
    rows = [
        tuple(_runs(line, background))
        for line in Segment.split_and_crop_lines(segments, width, include_new_lines=False)
    ]
    return Picture(tuple(rows[:height]), width, background)


def still(picture: Picture, title: str = "rvtop") -> str:
    """The picture as an SVG document."""
    rows = (
        f'<g transform="translate({_PAD},{_PAD + y * CELL_H})">{drawn}</g>'
        for y, row in enumerate(picture.rows)
        if (drawn := row_of(row, picture.background))
    )
    return _document(picture, title, "", rows)


def film(frames: Sequence[tuple[Picture, float]], title: str = "rvtop") -> str:
    """Pictures with the seconds that each stands, as one SVG document that begins anew at its end. Equal rows
    are held once. Where motion is not wanted, the last picture stands. Raises ValueError without a frame."""
    if not frames:
        raise ValueError("a film needs a frame")
    ids: dict[str, str] = {}
    whole = sum(seconds for _, seconds in frames)
    styles, groups, begun = [], [], 0.0
    for number, (picture, seconds) in enumerate(frames):
        uses = []
        for y, row in enumerate(picture.rows):
            drawn = row_of(row, picture.background)
            if drawn:
                name = ids.setdefault(drawn, f"r{len(ids)}")
                uses.append(f'<use href="#{name}" x="{_PAD}" y="{_PAD + y * CELL_H}"/>')
        groups.append(f'<g class="f" style="animation-name:f{number}">{"".join(uses)}</g>')
        begin, end = 100 * begun / whole, 100 * (begun + seconds) / whole
        before = f"0%{{visibility:hidden}}{begin:.3f}%" if begin else "0%"
        styles.append(
            f"@keyframes f{number}{{{before}{{visibility:visible}}{end:.3f}%,100%{{visibility:hidden}}}}"
        )
        begun += seconds
    css = (
        f".f{{visibility:hidden;animation:{whole:g}s step-end infinite}}{''.join(styles)}"
        "@media (prefers-reduced-motion:reduce){.f{animation:none}.f:last-child{visibility:visible}}"
    )
    rows = [f'<g id="{name}">{drawn}</g>' for drawn, name in ids.items()]
    return _document(frames[-1][0], title, css, [f"<defs>{''.join(rows)}</defs>", *groups])


def _document(picture: Picture, title: str, css: str, parts: Iterable[str]) -> str:
    width, height = picture.width * CELL_W + 2 * _PAD, len(picture.rows) * CELL_H + 2 * _PAD
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}"><title>{escape(title)}</title><style>{LOOKS}{css}</style>'
        f'<rect width="100%" height="100%" rx="6" fill="{picture.background}"/>{"".join(parts)}</svg>\n'
    )


def _runs(line: Iterable[Segment], background: str) -> Iterable[Run]:
    for text, style, _ in Segment.simplify(line):
        style = style or Style.null()
        fg = _css(style, "color", "#d0d0d0")
        bg = _css(style, "bgcolor", background)
        if style.reverse:
            fg, bg = bg, fg
        yield Run(text, cell_len(text), fg, bg, bool(style.bold), bool(style.underline), bool(style.dim))


def _css(style: Style, name: str, default: str) -> str:
    color = getattr(style, name)
    if color is None or color.is_default:
        return default
    return str(color.get_truecolor(SVG_EXPORT_THEME, foreground=name == "color").hex)


def row_of(row: Row, background: str) -> str:
    """A row's shapes and texts, its left upper corner at 0, 0; empty if nothing is in it."""
    out, x = [], 0
    for run in row:
        if run.bg != background:
            out.append(
                f'<rect x="{x * CELL_W}" width="{run.width * CELL_W}" height="{CELL_H}" fill="{run.bg}"/>'
            )
        out.append(_run(run, x))
        x += run.width
    return "".join(out)


def _run(run: Run, x: int) -> str:
    look = f' fill="{run.fg}"' + (' opacity=".6"' if run.dim else "")
    out: list[str] = []
    solid: list[tuple[float, ...]] = []  # rectangles of full colour, as one path
    words, begun = "", x

    def end_word() -> None:
        nonlocal words
        text = words.rstrip()
        if text:
            kind = " ".join("b" * run.bold + "u" * run.underline)
            out.append(
                f'<text x="{begun * CELL_W}" y="{_BASELINE}" textLength="{cell_len(text) * CELL_W}"'
                f"{f' class={kind!r}' if kind else ''}{look}>{escape(text, quote=False)}</text>"
            )
        words = ""

    for glyph in run.text:
        if glyph in _RECTANGLES or glyph in _SHADES:
            end_word()
            left, top, width, height = _RECTANGLES.get(glyph, (0, 0, 1, 1))
            if glyph in _SHADES:
                shape = _rectangle(x, 0, 1, 1)
                out.append(f'<path d="{shape}"{look} fill-opacity="{_SHADES[glyph]}"/>')
            elif (
                width == 1 and solid and solid[-1][0] + solid[-1][2] == x and solid[-1][1::2] == (top, height)
            ):
                solid[-1] = (solid[-1][0], top, solid[-1][2] + 1, height)
            else:
                solid.append((x + left, top, width, height))
        elif words or glyph != " ":
            if not words:
                begun = x
            words += glyph
            if words.endswith("  "):
                end_word()
        x += cell_len(glyph)
    end_word()
    if solid:
        out.append(f'<path d="{"".join(_rectangle(*one) for one in solid)}"{look}/>')
    return "".join(out)


def _rectangle(x: float, top: float, width: float, height: float) -> str:
    w = f"{width * CELL_W:g}"
    return f"M{x * CELL_W:g} {top * CELL_H:.4g}h{w}v{height * CELL_H:.4g}h-{w}z"
