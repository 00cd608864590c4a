"""The panels of the showdown: all topologies side by side, and the one that runs."""

from __future__ import annotations

import textwrap

from rvtop.contract.snapshot import Snapshot
from rvtop.ui.action import Action
from rvtop.ui.axis import LogAxis
from rvtop.ui.draw import Line, fitting
from rvtop.ui.format import MISSING, clock, count, percent, sig3
from rvtop.ui.shell import shell_of
from rvtop.ui.showdown_lines import showdown_lines, span, step_text
from rvtop.ui.widgets.panel import MARGINS, Panel
from rvtop.ui.widgets.place_footer import PlaceFooter

CENSORED_NOTE = "CENSORED: completion differs by over a point, so means are not compared"


class ShowdownPanel(Panel):
    DEFAULT_CSS = """
    ShowdownPanel { height: 1fr; min-height: 3; }
    """
    TOPIC = "showdown"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.axis = LogAxis()

    def observe(self, s: Snapshot) -> None:
        found = span(s, s.showdown.scores) if s.showdown is not None else None
        if found is not None:
            self.axis.include(*found, s.showdown.elapsed_s if s.showdown is not None else 0.0)

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, show = self.rich_styles, s.showdown
        if show is None:
            return Line("showdown", styles.client_bold), Line()
        left = Line("showdown", styles.client_bold).put(f" · {show.scenario}", styles.base)
        if width >= 70:
            left.put(" · same work for all", styles.quiet)
        right = Line()
        if show.turns is None:
            right.put(f"repeat {show.repeat}, without end", styles.base)
        else:
            right.put(f"{min(show.turn, show.turns)} of {show.turns}", styles.base)
        right.put(f"   {clock(show.elapsed_s)}", styles.strong)
        if show.left_s is not None:
            right.put(f" / ~{clock(show.elapsed_s + show.left_s)}", styles.quiet)
        return left, right.put("   all done" if show.over else "", styles.strong)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        return showdown_lines(s, self.rich_styles, self.axis, width, height)

    def one_line(self, s: Snapshot, width: int) -> Line:
        left, right = self.heading(s, width)
        return Line(" ").join(left).put("  ").join(right).cut(width)


class NowPanel(Panel):
    """The topology that runs, and what is to be known of the table."""

    DEFAULT_CSS = """
    NowPanel { height: 2; max-height: 8; }
    """
    TOPIC = "showdown"

    def heading(self, s: Snapshot, width: int) -> tuple[Line, Line]:
        styles, show = self.rich_styles, s.showdown
        running = next((one.name for one in show.scores if one.state == "run"), "") if show else ""
        left = Line(f"now: {running}" if running else "the table", styles.server_bold)
        right = Line(f"changes against {show.reference}" if show else "", styles.quiet)
        return left, right

    def _is_running(self, s: Snapshot) -> bool:
        return s.showdown is not None and any(one.state == "run" for one in s.showdown.scores)

    def rows(self, s: Snapshot, width: int, height: int) -> list[Line]:
        styles, lines = self.rich_styles, []
        if self._is_running(s):
            lines.append(self._starting(s, width) if s.state == "starting" else self._figures(s, width))
        lines += [Line(text, styles.quiet) for text in self._notes(s, width)]
        return lines[:height]

    def _notes(self, s: Snapshot, width: int) -> list[str]:
        show = s.showdown
        if show is None:
            return []
        notes = [CENSORED_NOTE] if any(one.censored for one in show.scores) else []
        notes += [f"differs: {note}" for note in show.notes]
        notes += [f"results: {show.folder}"] if show.over else []
        return [
            part
            for note in notes
            for part in textwrap.wrap(note, max(8, width), subsequent_indent="  ", break_on_hyphens=False)
        ]

    def wanted(self, s: Snapshot) -> int:
        return max(1, self._is_running(s) + len(self._notes(s, self.app.size.width - MARGINS)))

    def _starting(self, s: Snapshot, width: int) -> Line:
        """The steps of the start; where not all fit, the last ones."""
        styles, texts = self.rich_styles, [step_text(step) for step in s.steps]
        while len(texts) > 1 and len("   ".join(texts)) > width:
            texts.pop(0)
        return Line("   ".join(texts) or "starting", styles.server).cut(width)

    def _figures(self, s: Snapshot, width: int) -> Line:
        styles = self.rich_styles
        kv = [engine.kv_usage for engine in s.engines if engine.kv_usage is not None]
        gpu = [one.util for one in s.gpus if one.util is not None]
        parts = [
            (0, "TTFT p99 ", f"{sig3(s.latency.ttft.p99)} ms", styles.client),
            (
                1,
                "tokens/s ",
                f"~{sig3(s.tokens.per_s)}" if s.tokens.per_s is not None else MISSING,
                styles.client,
            ),
            (2, "in flight ", count(s.load.in_flight), styles.client),
            (3, "errors ", count(sum(n for _, n in s.load.errors)), styles.client),
            (4, "KV ", percent(max(kv)) if kv else "", styles.server),
            (5, "GPU ", percent(max(gpu)) if gpu else "", styles.server),
        ]
        told = [
            (rank, Line(f"{name}", styles.quiet).put(f"{text}    ", style))
            for rank, name, text, style in parts
            if text
        ]
        return fitting(told, width)

    def one_line(self, s: Snapshot, width: int) -> Line:
        left, _ = self.heading(s, width)
        return Line(" ").join(left).cut(width)


class ShowdownFooter(PlaceFooter):
    DEFAULT_CSS = """
    ShowdownFooter { height: 1; }
    """

    def keys(self, s: Snapshot) -> list[tuple[Action, str]]:
        over = s.showdown is None or s.showdown.over
        live = [(a, "live screen") for a in shell_of(self).actions if a.name == "screen: live" and a.keys]
        labels = {
            "next_phase": "skip",
            "reference": "reference",
            "quit": "leave" if over else "end, keep results",
        }
        shown = [(a, labels.get(a.action, label)) for a, label in super().keys(s)]
        own = [(a, label) for a, label in shown if a.where not in ("A", "*")]
        if over:
            own, live = [(a, label) for a, label in own if a.action != "next_phase"], []
        return [*own, *live, *((a, label) for a, label in shown if a.where in ("A", "*"))]
