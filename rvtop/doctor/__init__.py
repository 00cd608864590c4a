"""``rvtop doctor``: one line a check, ok / warn / fail, with the fix. Imports no Ray, vLLM or torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rvtop.doctor.check import Check

Print = Callable[[str], None]


def examine(*, deep: bool, out: Print, k8s: bool = False) -> int:
    """Runs every check and prints its line; 1 if one fails, else 0 (warnings don't count). ``k8s``: those of
    the Kubernetes cluster that kubectl talks to, instead of this machine's."""
    checks: list[Check] = []
    for group in _of_kubernetes() if k8s else _groups(deep=deep):
        for check in group():
            out(line(check))
            checks.append(check)
    out(verdict(checks))
    return 1 if any(check.level == "fail" for check in checks) else 0


def line(check: Check) -> str:
    """``level  name  text; fix``."""
    text = f"{check.text}; {check.fix}" if check.fix else check.text
    return f"{check.level:<4}  {check.name:<14}  {text}"


def verdict(checks: Sequence[Check]) -> str:
    """How many of each."""
    counts = [f"{sum(check.level == level for check in checks)} {level}" for level in ("ok", "warn", "fail")]
    return ", ".join(counts)


def _of_kubernetes() -> list[Callable[[], list[Check]]]:
    from rvtop.doctor import kubernetes

    return [kubernetes.checks]


def _groups(*, deep: bool) -> list[Callable[[], list[Check]]]:
    from rvtop.doctor import accelerators, cluster, gpus, machine, ports, versions

    return [
        versions.checks,
        gpus.checks,
        accelerators.checks,
        ports.checks,
        machine.checks,
        lambda: cluster.checks(deep=deep),
    ]
