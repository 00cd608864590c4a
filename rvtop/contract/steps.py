"""A step of a start as a plain line."""

from __future__ import annotations

from rvtop.contract.snapshot import StartStep
from rvtop.text import printable


def step_line(step: StartStep) -> str:
    """One step of a start."""
    state = {"run": "…", "done": "done", "fail": "FAILED", "wait": "waits"}.get(step.state, step.state)
    seconds = f"{step.elapsed_s:6.1f} s" if step.elapsed_s is not None else " " * 8
    expected = step.expected_s if step.state == "run" else None
    detail = f"{printable(step.detail)}{'' if expected is None else f'  of ~{expected:.1f} s'}"
    return f"  {step.name:<10} {seconds}  {state}  {detail}".rstrip()
