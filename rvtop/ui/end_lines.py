"""The end card: how a run ended, its figures, what they can be trusted for, what to do next. All pure."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.contract.snapshot import Snapshot
from rvtop.results.compare import CENSORED, NOT_SIGNIFICANT, Figures, Row, short_names
from rvtop.results.end_facts import EndFacts
from rvtop.ui.compare_lines import percent_text
from rvtop.ui.draw import Line, large
from rvtop.ui.format import MISSING, clip, clock, count, fixed, rate, sig3
from rvtop.ui.theme import Styles

TITLES = {
    "done": "■ done",
    "lost": "✗ the target was lost",
    "failed": "✗ it did not start",
    "crashed": "✗ a part of rvtop failed",
}
_HEAD = 10  # cells of the words at the left
_BLOCK = 20
_MESSAGE_ROWS = 4
_WHY_ROWS = 3  # of each cause
#: Which figures stay where not all have room, the first ones longest.
_KEPT = ("ttft", "errors", "tokens", "e2e", "goodput")
#: What a step does in the application; all else is a command to be copied.
COMPARE, LOG, AGAIN = "compare", "log", "again"


@dataclass(frozen=True, slots=True)
class Step:
    """What can be done next. ``does`` is one of the names above; empty: there is only the command."""

    text: str
    command: str
    does: str = ""


def title(s: Snapshot, styles: Styles) -> Line:
    """How it ended, in a word or two."""
    bad = s.state != "done" or s.message.startswith(("interrupted", "cut off", "every request failed"))
    text = TITLES.get(s.state, s.state)
    if s.state == "done" and s.message.startswith("interrupted"):
        text = "‖ interrupted"
    elif s.state == "done" and s.message.startswith("every request failed"):
        text = "✗ every request failed"
    elif s.state == "done" and s.message.startswith("stopped: over saturation"):
        text = "■ stopped: over saturation"
    return Line(text, styles.trouble if bad else styles.strong)


def steps_of(s: Snapshot, facts: EndFacts | None, *, can_choose_again: bool) -> list[Step]:
    """What makes sense after this run, the most useful first."""
    folder = shlex.quote(s.out_dir) if s.out_dir else ""
    made = []
    if facts is not None and facts.other is not None and folder:
        other = facts.other
        command = f"rvtop compare {shlex.quote(other.where)} {folder}"
        made.append(Step(f"compare with {clip(_name(facts), 24)}", command, COMPARE))
    log = s.backend_log or "backend.log"
    if s.state == "failed" and s.target.owned and s.out_dir:
        made.append(Step("read the backend's log", f"less {shlex.quote(f'{s.out_dir}/{log}')}", LOG))
    if s.state in ("failed", "lost"):
        made.append(Step("check this machine", "rvtop doctor"))
    if facts is not None and facts.has_scenario and folder and s.state != "failed":
        to = (
            f"--topology {s.target.topology}"
            if s.target.owned and s.target.topology
            else f"--target {s.target.url}"
        )
        scenario = shlex.quote(f"{s.out_dir}/scenario.yaml")
        made.append(Step("run the same work again", f"rvtop run {scenario} {to}"))
    if folder and facts is not None and not facts.unread:
        made.append(Step("see any second of it", f"rvtop replay {folder}"))
        made.append(Step("print all its figures", f"rvtop report {folder}"))
    elif folder and facts is not None and s.load.sent:
        made.append(Step("sum it up", f"rvtop report {folder}"))
    if can_choose_again:
        made.append(Step("choose another session", "rvtop", AGAIN))
    return made


def card_lines(
    s: Snapshot, facts: EndFacts | None, steps: Sequence[Step], cursor: int, styles: Styles, width: int
) -> list[Line]:
    """All of it below its rule. ``facts`` None: they are being read."""
    lines: list[Line] = []
    if s.load.sent or (facts is not None and facts.figures):
        lines += _figures(s, facts, styles, width)
    message = "" if s.state == "done" and s.message == "done" else s.message
    wrapped = textwrap.wrap(message, max(8, width - _HEAD), max_lines=_MESSAGE_ROWS, placeholder="…")
    lines += _under("end", wrapped, styles, width, styles.base if s.state == "done" else styles.trouble)
    for step in s.steps:
        if step.state == "fail":
            lines += _under(step.name, list(step.log), styles, width, styles.quiet)
    if facts is not None and facts.unread:
        lines += _under("figures", [facts.unread], styles, width, styles.attention)
    elif facts is not None:
        lines += _trust(facts, styles, width)
        for what, told in facts.spent:
            lines += _under(what, [told], styles, width, styles.base)
        why = [line for text in facts.why for line in _wrapped(text, width)]
        lines += _under("why", why, styles, width, styles.base)
    if s.out_dir and (s.load.sent or s.state == "done"):
        lines += _under("results", [s.out_dir], styles, width, styles.base)
    return [*lines, *_steps(steps, cursor, styles, width)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(8, width - _HEAD), max_lines=_WHY_ROWS, placeholder="…")


def _under(head: str, texts: Sequence[str], styles: Styles, width: int, style: object) -> list[Line]:
    made = []
    for number, text in enumerate(texts):
        line = Line(fixed(head if not number else "", _HEAD - 1) + " ", styles.quiet)
        made.append(line.put(clip(text, max(1, width - _HEAD)), style))  # type: ignore[arg-type]
    return [line.cut(width) for line in made]


def _figures(s: Snapshot, facts: EndFacts | None, styles: Styles, width: int) -> list[Line]:
    """The TTFT in large digits (E2E, where answers have none), and beside it a block of three lines for each
    figure that has room."""
    known = facts.figures if facts is not None else {}
    text = sig3(known.get(f"{_first(known)}_p99"))
    digits = large(text) if all(char in "0123456789. " for char in text) else ("", f"{text:^7}", "")
    rows = [Line(f" {digit}   ", styles.client_bold) for digit in digits]
    room = max(0, (width - rows[0].width) // _BLOCK)
    blocks = _blocks(s, facts)
    for key in [key for key in blocks if key in _KEPT[:room]]:
        for row, (cell, style) in zip(rows, blocks[key], strict=True):
            row.put(fixed(cell, _BLOCK - 1) + " ", getattr(styles, style))
    return [row.cut(width) for row in rows]


def _blocks(s: Snapshot, facts: EndFacts | None) -> dict[str, list[tuple[str, str]]]:
    """Three lines a figure, each with its style."""
    known = facts.figures if facts is not None else {}
    errors, completed = known.get("errors"), known.get("completed_pct")
    asked = f"of {rate(facts.asked_rps if facts is not None else None)} asked"
    done = f"completed {MISSING if completed is None else f'{completed:.4g}'} %"

    def of(head: str, text: str, below: str, style: str = "client") -> list[tuple[str, str]]:
        return [(head, "quiet"), (text, style), (below, "quiet")]

    first = _first(known)
    held, style = _slo(s.slo_e2e_ms if first == "e2e" else s.slo_ttft_ms, known.get(f"{first}_p99"))
    return {
        "ttft": of(f"{first.upper()} p99, ms", held, _change(facts, f"{first}_p99"), style),
        "tokens": of("tokens/s", sig3(known.get("tps")), _change(facts, "tps")),
        "e2e": of("E2E mean, ms", sig3(known.get("e2e_mean")), _change(facts, "e2e_mean")),
        "goodput": of("goodput, rps", rate(known.get("goodput_rps")), asked),
        "errors": of("errors", count(errors), done, "trouble" if errors else "client"),
    }


def _first(known: Figures) -> str:
    """Which latency comes first: answers in one piece have no TTFT."""
    return "e2e" if known.get("ttft_p99") is None and known.get("e2e_p99") is not None else "ttft"


def _slo(limit_ms: float | None, p99: float | None) -> tuple[str, str]:
    if limit_ms is None:
        return "no SLO", "quiet"
    if p99 is None:
        return f"SLO {limit_ms:g} {MISSING}", "quiet"
    held = p99 <= limit_ms
    return (f"SLO {limit_ms:g} held", "client") if held else (f"✗ SLO {limit_ms:g} missed", "trouble")


def _change(facts: EndFacts | None, key: str) -> str:
    """Against the run that it is compared with."""
    if facts is None or facts.change is None or facts.other is None:
        return ""
    row: Row = next(
        one for one in facts.change.parts[next(iter(facts.change.parts))] if one.figure.key == key
    )
    if row.word == CENSORED:
        return CENSORED
    if row.verdict == NOT_SIGNIFICANT:
        return f"same as {_name(facts)}"
    return f"{percent_text(row)} to {_name(facts)}"


def _name(facts: EndFacts) -> str:
    """What the other run is called."""
    return short_names(facts.change.a, facts.change.b)[0] if facts.change is not None else ""


def _trust(facts: EndFacts, styles: Styles, width: int) -> list[Line]:
    """What the figures are worth, doubts first; nothing of it is left out."""
    parts = [Line(f"! {text}", styles.attention) for text in facts.doubts]
    if facts.change is not None and any(note.startswith(CENSORED) for note in facts.change.notes):
        parts.insert(0, Line(f"! {CENSORED} against {_name(facts)}", styles.attention))
    parts += [Line(text, styles.base) for text in facts.trust]
    lines: list[Line] = []
    for part in parts:
        if lines and lines[-1].width + 3 + part.width <= width:
            lines[-1].put(" · ", styles.quiet).join(part)
            continue
        for text in textwrap.wrap(part.text, max(8, width - _HEAD), subsequent_indent="  "):
            head = Line(fixed("" if lines else "trust", _HEAD), styles.quiet)
            lines.append(head.put(text, part.runs[0][1]))
    return [line.cut(width) for line in lines]


def _steps(steps: Sequence[Step], cursor: int, styles: Styles, width: int) -> list[Line]:
    made = []
    text = min(34, max((len(step.text) for step in steps), default=0) + 2)
    for number, step in enumerate(steps):
        chosen = number == cursor
        line = Line(fixed("next" if not number else "", _HEAD - 2), styles.quiet)
        line.put("▸ " if chosen else "  ", styles.command)
        line.put(fixed(step.text, text), styles.cursor if chosen else styles.base)
        made.append(
            line.put(" ").put(clip(step.command, max(1, width - line.width)), styles.quiet).cut(width)
        )
    return made


def totals(s: Snapshot, facts: EndFacts | None, styles: Styles) -> Line:
    """What stands at the right of the rule."""
    requests = facts.requests if facts is not None and facts.requests is not None else s.load.sent
    took = facts.duration_s if facts is not None and facts.duration_s is not None else s.t_s
    if not requests:
        return Line()
    return Line(f"{count(requests)} requests", styles.client).put(f" in {clock(took)}", styles.quiet)
