"""How busy the GPUs are over time, from the least to the most used one; without GPUs, the machines' cores."""

from __future__ import annotations

from rvtop.contract.snapshot import IDLE_UTIL, Snapshot
from rvtop.ui.bands import bands
from rvtop.ui.draw import Line, eighths, fitting
from rvtop.ui.format import MISSING
from rvtop.ui.rate_span import RateSpan
from rvtop.ui.span import Span, now_of
from rvtop.ui.widgets.time_chart import Picture, TimeChart, ends


def on_gpus(s: Snapshot) -> bool:
    """Whether it is GPUs that are shown."""
    return any(gpu.util is not None for gpu in s.gpus) or not s.nodes


def between(least: float | None, most: float | None) -> str:
    """``84…87 %``, or ``84 %`` where both are the same."""
    if least is None or most is None:
        return MISSING
    low, high = f"{100 * least:.0f}", f"{100 * most:.0f}"
    return f"{low} %" if low == high else f"{low}…{high} %"


def tells_use(s: Snapshot) -> bool:
    """Whether there is any use to draw."""
    return any(gpu.util is not None for gpu in s.gpus) or any(node.cpu is not None for node in s.nodes)


class GpuUsePanel(TimeChart):
    TOPIC = "gpu_use"
    PLACE = "right"
    LEGEND = ("least", "most")

    def wants(self, s: Snapshot) -> bool:
        return tells_use(s)

    def quiet(self, s: Snapshot) -> bool:
        return (now_of(s, self._names(s)[1]) or 0.0) < IDLE_UTIL

    def _names(self, s: Snapshot) -> tuple[str, str]:
        return ("gpu_util_min", "gpu_util_max") if on_gpus(s) else ("node_cpu_min", "node_cpu_max")

    def depends(self, s: Snapshot) -> tuple[object, ...]:
        return self._names(s)

    def says(self, s: Snapshot) -> tuple[object, ...]:
        return (len(s.gpus), len(s.nodes), *(now_of(s, name) for name in self._names(s)))

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        name = "GPU use" if on_gpus(s) else "CPU use"
        left = Line(name, styles.server_bold)
        if width >= 44 and max(len(s.gpus), len(s.nodes) if not on_gpus(s) else 0) > 1:
            left.put("  ", styles.quiet).join(
                self.entry("least", Line("least ", styles.quiet).put("█", styles.server))
            )
            left.put(" ", styles.quiet).join(
                self.entry("most", Line("most ", styles.quiet).put("▒", styles.server))
            )
        least, most = (now_of(s, name) for name in self._names(s))
        return left, Line(between(least, most), styles.server)

    def picture(self, s: Snapshot, span: Span | RateSpan, rows: int) -> Picture:
        least, most = (
            [0] * span.columns
            if self.hides(entry)
            else eighths(span.means(s.series.t_s, getattr(s.series, name)), 1.0, rows)
            for entry, name in zip(self.LEGEND, self._names(s), strict=True)
        )
        styles = self.rich_styles
        cells = bands(least, most, rows, style=styles.server, on_tail=styles.server_on_shade)
        return Picture(cells, ends(rows, "100", "0"))

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        left, right = self.heading(s, 0)
        line = fitting([(1, Line(f" {left.text} ", styles.quiet)), (0, right)], width)
        values = getattr(s.series, self._names(s)[1])
        return self.with_spark(line, s, values, 1.0, width, styles.server)
