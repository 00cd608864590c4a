"""The machines of a Ray cluster: cores and memory. Drawn for several of them, or where there is no GPU."""

from __future__ import annotations

from rvtop.contract.cluster import ClusterNode
from rvtop.contract.snapshot import Node, Snapshot
from rvtop.ui.cluster_lines import put_state, state_of
from rvtop.ui.draw import Line, bar, fitting
from rvtop.ui.format import age, clip, fixed, gib, percent
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.engines import choose
from rvtop.ui.widgets.panel import Panel

FIXED = 27  # cells of a row beside the name and the bar
LEAST_BAR = 6


def badness(node: Node) -> tuple[float, ...]:
    """Stale before busy before full."""
    memory = node.memory_used / node.memory_total if node.memory_used and node.memory_total else 0.0
    return (node.stale_s or 0.0, node.cpu or 0.0, memory)


def with_dashboard(left: Line, right: Line, s: Snapshot, styles: Styles, width: int) -> Line:
    """The left half of a heading, and where Ray's dashboard is, if that is known and there is room."""
    url = s.target.dashboard
    if url and left.width + len(url) + right.width + 4 <= width:
        left.put("  ").put(url, styles.quiet)
    return left


class NodesPanel(Panel):
    TOPIC = "nodes"
    PLACE = "right"
    GOOD = 5

    def wants(self, s: Snapshot) -> bool:
        return len(s.nodes) > 1 or (bool(s.nodes) and not s.gpus)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 1 + min(3, len(s.nodes)), 1 + len(s.nodes)

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return s.nodes, s.target.dashboard, s.cluster

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        left = Line("nodes", styles.server_bold)
        if len(s.nodes) > 1:
            left.put(f" · {len(s.nodes)}", styles.quiet)
        right = Line("cpu      memory", styles.quiet)
        return with_dashboard(left, right, s, styles, width), right

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        shown, rest = choose(s.nodes, height, badness)
        size = min(max((len(node.name) for node in shown), default=0), max(4, width - FIXED - LEAST_BAR))
        lines = [self._row(node, size, width, state_of(s.cluster, node.name)) for node in shown]
        if rest:
            lines.append(Line(f"{rest} more, none busier", self.rich_styles.quiet))
        return lines

    def _row(self, node: Node, size: int, width: int, state: ClusterNode | None) -> Line:
        styles = self.rich_styles
        if state is not None:
            return put_state(Line(fixed(node.name, size), styles.base), state, styles)
        if node.stale_s is not None:
            line = Line(fixed(node.name, size), styles.stale)
            return line.put(f"  STALE {age(node.stale_s)}", styles.attention)
        line = Line(fixed(node.name, size), styles.base).put("  ")
        memory = f"{gib(node.memory_used)}/{gib(node.memory_total)}"
        filled, track = bar(node.cpu, max(3, width - line.width - 7 - 11 - 4))
        line.put(filled, styles.server).put(track, styles.faint)
        line.put(f"{percent(node.cpu):>7}", styles.server if node.cpu is not None else styles.stale)
        return line.put(f"{memory:>11}", styles.server).put(" GiB", styles.quiet)

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        parts = [(0, Line(" nodes    ", styles.quiet))]
        for rank, node in enumerate(sorted(s.nodes, key=badness, reverse=True), 1):
            part = Line(f"{clip(node.name, 20)} ", styles.base)
            if node.stale_s is not None:
                part.put(f"STALE {age(node.stale_s)}  ", styles.attention)
            else:
                part.put("cpu", styles.quiet).put(f"{percent(node.cpu):>6}  ", styles.server)
            parts.append((rank, part))
        return fitting(parts, width)
