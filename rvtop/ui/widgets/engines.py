"""The engines: batch, queue and KV cache of each, or of all in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rvtop.contract.figures import SHOWN, Figure, texts
from rvtop.contract.snapshot import Engine, Snapshot, SourceStatus
from rvtop.ui.draw import Line, bar, fitting
from rvtop.ui.format import FORMATS, age, clip, fixed, percent, size_of, tight
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import MARGINS, Panel

T = TypeVar("T")
#: Columns of an engine's row beside the KV cache, the most important first, and what stands below all rows.
BEFORE_KV = tuple(figure for figure in SHOWN if figure.row and figure.always)
AFTER_KV = tuple(sorted((f for f in SHOWN if f.row and not f.always), key=lambda figure: figure.row))
FOOT = tuple(figure for figure in SHOWN if figure.foot)
FULL = 0.95  # a KV cache so full is about to preempt
FIXED = 29  # cells of a row beside the name and the bar
LEAST_BAR = 6
LEAST_BAR_WITH_CELLS = 12  # cells of the bar that columns after it must leave
SIZE_CELLS = 9  # of the memory that stands where there is no bar
LEAST_WITH_FIGURES = 4  # lines of the panel from which on one is for the figures of all engines


def choose(items: Sequence[T], room: int, badness: Callable[[T], tuple[float, ...]]) -> tuple[list[T], int]:
    """What to list in ``room`` lines: all in their order, or the worst first with one line for the rest.

    Returns the items and how many were left out.
    """
    if len(items) <= room:
        return list(items), 0
    shown = sorted(items, key=badness, reverse=True)[: max(0, room - 1)]
    return shown, len(items) - len(shown)


def badness(engine: Engine) -> tuple[float, ...]:
    """Stale before queueing before full."""
    return (engine.stale_s or 0.0, engine.waiting or 0.0, engine.kv_usage or 0.0, engine.running or 0.0)


def value(engine: Engine, figure: Figure) -> float | None:
    """What an engine tells of a figure."""
    known: float | None = getattr(engine, figure.key, None)
    return engine.figures.get(figure.key) if known is None else known


def kv_bar(styles: Styles, share: float | None, width: int) -> Line:
    """The KV cache's use as a bar with its percentage; yellow, and FULL, where it is about to preempt."""
    filled, track = bar(share, width)
    full = share is not None and share >= FULL
    line = Line(filled, styles.attention if full else styles.server).put(track, styles.faint)
    if share is None:
        return line.put(f"{'--':>6}", styles.stale)
    return line.put(
        f"{'FULL' if full and share >= 0.995 else percent(share):>6}",
        styles.attention if full else styles.server,
    )


def not_ok(s: Snapshot) -> list[SourceStatus]:
    """The sources that tell nothing now."""
    return [source for source in s.sources if source.state != "ok"]


def _after(s: Snapshot) -> list[Figure]:
    """The columns behind the KV cache; one that no engine tells of takes no room."""
    return [column for column in AFTER_KV if any(value(e, column) is not None for e in s.engines)]


def _held(engine: Engine) -> float | None:
    """The cache's size, where its use is not told; it stands in place of the bar."""
    return engine.kv_bytes if engine.kv_usage is None else None


