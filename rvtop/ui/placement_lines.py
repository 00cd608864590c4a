"""The plan by which models share what there is, as lines below the map. Pure."""

from __future__ import annotations

from rvtop.contract.placement import Placement
from rvtop.ui.draw import Line
from rvtop.ui.format import count, fixed, sig3
from rvtop.ui.theme import Styles

#: Rows of a map from which on the plan has its lines below it.
ROOM = 9


def placement_lines(plan: Placement, styles: Styles, width: int, height: int) -> list[Line]:
    """A head and a line a model, those with the least headroom first, in a third of ``height``."""
    if height < ROOM:
        return []
    head = Line(f"plan {plan.number} ", styles.server_bold)
    head.put("replicas of each model, and the load that they sustain over what arrives", styles.quiet)
    if plan.moving:
        head.put(f"   {plan.moving} on the move", styles.attention)
    ordered = sorted(plan.models, key=lambda m: m.headroom if m.headroom is not None else float("inf"))
    shown = ordered[: max(1, height // 3 - 1)]
    names = min(20, max(len(model.name) for model in shown))
    lines = [head.cut(width)]
    for model in shown:
        short = model.headroom is not None and model.headroom < 1
        line = Line(f"  {fixed(model.name, names)} {count(model.replicas):>4} ", styles.strong)
        line.put(f"{'×' + sig3(model.headroom):>7} ", styles.attention if short else styles.server)
        lines.append(line.put(model.reason, styles.quiet).cut(width))
    return lines
