"""How each figure of a verdict is written, and its numbers for a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rvtop.stats.limits import CPU_LIMIT
from rvtop.stats.verdict_figures import Figures
from rvtop.text import digits, percent

Told = tuple[str, dict[str, float]]


def _numbers(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _ttft(f: Figures) -> Told:
    text = f"TTFT {digits(f.ttft_ms)} = engine {digits(f.inside_ms)} + outside {digits(f.outside_ms)} ms"
    return text, _numbers(ttft_ms=f.ttft_ms, outside_ms=f.outside_ms)


def _batch(f: Figures) -> Told:
    text = f"batch {digits(f.running)}" + ("" if f.places is None else f"/{f.places:.0f}")
    return text, _numbers(running=f.running, places=f.places)


def _flat(f: Figures) -> Told:
    text = f"batch at its most, {digits(f.most_running)}, for {percent(f.flat)} of the time"
    return text, _numbers(running=f.running, flat=f.flat)


def _wait(f: Figures) -> Told:
    return f"wait {digits(f.waiting)}", _numbers(waiting=f.waiting)


def _queue(f: Figures) -> Told:
    if f.queued is None:  # requests wait in engines alone
        return _batch(f)
    return f"Serve's queue {digits(f.queued)}", _numbers(queued=f.queued)


def _ongoing(f: Figures) -> Told:
    most = max(f.deployments, key=lambda one: one.queued or 0.0, default=None)
    if most is None:
        return "ongoing --", {}
    among = "" if most.replicas is None else f" in {digits(most.replicas)}"
    text = f"{most.name.rpartition('/')[2]} ongoing {digits(most.ongoing)}{among}"
    return text, _numbers(ongoing=most.ongoing, replicas=most.replicas)


def _replicas(f: Figures) -> Told:
    less = [one for one in f.deployments if one.wanted is not None and one.replicas is not None]
    most = max(less, key=lambda one: (one.wanted or 0.0) - (one.replicas or 0.0), default=None)
    if most is None:
        return "replicas --", {}
    text = f"{most.name.rpartition('/')[2]} {digits(most.replicas)} of {digits(most.wanted)} replicas"
    return text, _numbers(replicas=most.replicas, wanted=most.wanted)


def _kv_text(f: Figures) -> Told:
    return f"KV {percent(f.kv)}", _numbers(kv=f.kv)


def _preempts(f: Figures) -> Told:
    return f"preempt {digits(f.preempts)}/min", _numbers(preemptions_a_minute=f.preempts)


def _steps(f: Figures) -> Told:
    of = f" of {f.step_most:.0f}" if f.step_most else ""
    return f"{digits(f.step)}{of} tokens a step", _numbers(step_tokens=f.step, step_tokens_most=f.step_most)


def _prompts(f: Figures) -> Told:
    return f"prompts {digits(f.prompt_tps)} tok/s", _numbers(prompt_tokens_per_s=f.prompt_tps)


def _itl(f: Figures) -> Told:
    was = "" if f.lower is None else f", {digits(f.lower[1])} at batch {digits(f.lower[0])}"
    before = f.lower[1] if f.lower else None
    return f"ITL {digits(f.itl_ms)} ms{was}", _numbers(itl_ms=f.itl_ms, itl_before_ms=before)


def _gpu(f: Figures) -> Told:
    if f.gpu is None:
        return "no GPU told", {}
    return f"GPU {percent(f.gpu)}", _numbers(gpu_util=f.gpu)


def _lag(f: Figures) -> Told:
    return f"late sends p99 {digits(f.lag_ms)} ms", _numbers(lag_p99_ms=f.lag_ms)


def _cpu(f: Figures) -> Told:
    """What keeps the load workers: a core that is used up, else the delay of their event loops."""
    if f.loop_ms is not None and (f.worker_cpu or 0.0) <= CPU_LIMIT:
        return f"event loop blocked {digits(f.loop_ms)} ms", _numbers(
            loop_lag_ms=f.loop_ms, worker_cpu=f.worker_cpu
        )
    return f"worker {percent(f.worker_cpu)} of a core", _numbers(worker_cpu=f.worker_cpu)


def _client_ttft(f: Figures) -> Told:
    return f"TTFT {digits(f.ttft_ms)} ms", _numbers(ttft_ms=f.ttft_ms)


def _comb(f: Figures) -> Told:
    if f.comb_ms is None:
        return "no lumps of tokens", {}
    return f"lumps of tokens every {digits(f.comb_ms)} ms", _numbers(comb_ms=f.comb_ms)


def _engine_wait(f: Figures) -> Told:
    found = f.worst_engine
    if found is None:
        return "one engine", {}
    worst, others, _ = found
    text = f"{worst.name}: wait {digits(worst.waiting)}, others {digits(others)}"
    return text, _numbers(waiting=worst.waiting, others_waiting=others)


def _engine_ttft(f: Figures) -> Told:
    found = f.worst_engine
    if found is None:
        return "TTFT --", {}
    worst, _, others = found
    text = f"its TTFT {digits(worst.ttft_ms)} ms, others {digits(others or None)}"
    return text, _numbers(engine_ttft_ms=worst.ttft_ms, others_ttft_ms=others or None)


def _served(f: Figures) -> Told:
    asked = "" if f.target_rps is None else f" of {digits(f.target_rps)}"
    return f"served {digits(f.completed_rps)}{asked} rps", _numbers(completed_rps=f.completed_rps)


#: How each figure of a verdict is written, and its numbers for ``findings``.
TOLD: Mapping[str, Callable[[Figures], Told]] = {
    "ttft": _ttft,
    "batch": _batch,
    "flat": _flat,
    "wait": _wait,
    "queue": _queue,
    "ongoing": _ongoing,
    "replicas": _replicas,
    "kv": _kv_text,
    "preempts": _preempts,
    "steps": _steps,
    "prompts": _prompts,
    "itl": _itl,
    "gpu": _gpu,
    "lag": _lag,
    "cpu": _cpu,
    "client ttft": _client_ttft,
    "comb": _comb,
    "engine wait": _engine_wait,
    "engine ttft": _engine_ttft,
    "served": _served,
}
