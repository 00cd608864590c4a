"""``rvtop size``: memory, batch, replicas, GPUs and cost of a model at a load. Pure, but for its table.

Every line of the answer has its formula and where it is from. What only a run can tell (how near an engine
comes to a GPU's bandwidth) is a measured profile or a stated assumption.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.deploy.model_files import BYTES, ModelSize
from rvtop.deploy.service_time import Estimate, Load, ServiceTime, allowed

#: Share of a GPU's bandwidth that decoding and of its FLOPS that prefill reach, where no run says: an
#: assumption, which a --profile replaces.
BANDWIDTH_SHARE, FLOPS_SHARE = 0.6, 0.4
#: What a step takes beside reading, on an H200: the shortest TPOT of rvc there, 1.8 ms, less the weights of
#: its 1.5 B parameters at that bandwidth (docs/results/h200/paper-rvc.summary.json).
STEP_S = 0.75e-3
#: Tokens in one step of vLLM's scheduler (max_num_batched_tokens), which bounds what activations take.
BATCHED_TOKENS = 8192
#: Live activations in a layer, in vectors of the hidden size: input, residual, QKV, the MLP's two halves.
_LIVE_VECTORS = 12
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """``memory`` bytes, ``bandwidth`` bytes a second, ``flops`` of the dense 16-bit units a second."""

    name: str
    memory: float
    bandwidth: float
    flops: float
    source: str


def gpus() -> dict[str, Gpu]:
    """The shipped table."""
    table: dict[str, Any] = json.loads(Path(__file__).with_name("gpus.json").read_text("utf-8"))
    return {
        name: Gpu(
            name, row["memory_gb"] * 1e9, row["bandwidth_gbps"] * 1e9, row["tflops"] * 1e12, row["source"]
        )
        for name, row in table.items()
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sized. ``tokens_in`` and ``tokens_out`` of a request; ``slo`` in ms by the names of
    ``service_time.FIGURES``; ``tensor_parallel`` GPUs share a replica; ``utilisation``: the share of a GPU
    that the engine takes (vLLM's gpu_memory_utilization); ``most``: its max_num_seqs."""

    rps: float
    tokens_in: int
    tokens_out: int
    slo: Mapping[str, float]
    dtype: str
    kv_dtype: str
    tensor_parallel: int = 1
    utilisation: float = 0.9
    most: int = 256
    variation: float = 0.0
    price: float | None = None
    ray_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer; ``value`` None where it is not known."""

    name: str
    value: float | None
    unit: str
    formula: str


@dataclass(frozen=True, slots=True)
class Sized:
    """The answer. ``why``: what stands in the way, empty where it fits."""

    lines: tuple[Line, ...]
    at: Estimate | None
    replicas: int | None
    why: str = ""

    def value(self, name: str) -> float | None:
        """A line's value. Raises StopIteration."""
        return next(line.value for line in self.lines if line.name == name)


def weights_bytes(model: ModelSize, dtype: str) -> float:
    """Weights as an engine holds them in ``dtype``."""
    return model.weights if dtype == model.dtype else model.parameters * BYTES[dtype]


def roofline(model: ModelSize, gpu: Gpu, asked: Asked) -> ServiceTime:
    """Service times by the GPU's bandwidth (decode) and FLOPS (prefill)."""
    share = asked.tensor_parallel
    bandwidth = gpu.bandwidth * BANDWIDTH_SHARE * share
    flops = gpu.flops * FLOPS_SHARE * share
    context = asked.tokens_in + asked.tokens_out / 2
    prefill = 2 * model.parameters * asked.tokens_in / flops
    step = STEP_S + weights_bytes(model, asked.dtype) / bandwidth
    # A sequence's keys and values are read in each step; between steps others' prefills take their time.
    sequence = context * model.kv_bytes(asked.kv_dtype) / bandwidth + prefill / max(asked.tokens_out, 1)
    source = (
        f"roofline: {BANDWIDTH_SHARE:.0%} of {gpu.bandwidth / 1e12:g} TB/s, {FLOPS_SHARE:.0%} of "
        f"{gpu.flops / 1e12:g} TFLOPS (assumed; --profile RUN measures them)"
    )
    return ServiceTime(prefill, step, sequence, source)


