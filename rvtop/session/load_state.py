"""The state that a screen shows of a session's load."""

from __future__ import annotations

from rvtop.session.load_run import LoadRun


def load_state(state: str, load: LoadRun, now_ns: int, *, live: bool) -> str:
    """What is shown of a session that is in ``state``; ``live``: hands drive it."""
    if state != "running":
        return state
    if load.rate_control.paused:
        return "paused"
    if load.player.state in ("draining", "cutting"):
        return "draining"
    if not load.live.sent and not load.rate_control.target_rps(now_ns) and live:
        return "watching"
    return "running"
