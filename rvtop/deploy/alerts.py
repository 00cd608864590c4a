"""``rvtop deploy alerts``: rules for Prometheus, with thresholds from an SLO.

``groups`` is the value of ``groups`` in a rules file, and of ``spec.groups`` in a PrometheusRule. Every rule
says which screen of rvtop to open. What is lost (an engine, a server, a GPU) is what was told in the last
``MEMORY`` and is not now: a change that was meant (fewer replicas) fires it for as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rvtop.deploy.promql import Names, gauge, mean, quantile, rate, selector
from rvtop.errors import UserError

#: How long something that is lost is missed.
MEMORY = "10m"
#: Which histogram of the server stands for a latency of the SLO. TPOT's mean over all tokens is ITL's.
_LATENCIES = {"ttft": "ttft", "itl": "itl", "e2e": "e2e", "tpot": "itl"}
_BY = ("job", "model_name")
_MODEL = "{{ $labels.model_name }} on {{ $labels.job }}"
FILE = "rvtop-alerts.yml"


@dataclass(frozen=True, slots=True)
class Limits:
    """``slo``: limits by figure as ``--slo`` names them (``ttft_p99``: ms; ``error_rate``: 0..1).
    ``kv``: share of the KV cache. ``window``: of every rate, at least four scrapes. ``hold``: how long a
    condition lasts before it fires (Prometheus' ``for``)."""

    slo: Mapping[str, float]
    kv: float = 0.95
    window: str = "2m"
    hold: str = "1m"


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert. ``look``: where a person looks first, which names the screen of rvtop."""

    name: str
    expr: str
    summary: str
    look: str
    severity: str = "critical"
    labels: Mapping[str, str] = field(default_factory=dict)

    def value(self, hold: str) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": hold,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {"summary": self.summary, "runbook": self.look},
        }


def groups(limits: Limits, names: Names | None = None) -> list[dict[str, Any]]:
    """The groups of rules. Raises UserError for an SLO that names a figure servers do not tell."""
    names = names or Names()
    found = (
        ("rvtop-latency", _latency(limits, names)),
        ("rvtop-load", _load(limits, names)),
        ("rvtop-lost", _lost(names, limits)),
    )
    return [{"name": name, "rules": [rule.value(limits.hold) for rule in rules]} for name, rules in found]


def files(limits: Limits, names: Names | None = None) -> dict[str, str]:
    """``{path: text}``: the rules file."""
    import yaml

    text = yaml.safe_dump({"groups": groups(limits, names)}, sort_keys=False, width=10_000)
    return {FILE: text}


def _latency(limits: Limits, names: Names) -> Sequence[Rule]:
    rules = []
    for figure, limit in limits.slo.items():
        if figure == "error_rate":
            continue
        latency, _, stat = figure.rpartition("_")
        key = _LATENCIES.get(latency)
        if key is None or (latency == "tpot" and stat != "mean"):
            told = ", ".join(f"{one}_p99" for one in _LATENCIES if one != "tpot")
            raise UserError(f"--slo {figure}: no server tells it; a rule can be of {told}, tpot_mean")
        if stat == "mean":
            expr = mean(names, key, _BY, window=limits.window)
        else:
            share = float(f"0.{stat.removeprefix('p')}")
            expr = quantile(names, share, key, _BY, window=limits.window)
        rules.append(
            Rule(
                f"Rvtop{latency.upper()}{stat.capitalize()}High",
                f"({expr}) > {limit / 1000:g}",
                f"{latency.upper()} {stat} of {_MODEL} is {{{{ $value | humanizeDuration }}}} "
                f"(limit {limit:g} ms)",
                "rvtop attach URL: screen 1 (live) has the latency beside the server's queue; screen 3 "
                "(requests) splits the TTFT of the slowest.",
            )
        )
    return rules


def _load(limits: Limits, names: Names) -> Sequence[Rule]:
    window = limits.window
    ended = selector(names.series("requests_ok")[0])
    whole = f"sum by (job, model_name) (rate({ended}[{window}]))"
    bad = ended[:-1] + ', finished_reason="error"}'
    errors = f"sum by (job, model_name) (rate({bad}[{window}]))"
    serve_all = _serve(names, "requests", window)
    serve_bad = _serve(names, "errors", window)
    most = limits.slo.get("error_rate", 0.01)
    running, waiting = gauge(names, "running", _BY), gauge(names, "waiting", _BY)
    done = rate(names, "requests_ok", _BY, window=window)
    tokens = rate(names, "generation_tokens", _BY, window=window)
    rules = [
        Rule(
            "RvtopErrorRateHigh", f"{errors} / {whole} > {most:g}",
            f"{{{{ $value | humanizePercentage }}}} of the requests to {_MODEL} fail in the engine",
            "rvtop attach URL: screen 3 (requests), filter on failed; rvtop logs for the engine's own words.",
        ),
        Rule(
            "RvtopServeErrorRateHigh", f"{serve_bad} / {serve_all} > {most:g}",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.application }}/"
            "{{ $labels.deployment }} fail in replicas",
            "rvtop attach URL: screen 1 (live), the panel of Serve; ray list actors and the replica's log.",
        ),
        Rule(
            "RvtopKvCacheFull", f"({gauge(names, 'kv_usage', _BY)}) > {limits.kv:g}",
            f"{{{{ $value | humanizePercentage }}}} of the KV cache of {_MODEL} is in use: requests wait or "
            "are preempted",
            "rvtop attach URL: screen 6 (KV map) and the verdict on screen 1 (live).", "warning",
        ),
        Rule(
            "RvtopNoTokens", f"({tokens}) == 0 and ({_least(running, window)}) > 0",
            f"{_MODEL} has had requests in its batch for {window} and made no token",
            "rvtop attach URL: screen 2 (map) shows which engine stands still; then rvtop logs.",
        ),
    ]  # fmt: skip
    ttft_ms = min((ms for name, ms in limits.slo.items() if name.startswith("ttft_")), default=None)
    if ttft_ms is not None:
        # Little's law: who comes now waits for all that wait before them.
        rules.append(
            Rule(
                "RvtopQueueLong", f"({waiting}) / ({done}) > {ttft_ms / 1000:g}",
                f"the queue of {_MODEL} takes {{{{ $value | humanizeDuration }}}} to empty, longer than the "
                f"TTFT may take ({ttft_ms:g} ms)",
                "rvtop attach URL: screen 1 (live), the verdict says what bounds the system; screen 2 (map) "
                "shows where requests wait.",
                "warning",
            )
        )  # fmt: skip
    return rules


def _least(expr: str, window: str) -> str:
    return f"min_over_time(({expr})[{window}:])"


def _serve(names: Names, field: str, window: str) -> str:
    return f"sum by (application, deployment) (rate({names.ray('deployment', field)}[{window}]))"


def _lost(names: Names, limits: Limits) -> Sequence[Rule]:
    running = selector(names.series("running")[0])
    engines = f"count by (job, model_name) ({running})"
    healthy = f"sum by (application, deployment) ({names.ray('deployment', 'replicas')})"
    unhealthy = _missing(healthy)
    if names.tells_wanted:
        wanted = f"max by (application, deployment) ({names.ray('deployment', 'target_replicas')})"
        unhealthy = f"{wanted} - {healthy} > 0 or ({unhealthy})"
    dcgm = "count by (Hostname) (group by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL))"
    ray = f"count by (ip) (group by (ip, GpuIndex) ({names.ray('gpu', 'util')}))"
    gpu = "rvtop attach URL: screen 2 (map), the node's GPUs; rvtop doctor on that node; dmesg for Xid."
    return (
        Rule(
            "RvtopEngineLost", _missing(engines),
            f"{{{{ $value }}}} of the engines of {_MODEL} are gone",
            "rvtop attach URL: screen 2 (map) shows which engine is missing; rvtop logs for how it ended.",
        ),
        Rule(
            "RvtopServerDown",
            f"up == 0 and on (job, instance) count by (job, instance) (last_over_time({running}[{MEMORY}]))",
            "{{ $labels.instance }} ({{ $labels.job }}) served engines and does not answer now",
            "rvtop doctor on its machine; rvtop ps and rvtop logs.",
        ),
        Rule(
            "RvtopReplicaUnhealthy", unhealthy,
            "{{ $value }} replicas of {{ $labels.application }}/{{ $labels.deployment }} are not healthy",
            "rvtop attach URL: screen 1 (live), the panel of Serve: ○ are wanted, ● healthy.",
        ),
        Rule("RvtopGpuLost", _missing(dcgm), "{{ $value }} GPUs of {{ $labels.Hostname }} are gone", gpu),
        Rule("RvtopRayGpuLost", _missing(ray), "{{ $value }} GPUs of node {{ $labels.ip }} are gone", gpu),
    )  # fmt: skip


def _missing(count: str) -> str:
    """How many fewer there are now than at most in the last MEMORY: also where none are left."""
    most = f"max_over_time(({count})[{MEMORY}:])"
    return f"{most} - ({count} or 0 * {most}) > 0"