def size(model: ModelSize, gpu: Gpu, asked: Asked, service: ServiceTime | None = None) -> Sized:
    """What the load needs. ``service``: measured times; without, the roofline's."""
    service = service or roofline(model, gpu, asked)
    share = asked.tensor_parallel
    weights = weights_bytes(model, asked.dtype) / share
    activations = BATCHED_TOKENS * model.hidden * _LIVE_VECTORS * BYTES[asked.dtype] / share
    kv_token = model.kv_bytes(asked.kv_dtype) / min(share, model.kv_heads)
    room = gpu.memory * asked.utilisation - weights - activations
    tokens = max(0, math.floor(room / kv_token))
    slots = min(asked.most, tokens // (asked.tokens_in + asked.tokens_out))
    lines = [
        Line("parameters", model.parameters, "count", "all tensors of the safetensors headers"),
        Line("weights", weights, "bytes",
             f"parameters × {BYTES[asked.dtype]} bytes ({asked.dtype}) / {share} GPU"),
        Line("KV per token", kv_token, "bytes",
             f"2 × {model.layers} layers × {model.kv_heads} KV heads × {model.head_dim} × "
             f"{BYTES[asked.kv_dtype]} bytes / {min(share, model.kv_heads)} (PagedAttention, SOSP 2023)"),
        Line("activations", activations, "bytes",
             f"{BATCHED_TOKENS} tokens a step × hidden {model.hidden} × {_LIVE_VECTORS} live vectors "
             "(estimate)"),
        Line("room for KV", max(room, 0), "bytes",
             f"{asked.utilisation:g} × {gpu.memory / 1e9:g} GB ({gpu.source}) − weights − activations"),
        Line("KV tokens", tokens, "count", "room for KV / KV per token"),
        Line("batch that fits", slots, "count",
             f"KV tokens / ({asked.tokens_in} + {asked.tokens_out}), at most {asked.most} (max_num_seqs)"),
        Line("Ray's overhead", asked.ray_bytes, "bytes of RAM a node",
             "measured: memory of all that is not the engine (rvtop choose)"),
        Line("prefill", service.prefill_s, "s", service.source),
        Line("step, empty batch", service.step_s, "s", service.source),
        Line("step, each sequence", service.sequence_s, "s", service.source),
    ]  # fmt: skip
    if slots < 1:
        why = f"no request of {asked.tokens_in} + {asked.tokens_out} tokens fits beside the weights"
        return Sized(tuple(lines), None, None, f"{why}: more GPUs a replica (--tp), or a larger GPU")
    load = Load(asked.tokens_out, asked.variation)
    at = allowed(slots, service, load, asked.slo)
    if at is None or at.rps <= 0:
        idle = f"{1000 * service.prefill_s:.0f} ms TTFT, {1000 * service.step(0):.1f} ms TPOT"
        return Sized(
            tuple(lines), None, None, f"an idle server misses the SLO ({idle}): a faster GPU, or --tp"
        )
    replicas = max(1, math.ceil(asked.rps / at.rps))
    cost = None if asked.price is None else asked.price * replicas * share
    a_million = None if cost is None else cost / 3600 / (asked.rps * asked.tokens_out) * 1e6
    lines += [
        Line("rate a replica", at.rps, "requests/s",
             "the highest rate that holds the SLO: Little's law for the batch, Erlang's C for the wait"),
        Line("batch at that rate", at.batch, "count", "b = rate × service time of b (Little)"),
        Line("TTFT p99 there", at.ttft_p99, "s", "wait for a slot (Erlang's C, Allen-Cunneen) + prefill"),
        Line("TPOT there", at.tpot_mean, "s", "step + b × each sequence"),
        Line("replicas", replicas, "count", f"{asked.rps:g} requests/s / rate a replica"),
        Line("GPUs", replicas * share, "count", f"replicas × {share}"),
        Line("cost an hour", cost, "money", "GPUs × price of a GPU hour"),
        Line("cost a million output tokens", a_million, "money",
             "cost an hour / (3600 × rate × output tokens)"),
    ]  # fmt: skip
    return Sized(tuple(lines), at, replicas)


def measured(runs: Sequence[Mapping[str, Any]]) -> ServiceTime:
    """Service times from summaries of runs of the same server: one gives its step at one batch, several at
    different rates the line through them (least squares). Raises ValueError where a run has no latencies."""
    points = []
    prefill = []
    for summary in runs:
        try:
            rps = summary["rate"]["completed_rps"]
            decode = (summary["e2e_ms"]["mean"] - summary["ttft_ms"]["mean"]) / 1e3
            tpot = summary["tpot_ms"]["mean"] / 1e3
            prefills = (summary.get("server") or {}).get("prefill_time_ms_mean")
            prefill.append((prefills or summary["ttft_service_ms"]["p50"]) / 1e3)
        except (KeyError, TypeError):
            raise ValueError("it has no TTFT, TPOT or E2E") from None
        points.append((rps * (decode + prefill[-1]), tpot))
    batch, tpots = [b for b, _ in points], [t for _, t in points]
    mean_b, mean_t = sum(batch) / len(batch), sum(tpots) / len(tpots)
    spread = sum((b - mean_b) ** 2 for b in batch)
    slope = (
        sum((b - mean_b) * (t - mean_t) for b, t in points) / spread if len(runs) > 1 and spread > 0 else 0.0
    )
    slope = max(0.0, slope)
    batches = ", ".join(f"{b:.1f}" for b in batch)
    told = f"measured: {len(runs)} run{'s' * (len(runs) > 1)} at a batch of {batches}"
    return ServiceTime(min(prefill), max(0.0, mean_t - slope * mean_b), slope, told)
