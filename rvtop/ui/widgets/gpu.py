"""GPU memory and use, a line each, or all in one."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.contract.snapshot import Gpu, Snapshot
from rvtop.telemetry.exporters import EXPORTERS
from rvtop.ui.draw import Line, bar, fitting
from rvtop.ui.format import age, clip, fixed, gib, percent
from rvtop.ui.widgets.engines import choose, not_ok
from rvtop.ui.widgets.money import watts
from rvtop.ui.widgets.panel import Panel

FIXED = 22  # cells of a row beside the name and the bar
IDLE = 7  # cells of the idle share, where one is known
WATTS = 8  # cells of the power, where one is known
LEAST_BAR = 6


def share(gpu: Gpu) -> float | None:
    """Memory in use, 0..1."""
    if gpu.memory_used is None or not gpu.memory_total:
        return None
    return gpu.memory_used / gpu.memory_total


def badness(gpu: Gpu) -> tuple[float, ...]:
    """Stale before full before busy."""
    return (gpu.stale_s or 0.0, share(gpu) or 0.0, gpu.util or 0.0)


def model(name: str) -> str:
    """A GPU's name without the vendor's words."""
    return name.replace("NVIDIA ", "").replace("GeForce ", "").strip()


def labels(gpus: Sequence[Gpu], room: int) -> list[str]:
    """``node:index model`` where all fit into ``room``; else without the model; else the node cut short."""
    for full in (True, False):
        made = [f"{gpu.node}:{gpu.index}" + (f" {model(gpu.name)}" if full else "") for gpu in gpus]
        if max((len(name) for name in made), default=0) <= room:
            return made
    return [f"{clip(gpu.node, max(1, room - 1 - len(str(gpu.index))))}:{gpu.index}" for gpu in gpus]


def idle_known(s: Snapshot) -> bool:
    """Whether there were requests in flight while a GPU told its use."""
    return any(gpu.idle_share is not None for gpu in s.gpus)


def power_known(s: Snapshot) -> bool:
    """Whether a GPU tells its power."""
    return any(gpu.watts is not None for gpu in s.gpus)


class GpuPanel(Panel):
    TOPIC = "gpu"
    PLACE = "right"
    GOOD = 5

    def wants(self, s: Snapshot) -> bool:
        return bool(s.gpus)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 1 + min(3, len(s.gpus)), 1 + len(s.gpus)

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.gpus, not_ok(s)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("GPU memory", styles.server_bold)
        if len(s.gpus) > 1:
            left.put(f" · {len(s.gpus)}", styles.quiet)
        right = "use" + ("   idle" if idle_known(s) else "") + ("   power" if power_known(s) else "")
        return left, Line(right, styles.quiet) if s.gpus else Line()

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        if not s.gpus:
            return [self._none(s, width)]
        shown, rest = choose(s.gpus, height, badness)
        idle = IDLE if idle_known(s) else 0
        power = WATTS if power_known(s) else 0
        names = labels(shown, width - FIXED - idle - power - LEAST_BAR)
        size = max((len(name) for name in names), default=0)
        lines = [
            self._row(gpu, name, size, width, idle, power) for gpu, name in zip(shown, names, strict=True)
        ]
        if rest:
            lines.append(Line(f"{rest} more, none fuller", self.rich_styles.quiet))
        return lines

    def _row(self, gpu: Gpu, name: str, size: int, width: int, idle: int, power: int) -> Line:
        styles = self.rich_styles
        if gpu.stale_s is not None:
            return Line(fixed(name, size), styles.stale).put(f"  STALE {age(gpu.stale_s)}", styles.attention)
        line = Line(fixed(name, size), styles.base).put("  ")
        memory = f"{gib(gpu.memory_used):>5}/{gib(gpu.memory_total)}"
        tail = len(memory) + 4 + 7 + idle + power
        filled, track = bar(share(gpu), max(3, width - line.width - tail))
        line.put(filled, styles.server).put(track, styles.faint)
        line.put(memory, styles.server).put(" GiB", styles.quiet)
        line.put(f"{percent(gpu.util):>7}", styles.server if gpu.util is not None else styles.stale)
        if idle:
            line.put(f"{percent(gpu.idle_share):>{idle}}", styles.server)
        return line.put(f"{watts(gpu.watts):>{power}}", styles.server) if power else line

    def _none(self, s: Snapshot, width: int) -> Line:
        return Line(clip("no GPU seen" + self._why(s), width), self.rich_styles.stale)

    def _why(self, s: Snapshot) -> str:
        names = ("gpu", *(exporter.name for exporter in EXPORTERS))
        why = next((x.detail for x in s.sources if x.state != "ok" and x.name in names and x.detail), "")
        return f": {why}" if why else ""

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        line = Line(" GPU mem  ", styles.quiet)
        fresh = [g for g in s.gpus if g.stale_s is None]
        if not s.gpus:
            return line.put(clip("no GPU seen" + self._why(s), width - 12), styles.stale)
        used = [g.memory_used for g in fresh if g.memory_used is not None]
        total = [g.memory_total for g in fresh if g.memory_total is not None]
        util = [g.util for g in fresh if g.util is not None]
        whole = sum(used) / sum(total) if used and sum(total) > 0 else None
        filled, track = bar(whole, 14 if width >= 70 else 8)
        parts = [
            (1, line),
            (4, Line(filled, styles.server).put(track, styles.faint)),
            (0, Line(f"{percent(whole):>6}", styles.server if whole is not None else styles.stale)),
        ]
        if used and total:
            both = Line(f"  {gib(sum(used))}/{gib(sum(total))}", styles.server).put(" GiB", styles.quiet)
            parts.append((5, both))
        mean = f"{percent(sum(util) / len(util) if util else None):>6}"
        parts.append((3, Line("  use", styles.quiet).put(mean, styles.server)))
        idle = [g.idle_share for g in fresh if g.idle_share is not None]
        if idle:
            mean = f"{percent(sum(idle) / len(idle)):>6}"
            parts.append((7, Line("  idle", styles.quiet).put(mean, styles.server)))
        power = [g.watts for g in fresh if g.watts is not None]
        if power:
            parts.append((8, Line(f"  {watts(sum(power))}", styles.server)))
        stale = [g for g in s.gpus if g.stale_s is not None]
        if stale:
            oldest = age(max(g.stale_s or 0 for g in stale))
            parts.append((2, Line(f"  STALE {oldest}", styles.attention)))
        else:
            what = model(s.gpus[0].name) if len(s.gpus) == 1 else f"{len(s.gpus)} GPUs"
            parts.append((6, Line(f"  {what}", styles.quiet)))
        return fitting(parts, width)
