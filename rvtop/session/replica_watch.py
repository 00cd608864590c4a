"""Says when the number of replicas of a model changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class ReplicaWatch:
    """``say(text, level, kind)`` adds an event for each change of what is wanted and of what is there."""

    def __init__(self, say: Callable[[str, str, str], None]) -> None:
        self._say = say
        self._wanted: dict[str, float] = {}
        self._healthy: dict[str, float] = {}
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
            seen = self._healthy.get(model)
            self._healthy[model] = healthy
            if seen is not None and seen != healthy:
                since_s = self._since_s.get(model)
                took = "" if since_s is None or wanted != healthy else f" after {row['t_s'] - since_s:.0f} s"
                left = f", {one['draining']:g} draining" if one["draining"] else ""
                level = "warn" if healthy < min(seen, wanted) else "info"
                self._say(f"{model}: {healthy:g} of {wanted:g} replicas answer{took}{left}", level, "scale")
