"""The stages that a request passes, as lines below the map: one of a chat, one of ``/analyze``. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rvtop.contract.stages import LLM, Stage
from rvtop.ui.draw import Line
from rvtop.ui.format import count, sig3
from rvtop.ui.theme import Styles

#: Rows of a map from which on the stages have their lines below it.
ROOM = 7
#: They run side by side.
BRANCHES = ("sentiment", "topic")


def stage_lines(stages: Sequence[Stage], styles: Styles, width: int, height: int) -> list[Line]:
    """Each stage with its replicas, the requests in it, and what it takes."""
    if not stages or height < ROOM:
        return []
    at = next((place + 1 for place, stage in enumerate(stages) if stage.name == LLM), len(stages))
    chat, analysis = stages[:at], stages[at:]
    lines = [_line(part, styles, width) for part in (chat, analysis) if part]
    return [
        Line("stages ", styles.server_bold).put("×replicas, requests in flight, ms", styles.quiet),
        *lines,
    ]


def _line(stages: Sequence[Stage], styles: Styles, width: int) -> Line:
    line = Line("  ")
    for place, stage in enumerate(stages):
        if place:
            beside = stage.name in BRANCHES and stages[place - 1].name in BRANCHES
            line.put(" ∥ " if beside else " ━▶ ", styles.faint)
        line.put(stage.name, styles.strong)
        short = stage.ready < stage.wanted
        ready = f" ×{count(stage.ready)}" + (f"/{count(stage.wanted)}" if stage.ready != stage.wanted else "")
        line.put(ready, styles.attention if short else styles.server)
        line.put(f" {count(stage.in_flight)} in", styles.server if stage.in_flight else styles.quiet)
        if stage.ms is not None:
            line.put(f" {sig3(stage.ms)} ms", styles.server)
        if stage.batch is not None:
            line.put(f" batch {sig3(stage.batch)}", styles.quiet)
    return line.cut(width)
