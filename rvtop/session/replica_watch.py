"""Says when the number of replicas of a model changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Placing takes a moment where there is room, too.
_PENDING_S = 3


class ReplicaWatch:
    """``say(text, level, kind)`` adds an event for each change of what is wanted and of what is there."""

    def __init__(self, say: Callable[[str, str, str], None]) -> None:
        self._say = say
        self._wanted: dict[str, float] = {}
        self._healthy: dict[str, float] = {}
        self._pending: dict[str, int] = {}  # seconds in a row
        self._nodes: float | None = None
        self._since_s: dict[str, float] = {}  # when more or fewer became wanted

    def look(self, row: Mapping[str, Any]) -> None:
        """Once a second, at a line of ``timeline.jsonl``."""
        for one in row["replicas"]:
            model, wanted, healthy = one["model"], one["wanted"], one["healthy"]
            if wanted is None or healthy is None:
                continue
            before = self._wanted.get(model)
            self._wanted[model] = wanted
            if before is not None and before != wanted:
                self._since_s[model] = row["t_s"]
                verb = "more" if wanted > before else "fewer"
                self._say(f"{model}: {verb} replicas wanted, {before:g} → {wanted:g}", "info", "scale")
            self._look_at_places(model, one["pending"] or 0.0, one["nodes"])
            seen = self._healthy.get(model)
            self._healthy[model] = healthy
            if seen is not None and seen != healthy:
                since_s = self._since_s.get(model)
                took = "" if since_s is None or wanted != healthy else f" after {row['t_s'] - since_s:.0f} s"
                left = f", {one['draining']:g} draining" if one["draining"] else ""
                level = "warn" if healthy < min(seen, wanted) else "info"
                self._say(f"{model}: {healthy:g} of {wanted:g} replicas answer{took}{left}", level, "scale")

    def _look_at_places(self, model: str, pending: float, nodes: float | None) -> None:
        """Of replicas that wait for a place, and of nodes that come for them and go again."""
        seconds = self._pending[model] = self._pending.get(model, 0) + 1 if pending else 0
        if seconds == _PENDING_S:
            self._say(f"{model}: {pending:g} pending, no node has room for it yet", "info", "scale")
        if nodes is None:
            return
        if self._nodes is not None and nodes != self._nodes:
            verb = "node added" if nodes > self._nodes else "node removed"
            self._say(f"cluster: {verb}, {self._nodes:g} → {nodes:g} nodes", "info", "scale")
        self._nodes = nodes
