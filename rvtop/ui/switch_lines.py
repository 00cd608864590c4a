"""Switching to another server, as lines: what can be gone to, and how far a switch is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.contract.command import Retarget
from rvtop.contract.snapshot import Snapshot, Switch
from rvtop.contract.start import Offer, StartFacts
from rvtop.ui.draw import Line
from rvtop.ui.format import clip, clock, fixed
from rvtop.ui.theme import Styles
from rvtop.ui.widgets.steps import LATE, took_text

_GLYPHS = {"done": "✓", "run": "▸", "fail": "✗"}


@dataclass(frozen=True, slots=True)
class SwitchChoice:
    """A server to go to: one that is up (``url``), or a topology to start. ``why`` it can't be, and how to
    ``fix`` it."""

    name: str
    url: str = ""
    why: str = ""
    fix: str = ""
    start_s: float | None = None  # what its start is expected to take


def choices_of(s: Snapshot, facts: StartFacts) -> list[SwitchChoice]:
    """Those that are up first, and those that are known and do not answer last; without the one of now."""
    made = {one.url: SwitchChoice(one.topology or one.url, one.url) for one in s.standby}
    for row in facts.up:
        if row.url and not row.why:
            made.setdefault(row.url, SwitchChoice(row.name, row.url))
    for recent in facts.recent:
        if recent.url:
            made.setdefault(recent.url, SwitchChoice("recent", recent.url, recent.why))
    up = [one for one in made.values() if one.url != s.target.url or s.switch is not None]
    there = {s.target.topology} if s.target.owned and s.switch is None else set[str | None]()
    there |= {one.topology for one in s.standby}
    starts = [_start_of(offer) for offer in facts.offers if offer.name not in there]
    return [one for one in up if not one.why] + starts + [one for one in up if one.why]


def _start_of(offer: Offer) -> SwitchChoice:
    return SwitchChoice(offer.name, why=offer.why, fix=offer.fix, start_s=offer.last_start_s)


def has_room(facts: StartFacts) -> bool:
    """Whether a GPU of this machine is free."""
    return any(gpu.free for gpu in facts.gpus)


def command_of(choice: SwitchChoice, s: Snapshot, facts: StartFacts, *, keep: bool, pause: bool) -> Retarget:
    """What the choice means. ``keep``: the server of now stays up."""
    if choice.url:
        return Retarget(choice.url)
    beside = keep or has_room(facts) or not s.target.owned
    return Retarget(topology=choice.name, place="beside" if beside else "instead", keep=keep, pause=pause)


def consequence(choice: SwitchChoice, s: Snapshot, facts: StartFacts, *, keep: bool) -> str:
    """What happens when it is chosen."""
    if choice.why:
        return f"✗ {choice.why}"
    if choice.url:
        return "at once"
    took = "" if choice.start_s is None else f", ~{clock(choice.start_s)}"
    if command_of(choice, s, facts, keep=keep, pause=False).place == "beside":
        return f"starts beside{took}"
    return f"{s.target.topology} ends first{took}"


def meanwhile(choice: SwitchChoice | None, s: Snapshot, facts: StartFacts, *, keep: bool, pause: bool) -> str:
    """What the load does until the server is there."""
    instead = choice is not None and command_of(choice, s, facts, keep=keep, pause=pause).place == "instead"
    if instead:
        load = "load pauses, and goes on at this rate once it is up"
    else:
        load = f"{'nothing is sent' if pause else 'load goes on'} while one starts beside"
    return f"{load}; figures begin anew at the switch"


def choice_line(choice: SwitchChoice, here: bool, said: str, styles: Styles, width: int) -> Line:
    """One row of the list."""
    name = styles.cursor if here else styles.stale if choice.why else styles.server_bold
    text = styles.cursor_quiet if here else styles.trouble if choice.why else styles.quiet
    line = Line(" ▸ " if here else "   ", styles.cursor if here else None).put(fixed(choice.name, 9), name)
    if choice.url:
        line.put(" ", text).put(fixed(choice.url, 28), text).put("  ", text)
    else:
        line.put(" ", text)
    line.put(clip(said, max(1, width - line.width)), text)
    return line.cut(width).put(" " * max(0, width - line.width), styles.cursor_quiet if here else None)


def switch_texts(switch: Switch) -> tuple[str, ...]:
    """``PAUSED for the switch 00:12``, or what is done meanwhile; the longest first."""
    took = clock(switch.since_s)
    if switch.waits:
        return ("PAUSED, t chooses a server", "PAUSED, t chooses")
    if switch.paused:
        return (f"PAUSED for the switch {took}", f"PAUSED {took}")
    return (f"switching to {switch.to} {took}", f"to {switch.to} {took}")


def failed_log(s: Snapshot) -> tuple[str, ...]:
    """The last lines of the log of a start that failed, while the load waits for another server."""
    if s.switch is None or not s.switch.waits:
        return ()
    return next((step.log for step in reversed(s.steps) if step.state == "fail"), ())


def switch_line(s: Snapshot, styles: Styles, width: int) -> Line:
    """How far a switch is: its steps beside each other, the last ones where not all fit."""
    switch = s.switch
    assert switch is not None
    head = Line(f"{switch.to} {switch.what}", styles.trouble if switch.waits else styles.command)
    parts = []
    for step in s.steps if switch.what in ("starts", "did not start") else ():
        glyph = _GLYPHS.get(step.state, "·")
        style = {"fail": styles.trouble, "run": styles.base}.get(step.state, styles.quiet)
        said = LATE if step.is_late else step.detail if step.state == "fail" else ""
        if step.state == "fail" and step.log:
            said = step.log[-1]
        text = f"{glyph} {step.name} {took_text(step)}".rstrip()
        parts.append(Line("  ").put(f"{text}  {said}".rstrip(), style))
    while parts and head.width + sum(part.width for part in parts) > width and len(parts) > 1:
        parts.pop(0)
    for part in parts:
        head.join(part)
    return head.cut(width)
