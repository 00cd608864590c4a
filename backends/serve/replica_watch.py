"""Says what becomes of an application's replicas: Serve replaces by itself those that die, and why it can't
it tells only in its own log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backends.models.weights import damage
from backends.process.notices import NOTICES, Notices


def hurried(grace_s: float, notices: Notices = NOTICES) -> Callable[[str, float | None], None]:
    """What says of a node that is to go whether Serve moves its replicas or only ends them: it ends each
    `graceful_shutdown_timeout_s` before the node goes, with or without a successor."""

    def on_drain(node_id: str, left_s: float | None) -> None:
        if left_s is not None and left_s < grace_s:
            notices.say(
                f"Serve ends replicas on a node that goes before their successors are up: --serve-grace "
                f"{grace_s:g} is more than the {left_s:.0f} s left",
                "warn",
            )

    return on_drain


class ReplicaWatch:
    """Of one application, whose weights are in ``path`` as far as this machine can see. Looked at once a
    second."""

    def __init__(self, model: str, path: Path | str, notices: Notices = NOTICES) -> None:
        self._model = model
        self._path = path
        self._notices = notices
        self._ready: frozenset[str] | None = None
        self._since: float | None = None  # when one was lost
        self._wanted = 0
        self._told = ("", False)  # what is wrong with the weights, and whether a replica was lost by then

    def look(self, ready: frozenset[str], fewest: int, now: float, *, starting: bool = False) -> None:
        """``ready``: the engines that answer; ``fewest``: how many there should be at least. (More of them
        come and go with the load.) ``starting``: Serve starts one for the load, or tries to."""
        before, self._ready = self._ready, ready
        if before is None:
            return
        gone = before - ready
        self._wanted = min(fewest, max(self._wanted, len(before)))
        if gone and len(ready) < self._wanted:
            self._since = self._since if self._since is not None else now
            names = ", ".join(sorted(gone))
            of = f"{len(ready)} of {self._wanted} ready"
            text = f"{self._model}: {names} answers no more; {of}, Serve replaces what died"
            self._notices.say(text, "warn")
        lost = self._since is not None
        if self._since is not None and len(ready) >= self._wanted:
            self._notices.say(f"{self._model}: {len(ready)} ready again, after {now - self._since:.0f} s")
            self._since, lost = None, False
        if ready - before:
            self._told = ("", False)  # it could be loaded
        if not lost and not starting:
            return  # nobody loads it; Serve waits from one try to the next, and what was told holds
        wrong = damage(self._path) or ""
        if wrong and (wrong, lost) != self._told:
            what = "can't be loaded again" if lost else "can't be loaded once more"
            rest = f"{len(ready)} of {self._wanted}" if lost else f"{len(ready)}"
            rest = f"{rest} serve on" if ready else "none serves"
            self._notices.say(f"{self._model} {what}: {wrong}; copy that file here again; {rest}", "error")
        self._told = (wrong, lost)
