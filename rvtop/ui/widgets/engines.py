"""The engines: batch, queue and KV cache of each, or of all in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rvtop.contract.snapshot import Engine, Snapshot
from rvtop.ui.draw import Line, bar, fitting
from rvtop.ui.format import age, clip, count, fixed, percent, size_of, tight
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.panel import Panel

T = TypeVar("T")
FULL = 0.95  # a KV cache so full is about to preempt
FIXED = 29  # cells of a row beside the name and the bar
LEAST_BAR = 6


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


class EnginesPanel(Panel):
    DEFAULT_CSS = """
    EnginesPanel { height: auto; max-height: 40%; min-height: 2; }
    """
    TOPIC = "engines"

    def wanted(self, s: Snapshot) -> int:
        return max(1, len(s.engines))

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

    def footing(self, s: Snapshot, width: int) -> Line:
        styles, line = self.rich_styles, Line()
        hits, preempted = ("prefix hits ", "preemptions ") if width >= 56 else ("hit ", "pre ")
        rates = [e.prefix_hit_rate for e in s.engines if e.prefix_hit_rate is not None]
        if rates:
            line.put(hits, styles.quiet).put(f"{percent(sum(rates) / len(rates)):>5}", styles.server)
        taken = [e.preemptions for e in s.engines if e.preemptions is not None]
        if taken:
            total = sum(taken)
            line.put("   " if line.width else "").put(preempted, styles.quiet)
            line.put(count(total), styles.attention if total else styles.server)
        return line

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if not s.engines:
            return [self._none(s, width)]
        shown, rest = choose(s.engines, height, badness)
        names = self._labels(s, shown, width - FIXED - LEAST_BAR)
        size = max((len(name) for name in names), default=0)
        lines = [self._row(e, name, size, width) for e, name in zip(shown, names, strict=True)]
        if rest:
            lines.append(Line(f"{rest} more, all doing better", self.rich_styles.quiet))
        return lines

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

    def _row(self, engine: Engine, name: str, size: int, width: int) -> Line:
        styles = self.rich_styles
        stale = engine.stale_s is not None
        figure = styles.stale if stale else styles.server
        line = Line(fixed(name, size), styles.stale if stale else styles.base)
        if stale:
            return line.put("  STALE ", styles.attention).put(age(engine.stale_s), styles.attention)
        waiting = styles.attention if engine.waiting else figure
        line.put("  run", styles.quiet).put(f"{tight(engine.running):>4}", figure)
        line.put(" wait", styles.quiet).put(f"{tight(engine.waiting):>4}", waiting).put("  KV ", styles.quiet)
        if engine.kv_usage is None and engine.kv_bytes is not None:
            return line.put(f"{size_of(engine.kv_bytes):>9}", figure)
        spare = width - line.width - 6
        pre = spare >= 12 + 9
        line.join(kv_bar(styles, engine.kv_usage, max(3, spare - (9 if pre else 0))))
        if pre:
            style = styles.attention if engine.preemptions else figure
            line.put("  pre", styles.quiet).put(f"{tight(engine.preemptions):>4}", style)
        return line

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
        for name, values in (
            ("run", [e.running for e in fresh]),
            ("wait", [e.waiting for e in fresh]),
            ("pre", [e.preemptions for e in fresh]),
        ):
            known = [v for v in values if v is not None]
            total = sum(known) if known else None
            alarm = name != "run" and total
            line = Line(f"  {name}", styles.quiet)
            line.put(f"{tight(total):>5}", styles.attention if alarm else styles.server)
            parts.append(({"wait": 3, "run": 4, "pre": 5}[name], line))
        stale = [e for e in s.engines if e.stale_s is not None]
        if stale:
            parts.append((2, Line(f"  STALE {age(max(e.stale_s or 0 for e in stale))}", styles.attention)))
        elif len(s.engines) > 1:
            parts.append((6, Line(f"  {len(s.engines)} engines", styles.quiet)))
        return fitting(parts, width)
