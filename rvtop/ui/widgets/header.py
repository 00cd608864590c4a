"""The top line: what is under load, the phase, the session's state, and whether the client keeps up."""

from __future__ import annotations

from dataclasses import replace

from rvtop.contract.snapshot import Snapshot
from rvtop.net.place import GRPC
from rvtop.text import phase_words
from rvtop.ui.draw import Line, clickable, fitting, spread
from rvtop.ui.format import MISSING, age, clip, clock, first_that_fits, rate, sig3
from rvtop.ui.shell import shell_of
from rvtop.ui.switch_lines import switch_texts
from rvtop.ui.widgets.panel import Panel

#: On a screen of fewer rows the header alone has to say what matters.
ROWS_FOR_PANELS = 4
LEAST_WIDTH = 14  # below, there is room for the state alone
#: Glyph, text and style of each session state.
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
    NAME = "header"
    PLACE = "top"

    def draws(self, s: Snapshot) -> tuple[object, ...] | None:
        if self.app.size.height < ROWS_FOR_PANELS:
            return None
        phase, lag, down = s.phase, s.load.lag_p99_ms, s.target_down_s
        clocks = (
            None if phase is None else clock(phase.elapsed_s),
            None if s.recording_s is None else clock(s.recording_s),
            None if down is None else age(down),
            None if lag is None else f"{lag:.1f}",
        )
        still = None if phase is None else replace(phase, elapsed_s=0.0)
        load = (bool(s.load.sent), bool(s.load.client_limited))
        return s.state, s.target, s.switch, still, clocks, load

    def one_line(self, s: Snapshot, width: int) -> Line:
        if width < LEAST_WIDTH:
            return self._state(s, width)
        if self.app.size.height < ROWS_FOR_PANELS:
            return Line(" ").join(self._all(s, width - 1))
        for detail in range(5, -1, -1):
            parts = [part for part in self._parts(s, detail, width) if part.width]
            if sum(part.width for part in parts) + 3 * (len(parts) - 1) <= width - 2:
                return Line(" ").join(spread(parts, width - 2))
        return Line(" ").join(self._state(s, width - 1))

    def _all(self, s: Snapshot, width: int) -> Line:
        """What matters most, where there is no room for panels: state, rate and TTFT, or how it ended."""
        styles = self.rich_styles
        parts = [(0, self._state(s, width))]
        if s.state in ("done", "lost", "failed"):
            room = max(0, width - parts[0][1].width - 2)
            return fitting([*parts, (1, Line("  ").put(clip(s.message, room), styles.base))], width)
        if s.load.target_rps is not None:
            parts.append((1, Line(f"  {rate(s.load.target_rps)}", styles.command).put(" rps", styles.quiet)))
        if s.load.sent:
            ttft = Line("  TTFT ", styles.quiet).put(sig3(s.latency.ttft.p50), styles.client)
            parts.append((2, ttft.put(" ms", styles.quiet)))
        return fitting(parts, width)

    def _state(self, s: Snapshot, width: int) -> Line:
        """The session's state in at most ``width`` cells, or how long the server has not answered."""
        if s.target_down_s is not None:
            silent = age(s.target_down_s)
            texts = [f"✗ {text} {silent}" for text in ("NOT ANSWERING", "no answer")]
            return Line(first_that_fits((*texts, "✗ no answer", "✗"), width), self.rich_styles.trouble)
        if s.switch is not None:
            style = "trouble" if s.switch.waits else "attention"
            glyph = "‖" if s.switch.paused else "◌"
            texts = [f"{glyph} {text}" for text in switch_texts(s.switch)]
            return Line(first_that_fits((*texts, glyph), width), getattr(self.rich_styles, style))
        glyph, name, style = STATES.get(s.state, ("?", s.state, "base"))
        return Line(first_that_fits((f"{glyph} {name}", glyph), width), getattr(self.rich_styles, style))

    def _parts(self, s: Snapshot, detail: int, width: int) -> list[Line]:
        """Identity, phase, state, client; ``detail`` 5 says all, 0 the least."""
        styles, target = self.rich_styles, s.target
        who = Line("rvtop", styles.command).put("  ").put(target.topology or "attached", styles.server_bold)
        what = " ".join(target.models) or target.url
        who.put(" ▸ ", styles.quiet).put(
            clip(what, 40 if detail >= 3 else 24 if detail >= 2 else 10), styles.base
        )
        if detail >= 3 and target.url.startswith(GRPC):
            who.put("  gRPC", styles.quiet)
        if detail >= 5 and target.engine:
            who.put("  ").put(target.engine, styles.quiet)
        if detail >= 5 and target.topology is None and target.models:
            who.put("  ").put(target.url.partition("://")[2] or target.url, styles.quiet)

        phase = Line()
        if s.phase is not None and s.state in ("running", "paused", "draining", "done"):
            name = clip(phase_words(s.phase.name), 18 if detail >= 3 else 10)
            phase.put("▶ ", styles.quiet).put(name, styles.base)
            if s.phase.count > 1:
                phase.put(f" {s.phase.index + 1}/{s.phase.count}", styles.base)
            if s.phase.warmup and detail >= 2:
                phase.put(" warm-up", styles.quiet)
            phase.put("  ").put(clock(s.phase.elapsed_s), styles.strong)
            if s.phase.duration_s is not None:
                phase.put(" / " if detail >= 4 else "/", styles.quiet)
                phase.put(clock(s.phase.duration_s), styles.quiet)

        state = self._state(s, width if detail else 24)
        if s.recording_s is not None:
            rec = self.clicks(styles.trouble, "record: begin, end")
            state.put("  ● REC", rec)
            if detail >= 3:
                state.put(f" {clock(s.recording_s)}", rec)
        readonly = shell_of(self).sharing.readonly
        if readonly:
            state.put("  ◇ READ-ONLY", styles.attention)
        client = Line()
        if s.load.client_limited:
            client.put("CLIENT-LIMITED", styles.trouble)  # why: in the row for notices
        elif s.load.sent and (detail >= 2 or not (readonly or s.recording_s is not None)):
            client.put("client ok", styles.quiet)
            if detail >= 2:
                lag = s.load.lag_p99_ms
                client.put("  lag ", styles.quiet)
                client.put(f"{MISSING if lag is None else f'{lag:.1f}':>4} ms", styles.quiet)
        who = self._doing(who, "topology: switch")
        if not detail:
            return [who, state]
        if s.load.sent:
            told = client.runs
            client = Line()
            for text, style in told:
                client.put(text, clickable(style or styles.base, "screen.help_of('load')"))
        return [who, self._doing(phase, "phase: next"), state, client]

    def _doing(self, part: Line, name: str) -> Line:
        """``part``, a click on which does the action ``name``."""
        made = Line()
        for text, style in part.runs:
            made.put(text, self.clicks(style or self.rich_styles.base, name))
        return made
