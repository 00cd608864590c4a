"""Ray Serve's deployments: replicas, and where their requests are. Drawn where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rvtop.contract.snapshot import ServeDeployment, Snapshot
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import clip, fixed, sig3, tight
from rvtop.ui.widgets.engines import choose
from rvtop.ui.widgets.panel import Panel

FIXED = 31  # cells of a row beside the name, the replicas' dots and the columns for which there is room
MOST_DOTS = 8
NAME_ROOM = 18  # cells that a name and its dots keep before further columns get any


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is drawn where there is room: its head, its cells, and a deployment's figure in it."""

    head: str
    width: int
    of: Callable[[ServeDeployment], float | None]
    text: Callable[[float | None], str] = sig3
    always: bool = False  # also where no deployment has the figure


#: The first ones are the last to go. Batches are those of `@serve.batch`.
COLUMNS = (
    Column("batch", 7, lambda one: one.batch_size),
    Column("fill ms", 9, lambda one: one.batch_wait_ms),
    Column("starts", 8, lambda one: one.starts, tight, always=True),
)


def columns(deployments: Sequence[ServeDeployment], width: int) -> list[Column]:
    """Those that are drawn in a panel of ``width`` cells."""
    room, shown = width - FIXED - NAME_ROOM, []
    for column in COLUMNS:
        if column.always or any(column.of(one) is not None for one in deployments):
            room -= column.width
            if room < 0:
                break
            shown.append(column)
    return shown


def missing(deployment: ServeDeployment) -> float:
    """Replicas that Serve wants and that are not healthy."""
    return max(0.0, (deployment.target_replicas or 0.0) - (deployment.replicas or 0.0))


def badness(deployment: ServeDeployment) -> tuple[float, ...]:
    """Short of replicas before queueing before busy."""
    return (missing(deployment), deployment.queued or 0.0, deployment.ongoing or 0.0)


def labels(deployments: Sequence[ServeDeployment], room: int) -> list[str]:
    """Their names as ``application/deployment`` where all fit into ``room`` cells, else without the
    application where that tells them apart."""
    full = [deployment.name for deployment in deployments]
    short = [name.rpartition("/")[2] for name in full]
    fit = max((len(name) for name in full), default=0) <= room
    return full if fit or len(set(short)) < len(short) else short


class DeploymentsPanel(Panel):
    TOPIC = "deployments"
    PLACE = "right"
    GOOD = 5

    def wants(self, s: Snapshot) -> bool:
        return bool(s.deployments)

    def heights(self, s: Snapshot, width: int) -> tuple[int, int]:
        return 1 + min(3, len(s.deployments)), 1 + len(s.deployments)

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        return (s.deployments,)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles = self.rich_styles
        heads = "replicas  ongoing  queue     ms" if width >= 44 else ""
        heads += "".join(f"{column.head:>{column.width}}" for column in columns(s.deployments, width))
        return Line("Ray Serve", styles.server_bold), Line(heads, styles.quiet)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        shown, rest = choose(s.deployments, height, badness)
        more = columns(s.deployments, width)
        room = max(4, width - FIXED - sum(column.width for column in more))
        dots = [self._dots(deployment) for deployment in shown]
        names = labels(shown, room - 1 - max((dot.width for dot in dots), default=0))
        lines = []
        for deployment, name, dot in zip(shown, names, dots, strict=True):
            if len(name) + 1 + dot.width > room:
                dot = Line()
            lines.append(Line(fixed(name, room - dot.width), self.rich_styles.base).join(dot))
            lines[-1].join(self._figures(deployment, more))
        if rest:
            lines.append(Line(f"{rest} more, all doing better", self.rich_styles.quiet))
        return lines

    def _figures(self, deployment: ServeDeployment, more: Sequence[Column]) -> Line:
        styles = self.rich_styles
        line = self._replicas(deployment, 8).put(f"{tight(deployment.ongoing):>9}", styles.server)
        line.put(f"{tight(deployment.queued):>7}", styles.attention if deployment.queued else styles.server)
        line.put(f"{sig3(deployment.latency_ms):>7}", styles.server)
        for column in more:
            line.put(f"{column.text(column.of(deployment)):>{column.width}}", styles.server)
        return line

    def _dots(self, deployment: ServeDeployment) -> Line:
        """A dot a replica, hollow for those that are wanted and not healthy; none where they are many."""
        styles = self.rich_styles
        healthy, wanted = int(deployment.replicas or 0), int(missing(deployment))
        if healthy + wanted > MOST_DOTS:
            return Line()
        return Line("●" * healthy, styles.server).put("○" * wanted, styles.attention)

    def _replicas(self, deployment: ServeDeployment, width: int) -> Line:
        target = deployment.target_replicas
        text = tight(deployment.replicas) + ("" if target is None else f"/{tight(target)}")
        style = self.rich_styles.attention if missing(deployment) else self.rich_styles.server
        return Line(f"{text:>{width}}", style)

    def one_line(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        parts = [(0, Line(" Serve    ", styles.quiet))]
        ordered = sorted(s.deployments, key=badness, reverse=True)
        for place, (deployment, name) in enumerate(zip(ordered, labels(ordered, 0), strict=True)):
            first = Line(f"{clip(name, 24)} ", styles.base).join(self._replicas(deployment, 0))
            ongoing = Line("  ongoing ", styles.quiet).put(tight(deployment.ongoing), styles.server)
            alarm = styles.attention if deployment.queued else styles.server
            queue = Line("  queue ", styles.quiet).put(f"{tight(deployment.queued)}  ", alarm)
            parts += [(3 * place + 1, first), (3 * place + 3, ongoing), (3 * place + 2, queue)]
        return fitting(parts, width)
