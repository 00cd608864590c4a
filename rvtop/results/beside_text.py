"""What a run says of its warm-up and its probes, in lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.text import digits, phase_words


def warm_up_line(found: Mapping[str, Any] | None) -> str:
    """By ``warm_up`` of a summary; empty where there is none."""
    if not found:
        return ""
    # Answers in one piece have no TTFT.
    name = "ttft" if found["with"]["ttft_ms"]["count"] else "e2e"
    both, rest = (found[key][f"{name}_ms"] for key in ("with", "without"))
    then = (
        "they are left out"
        if found["excluded"]
        else "rvtop report RUN --exclude-warm-up auto leaves them out"
    )
    return (
        f"warm-up: the first {found['requests']} requests of {phase_words(found['phase'])}, until "
        f"{found['until_s']:.1f} s: {name.upper()} mean {digits(both['mean'])} p99 {digits(both['p99'])} ms "
        f"with them, {digits(rest['mean'])} and {digits(rest['p99'])} ms without; {then}"
    )


def probe_lines(found: Mapping[str, Any] | None) -> list[str]:
    """What one-token requests beside the load met, in all and phase by phase, by ``probes`` of a summary."""
    if not found:
        return []
    lines = [f"probes beside the load: {_probes(found)}"]
    if len(found["phases"]) > 1:
        told = [part for part in found["phases"] if part["sent"]]
        lines += [f"  {phase_words(part['name'])}: {_probes(part)}" for part in told]
    return lines


def _probes(part: Mapping[str, Any]) -> str:
    ttft = part["ttft_ms"]
    failed = sum(count for kind, count in part["errors"].items() if kind != "cancelled")
    answered = f"{part['ok']} of {part['sent']}" + (f", {failed} failed" if failed else "")
    return f"{answered}: TTFT p50 {digits(ttft['p50'])} p99 {digits(ttft['p99'])} ms"
