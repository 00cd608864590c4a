"""``rvtop ps``: what is up, one line each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rvtop.lifecycle.state import Deployment

_HEAD = ("NAME", "TOPOLOGY", "URL", "MODELS", "HEALTH", "UPTIME", "RESTARTS", "PID")
_COLOURS = {"ready": "32", "starting": "33", "stopping": "33"}  # all others are red
_HEALTH = _HEAD.index("HEALTH")


def table(deployments: Sequence[Deployment], *, colour: bool = False, now: float | None = None) -> list[str]:
    """Lines of the table; what is not well has its reason beneath it."""
    if not deployments:
        return ["nothing is up; start something with: rvtop up TOPOLOGY"]
    rows = [_HEAD, *(_row(each, time.time() if now is None else now) for each in deployments)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colour and number:
            cells[_HEALTH] = f"\x1b[{_COLOURS.get(row[_HEALTH], '31')}m{cells[_HEALTH]}\x1b[0m"
        lines.append("  ".join(cells).rstrip())
        if number and (message := deployments[number - 1].message):
            lines.append(f"  {message}")
    return lines


def _row(each: Deployment, now: float) -> tuple[str, ...]:
    pid = each.supervisor.pid if each.running and each.supervisor else None
    return (
        each.name,
        each.topology,
        each.url or "--",
        ",".join(each.models) or "--",
        each.state,
        "--" if pid is None or each.started_at is None else age(now - each.started_at),
        str(each.restarts),
        "--" if pid is None else str(pid),
    )


def age(seconds: float) -> str:
    """``42s``, ``12m03s``, ``5h07m``, ``3d04h``."""
    s = max(0, int(seconds))
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 86400}d{s % 86400 // 3600:02d}h"
