"""The command line that begins a session as it is shown. Pure."""

from __future__ import annotations

import shlex

from rvtop.contract.handle import Choice
from rvtop.contract.run_files import SCENARIO
from rvtop.contract.snapshot import Snapshot
from rvtop.contract.start import command_line


def command_of(s: Snapshot) -> str:
    """What does the same from a shell: a showdown, the scenario of a run, or the dashboard by hand; empty
    where that is not known: of live pairs, and of a server of ours in a recording of before."""
    target = s.target
    if s.showdown is not None:
        names = ",".join(one.name for one in s.showdown.scores)
        return shlex.join(["rvtop", "showdown", s.showdown.scenario, "--topologies", names])
    if s.pairs is not None or (target.owned and not target.start):
        return ""
    words = target.start or ("--target", target.url)
    if s.plan is not None and s.out_dir:
        return shlex.join(["rvtop", "run", f"{s.out_dir}/{SCENARIO}", *words])
    if target.start:
        return shlex.join(["rvtop", *words])
    return command_line(Choice(url=target.url)) if target.url else ""