class EnginesPanel(Panel):
    TOPIC = "engines"
    PLACE = "right"
    GOOD = 7

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 1 + min(3, max(1, len(s.engines))), 1 + max(1, len(s.engines)) + len(
            self._together(s, width - MARGINS)
        )

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.engines, s.figures, not_ok(s), s.target.models

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("engines", styles.server_bold)
        if len(s.engines) > 1:
            left.put(f" · {len(s.engines)}", styles.quiet)
        right = Line()
        for source in s.sources:
            if source.state == "stale" and source.name in ("metrics", "vllm", "server"):
                right = Line(f"{source.name} STALE {age(source.age_s)}", styles.stale)
        return left, right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if not s.engines:
            return [self._none(s, width)]
        below = self._together(s, width)
        # Of these one line stands also where there is no room for all engines.
        below = below[: max(int(height >= LEAST_WITH_FIGURES), height - len(s.engines))]
        shown, rest = choose(s.engines, height - len(below), badness)
        names = self._labels(s, shown, width - FIXED - LEAST_BAR)
        size = max((len(name) for name in names), default=0)
        lines = [self._row(e, name, size, width, _after(s)) for e, name in zip(shown, names, strict=True)]
        if rest:
            lines.append(Line(f"{rest} more, all doing better", self.rich_styles.quiet))
        return lines + below

    def _together(self, s: Snapshot, width: int) -> list[Line]:
        """The figures of all engines together, side by side on as few lines as they fit into."""
        styles, lines, above = self.rich_styles, [Line()], self._in_rows(s, width)
        below = [figure for figure in FOOT if figure.key not in above]
        for figure, parts in texts(below, s.figures, FORMATS):
            alarm = figure.alarm and (figure.label or s.figures[figure.key])
            for place, text in enumerate(parts):
                part = Line("" if place else f"{figure.heading} ", styles.quiet)
                part.put(clip(text, max(4, width - part.width)), styles.attention if alarm else styles.server)
                if lines[-1].width and lines[-1].width + 2 + part.width > width:
                    lines.append(Line())
                lines[-1].put("  " if lines[-1].width else "").join(part)
        return [line for line in lines if line.width]

    def _labels(self, s: Snapshot, shown: list[Engine], room: int) -> list[str]:
        """Each engine's name, with node and model where all of them fit into ``room``."""
        several = len(s.target.models) > 1
        full = []
        for e in shown:
            node = e.node if e.node and not e.name.startswith(e.node) else None
            full.append([part for part in (e.name, node, e.model if several else None) if part])
        for parts in (3, 2):
            labels = [" ".join(label[:parts]) for label in full]
            if max((len(label) for label in labels), default=0) <= room:
                return labels
        return [clip(e.name, max(4, room)) for e in shown]

    def _row(self, engine: Engine, name: str, size: int, width: int, after: Sequence[Figure]) -> Line:
        styles = self.rich_styles
        if engine.stale_s is not None:
            line = Line(fixed(name, size), styles.stale)
            return line.put("  STALE ", styles.attention).put(age(engine.stale_s), styles.attention)
        line, spare = self._begin(engine, name, size, width)
        cells = [Line(" ").join(self._cell(column, value(engine, column))) for column in after]
        del cells[self._fitting(engine, after, spare) :]
        held = _held(engine)
        if held is not None:
            line.put(f"{size_of(held):>{SIZE_CELLS}}", styles.server)
        else:
            line.join(kv_bar(styles, engine.kv_usage, max(3, spare - sum(cell.width for cell in cells))))
        for cell in cells:
            line.join(cell)
        return line

    def _begin(self, engine: Engine, name: str, size: int, width: int) -> tuple[Line, int]:
        """A row up to its KV cache, and the cells that are left for bar and columns."""
        line = Line(fixed(name, size), self.rich_styles.base).put(" ")
        for column in BEFORE_KV:
            line.join(self._cell(column, value(engine, column)))
        line.put("  KV ", self.rich_styles.quiet)
        return line, width - line.width - 6

    def _fitting(self, engine: Engine, after: Sequence[Figure], spare: int) -> int:
        """How many columns leave room for the bar, or for the cache's size in its place."""
        least = LEAST_BAR_WITH_CELLS if _held(engine) is None else SIZE_CELLS - 6
        sizes = [1 + self._cell(column, value(engine, column)).width for column in after]
        while sizes and spare - sum(sizes) < least:
            sizes.pop()
        return len(sizes)

    def _in_rows(self, s: Snapshot, width: int) -> set[str]:
        """The figures that need not stand below the only engine, whose row has them."""
        if len(s.engines) != 1 or s.engines[0].stale_s is not None:
            return set()
        (engine,), after = s.engines, _after(s)
        (name,) = self._labels(s, [engine], width - FIXED - LEAST_BAR)
        _, spare = self._begin(engine, name, len(name), width)
        return {column.key for column in after[: self._fitting(engine, after, spare)]}

    def _cell(self, column: Figure, value: float | None) -> Line:
        """`` run  12``: the heading, and the value in four or five cells."""
        styles = self.rich_styles
        text = f"{tight(value):>4}" if column.format == "count" else f"{FORMATS[column.format](value):>5}"
        text = text if text.startswith(" ") else f" {text}"
        line = Line(f" {column.heading}", styles.quiet)
        return line.put(text, styles.attention if column.alarm and value else styles.server)

    def _none(self, s: Snapshot, width: int) -> Line:
        why = next((x.detail for x in s.sources if x.state != "ok" and x.name in ("metrics", "server")), "")
        return Line(clip(f"no engine metrics seen{': ' + why if why else ''}", width), self.rich_styles.stale)

    def one_line(self, s: Snapshot, width: int) -> Line:
        """All engines at once: the fullest KV cache, and the sums."""
        styles = self.rich_styles
        label = Line(" KV cache ", styles.quiet)
        if not s.engines:
            return label.join(self._none(s, width - 12))
        fresh = [e for e in s.engines if e.stale_s is None]
        used = [e.kv_usage for e in fresh if e.kv_usage is not None]
        held = [e.kv_bytes for e in fresh if e.kv_bytes is not None]
        if held and not used:
            cache = Line(f"{size_of(sum(held)):>9}", styles.server)
        else:
            bar_width = 14 if width >= 70 else 8 if width >= 40 else 0
            cache = kv_bar(styles, max(used) if used else None, bar_width)
        parts = [(1, label), (0, cache)]
        for column in (*BEFORE_KV, *AFTER_KV):
            if column.always or column.key in s.figures:
                cell = Line(" ").join(self._cell(column, s.figures.get(column.key)))
                parts.append((2 + column.row, cell))
        stale = [e for e in s.engines if e.stale_s is not None]
        if stale:
            parts.append((2, Line(f"  STALE {age(max(e.stale_s or 0 for e in stale))}", styles.attention)))
        elif len(s.engines) > 1:
            parts.append((6, Line(f"  {len(s.engines)} engines", styles.quiet)))
        return fitting(parts, width)
