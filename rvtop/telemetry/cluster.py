"""What a backend of ours says of its cluster at ``/rvtop/cluster``: parsed, and made safe to show. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rvtop.contract.cluster import NODE_STATES, Cluster, ClusterNode
from rvtop.telemetry.bounds import MOST
from rvtop.text import NAME_LIMIT, told

_TEXT_LIMIT = 400
_LEVELS = ("info", "warn", "error")


@dataclass(frozen=True)
class Notice:
    """One line of the backend's. ``number`` grows by one with each."""

    number: int
    level: str
    text: str


@dataclass(frozen=True)
class ClusterPage:
    """``cluster`` is None where the backend runs in none."""

    notices: tuple[Notice, ...]
    cluster: Cluster | None


def cluster_page(text: bytes | str) -> ClusterPage:
    """Raises ValueError for what is not an answer of ours."""
    try:
        page = json.loads(text)
        rows = page["notices"]
        notices = tuple(_notice(row) for row in rows[:MOST])
        nodes = page.get("nodes")
        if nodes is None:
            return ClusterPage(notices, None)
        lost_s = _seconds(page.get("head_lost_s"))
        return ClusterPage(notices, Cluster(tuple(_node(row) for row in nodes[:MOST]), lost_s))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("/rvtop/cluster: not the answer of a backend of ours") from error


def _notice(row: Mapping[str, Any]) -> Notice:
    level = row["level"] if row["level"] in _LEVELS else "info"
    return Notice(int(row["number"]), level, told(row["text"], _TEXT_LIMIT))


def _node(row: Mapping[str, Any]) -> ClusterNode:
    return ClusterNode(
        name=told(row["name"], NAME_LIMIT),
        state=row["state"] if row["state"] in NODE_STATES else "alive",
        left_s=_seconds(row.get("left_s")),
        silent_s=_seconds(row.get("silent_s")),
        engines=tuple(told(name, NAME_LIMIT) for name in list(row.get("engines") or ())[:MOST]),
        head=row.get("head") is True,
    )


def _seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    seconds = float(value)
    return seconds if math.isfinite(seconds) else None
