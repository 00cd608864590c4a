"""Live pairs that begin on the Compare screen: which servers can be the second, and what it means. Pure."""

from __future__ import annotations

from rvtop.contract.handle import Choice, Second
from rvtop.contract.snapshot import OVER, Snapshot
from rvtop.contract.start import StartFacts
from rvtop.ui.format import rate
from rvtop.ui.switch_lines import SwitchChoice, choices_of


def seconds_of(s: Snapshot, facts: StartFacts) -> list[SwitchChoice]:
    """Servers that are up, and those that are known and do not answer last; not the one of now."""
    return [one for one in choices_of(s, facts) if one.url and one.url != s.target.url]


def why_not(s: Snapshot) -> str:
    """Why no pairs can begin from this session; empty where they can."""
    if s.showdown is not None:
        return "a showdown runs: rvtop ab A B"
    if s.state in OVER and s.target.owned:
        return "its server has ended with the session: rvtop up starts one that stays, then rvtop ab A B"
    if s.state == "starting" or not s.target.url:
        return "there is no server yet"
    if keeps(s) and _ends(s):
        return (
            "its scenario would end meanwhile, and its server with it: rvtop up starts one that stays, then "
            "rvtop ab A B"
        )
    return "the load is on its way to another server" if s.switch is not None else ""


def _ends(s: Snapshot) -> bool:
    """Whether the session ends by itself, also while it is paused: a phase's clock goes on then."""
    return s.state == "draining" or (s.phase is not None and s.phase.duration_s is not None)


def keeps(s: Snapshot) -> bool:
    """Whether a server of ours would end with the session, which therefore stays, paused."""
    return s.state not in OVER and (s.target.owned or any(one.owned for one in s.standby))


def choice_of(s: Snapshot, url: str) -> Choice:
    """Live pairs of the server of now and the one at ``url``, at the rate of now."""
    held = s.load.target_rps if s.pairs is None else None
    return Choice(url=s.target.url, models=s.target.models, second=Second(url, held or None))


def what_begins(s: Snapshot) -> tuple[str, str]:
    """What happens to the load of now, and what comes."""
    held = s.load.target_rps if s.pairs is None else None
    at = f" at {rate(held)} rps to each" if held else ""
    now = "this load is over" if s.state in OVER else "this load ends, with its results"
    if keeps(s):
        now = "this load pauses; its server stays until rvtop is left"
    return now, f"then a warm-up, A against A, pairs{at}"
