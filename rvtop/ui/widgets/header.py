"""The top line: what is under load, the phase, the session's state, and whether the client keeps up."""

from __future__ import annotations

from rvtop.stats.snapshot import Snapshot
from rvtop.ui.draw import Line, spread
from rvtop.ui.format import MISSING, clip, clock
from rvtop.ui.widgets.panel import Panel

#: Glyph, word and style of each session state.
STATES = {
    "starting": ("◌", "starting", "attention"),
    "watching": ("◎", "watching", "server"),
    "running": ("●", "running", "client"),
    "paused": ("‖", "paused", "attention"),
    "draining": ("▽", "draining", "attention"),
    "done": ("■", "done", "strong"),
    "lost": ("✗", "target lost", "trouble"),
    "failed": ("✗", "failed", "trouble"),
    "crashed": ("✗", "rvtop failed", "trouble"),
}


class Header(Panel, can_focus=False):
    DEFAULT_CSS = """
    Header { height: 1; }
    """

    def one_line(self, s: Snapshot, width: int) -> Line:
        for detail in range(5, -1, -1):
            parts = [part for part in self._parts(s, detail, width) if part.width]
            if sum(part.width for part in parts) + 3 * (len(parts) - 1) <= width - 2:
                break
        return Line(" ").join(spread(parts, width - 2))

    def _parts(self, s: Snapshot, detail: int, width: int) -> list[Line]:
        """Identity, phase, state, client; ``detail`` 5 says all, 0 the least."""
        look, target = self.look, s.target
        who = Line("rvtop", look.command).put("  ").put(target.topology or "attached", look.server_bold)
        what = " ".join(target.models) or target.url
        who.put(" ▸ ", look.quiet).put(
            clip(what, 40 if detail >= 3 else 24 if detail >= 2 else 10), look.base
        )
        if detail >= 5 and target.engine:
            who.put("  ").put(target.engine, look.quiet)
        if detail >= 5 and target.topology is None and target.models:
            who.put("  ").put(target.url.partition("://")[2] or target.url, look.quiet)

        phase = Line()
        if s.phase is not None and s.state in ("running", "paused", "draining", "done"):
            name = clip(s.phase.name, 18 if detail >= 3 else 10)
            phase.put("▶ ", look.quiet).put(name, look.base)
            if s.phase.count > 1:
                phase.put(f" {s.phase.index + 1}/{s.phase.count}", look.base)
            if s.phase.warmup and detail >= 2:
                phase.put(" warm-up", look.quiet)
            phase.put("  ").put(clock(s.phase.elapsed_s), look.strong)
            if s.phase.duration_s is not None:
                phase.put(" / " if detail >= 4 else "/", look.quiet)
                phase.put(clock(s.phase.duration_s), look.quiet)

        glyph, word, style = STATES.get(s.state, ("?", s.state, "base"))
        state = Line(f"{glyph} {word}", getattr(look, style))

        client = Line()
        if s.load.client_limited:
            client.put("CLIENT-LIMITED", look.trouble)
            if detail >= 4:
                client.put(" " + clip(s.load.client_limited, 40), look.attention)
        elif s.load.sent:
            client.put("client ok", look.quiet)
            if detail >= 2:
                lag = s.load.lag_p99_ms
                client.put("  lag ", look.quiet)
                client.put(f"{MISSING if lag is None else f'{lag:.1f}':>4} ms", look.quiet)
        return [who, phase, state, client] if detail else [who, state]
