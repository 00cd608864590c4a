"""The one table of server metrics, as data. The reader, the fold, the screen's help and reports read it.

``TABLE`` holds what engines tell, ``RAY_TABLE`` what a Ray cluster tells of its nodes, GPUs and Serve.

A metric has one key here and many names out there: vLLM's own (``vllm:…``), our Hugging Face engines'
(``rvtop:…``, same suffixes where the meaning is the same), and both again as Ray re-exports them
(``ray_vllm_…`` since Ray sanitises the colon, ``ray_vllm:…`` before that). Exporters add ``_total`` to
counters and ``_bucket``/``_sum``/``_count`` to histograms; the reader takes counters with and without.
Names checked against vLLM 0.29's ``v1/metrics/loggers.py``; older names stand after newer ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]
Combine = Literal["sum", "mean", "max"]

#: What stands before a metric's suffix, and the kind of engine it tells of.
PREFIXES: Mapping[str, str] = {
    "vllm:": "vllm",
    "rvtop:": "hf",
    "ray_vllm_": "vllm",
    "ray_vllm:": "vllm",
    "ray_rvtop_": "hf",
    "ray_rvtop:": "hf",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``suffixes`` are its names without prefix, the preferred first: when a page holds
    two of them for one engine (old and new during a deprecation) only the first counts.

    ``combine`` says how engines, and several series of one engine, make one figure. ``skip`` drops
    series by label: {label: values not counted}.
    """

    key: str
    kind: Kind
    suffixes: tuple[str, ...]
    unit: str
    help: str
    combine: Combine = "sum"
    skip: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name this metric may have on a page, ``_total`` included for counters."""
        ends = ("", "_total") if self.kind == "counter" else ("",)
        return tuple(f"{pre}{suffix}{end}" for suffix in self.suffixes for pre in PREFIXES for end in ends)


_NOT_OK = {"finished_reason": frozenset({"abort", "error"})}

TABLE: tuple[Metric, ...] = (
    Metric(
        "running", "gauge", ("num_requests_running",), "requests",
        "Requests that the engine computes on now: its batch.",
    ),
    Metric(
        "waiting", "gauge", ("num_requests_waiting",), "requests",
        "Requests that arrived at the engine and wait for a place in its batch.",
    ),
    Metric(
        "kv_usage", "gauge", ("kv_cache_usage_perc", "gpu_cache_usage_perc"), "share 0..1",
        "Share of the KV-cache blocks in use; near 1 requests wait or are preempted.", "mean",
    ),
    Metric(
        "kv_bytes", "gauge", ("kv_cache_bytes",), "bytes",
        "Bytes of keys and values that live sequences hold (Hugging Face engines).",
    ),
    Metric(
        "kv_capacity", "gauge", ("kv_cache_capacity_bytes",), "bytes",
        "Bytes of keys and values at full concurrency and full context (Hugging Face engines).",
    ),
    Metric(
        "alloc_reserved", "gauge", ("allocator_reserved_bytes",), "bytes",
        "Memory that the engine's allocator took from the device; above allocated it is fragmentation.",
    ),
    Metric(
        "alloc_allocated", "gauge", ("allocator_allocated_bytes",), "bytes",
        "Memory that live tensors of the engine occupy.",
    ),
    Metric(
        "generation_tokens", "counter", ("generation_tokens",), "tokens",
        "Output tokens made since the server began; its growth is the server's tokens/s.",
    ),
    Metric(
        "prompt_tokens", "counter", ("prompt_tokens",), "tokens",
        "Prompt tokens taken in since the server began, cached ones included.",
    ),
    Metric(
        "cached_tokens", "counter", ("prompt_tokens_cached",), "tokens",
        "Prompt tokens that came from the prefix cache instead of being computed.",
    ),
    Metric(
        "preemptions", "counter", ("num_preemptions",), "requests",
        "Running requests put back into the queue because the KV cache was full; they compute again.",
    ),
    Metric(
        "prefix_queries", "counter", ("prefix_cache_queries", "gpu_prefix_cache_queries"), "tokens",
        "Prompt tokens looked up in the prefix cache.",
    ),
    Metric(
        "prefix_hits", "counter", ("prefix_cache_hits", "gpu_prefix_cache_hits"), "tokens",
        "Prompt tokens found in the prefix cache; over the look-ups it is the hit rate.",
    ),
    Metric(
        "requests_ok", "counter", ("request_success",), "requests",
        "Requests that ended well (stop or length), by the server's count.", "sum", _NOT_OK,
    ),
    Metric(
        "ttft", "histogram", ("time_to_first_token_seconds",), "s",
        "Time to first token as the server sees it: from the request's arrival there, no network.",
    ),
    Metric(
        "itl", "histogram", ("inter_token_latency_seconds", "time_per_output_token_seconds"), "s",
        "Time between two tokens of one request, as the server sees it; one event a token.",
    ),
    Metric(
        "tpot", "histogram", ("request_time_per_output_token_seconds",), "s",
        "Mean time per output token after the first, one event a request.",
    ),
    Metric(
        "e2e", "histogram", ("e2e_request_latency_seconds",), "s",
        "Time from a request's arrival at the server to its last token.",
    ),
    Metric(
        "queue_time", "histogram", ("request_queue_time_seconds",), "s",
        "Time a request waited in the engine before it was first computed on.",
    ),
    Metric(
        "prefill_time", "histogram", ("request_prefill_time_seconds",), "s",
        "Time from the start of a request's computation to its first token.",
    ),
    Metric(
        "decode_time", "histogram", ("request_decode_time_seconds",), "s",
        "Time from a request's first token to its last.",
    ),
)  # fmt: skip

BY_KEY: Mapping[str, Metric] = {metric.key: metric for metric in TABLE}


@dataclass(frozen=True, slots=True)
class Name:
    """One series name on a page: whose it is, how much it is preferred (0 first), and for histograms
    which part. ``engine_kind``: "vllm" or "hf"."""

    metric: Metric
    rank: int
    engine_kind: str
    part: Literal["value", "bucket", "sum", "count"] = "value"


def _all_names() -> dict[str, Name]:
    names: dict[str, Name] = {}
    for metric in TABLE:
        for rank, suffix in enumerate(metric.suffixes):
            for prefix, engine_kind in PREFIXES.items():
                base = prefix + suffix
                if metric.kind == "histogram":
                    names[f"{base}_bucket"] = Name(metric, rank, engine_kind, "bucket")
                    names[f"{base}_sum"] = Name(metric, rank, engine_kind, "sum")
                    names[f"{base}_count"] = Name(metric, rank, engine_kind, "count")
                    continue
                names[base] = Name(metric, rank, engine_kind)
                if metric.kind == "counter":
                    # An exporter writes one or the other; with both, only _total may count.
                    names[base] = Name(metric, 2 * rank + 1, engine_kind)
                    names[f"{base}_total"] = Name(metric, 2 * rank, engine_kind)
    return names


#: Series name on a page -> what it is. A page's line whose name is not here is never parsed.
NAMES: Mapping[str, Name] = _all_names()


@dataclass(frozen=True, slots=True)
class RayMetric:
    """One figure of a node, a GPU or a Serve deployment, from one series of Ray's pages.

    ``field`` is its place in NodeSample, GpuSample or DeploymentSample; ``scale`` makes our unit of Ray's.
    ``combine`` says how several series (one per replica, handle or route) make one figure. ``counter``: some
    versions of Ray write its name with ``_total`` (2.52, 2.60), some without, some both (2.44).
    """

    of: Literal["node", "gpu", "deployment"]
    field: str
    series: str
    unit: str
    help: str
    scale: float = 1.0
    combine: Combine = "sum"
    counter: bool = False


@dataclass(frozen=True, slots=True)
class RayName:
    """One series name on Ray's pages, and how much it is preferred (0 first) where a page has both."""

    metric: RayMetric
    rank: int = 0


_MIB = 1024.0 * 1024.0

#: Names checked against pages of Ray 2.44, 2.52 and 2.60, those of GPUs against their reporter_agent.py.
RAY_TABLE: tuple[RayMetric, ...] = (
    RayMetric("node", "cpu", "ray_node_cpu_utilization", "share 0..1", "Use of all cores of a node.", 0.01),
    RayMetric("node", "memory_used", "ray_node_mem_used", "bytes", "Memory in use on a node or its cgroup."),
    RayMetric("node", "memory_total", "ray_node_mem_total", "bytes", "Memory of a node or its cgroup."),
    RayMetric("gpu", "memory_used", "ray_node_gram_used", "bytes", "GPU memory in use.", _MIB),
    RayMetric("gpu", "memory_free", "ray_node_gram_available", "bytes", "GPU memory that is free.", _MIB),
    RayMetric("gpu", "util", "ray_node_gpus_utilization", "share 0..1", "Time a GPU was busy.", 0.01, "max"),
    RayMetric(
        "deployment", "replicas", "ray_serve_deployment_replica_healthy", "replicas",
        "Replicas of a Serve deployment that pass their health check.",
    ),
    RayMetric(
        "deployment", "target_replicas", "ray_serve_autoscaling_target_replicas", "replicas",
        "Replicas that Serve wants now; above the healthy ones it is starting or replacing some.", 1.0, "max",
    ),
    RayMetric(
        "deployment", "ongoing", "ray_serve_replica_processing_queries", "requests",
        "Requests that replicas of a Serve deployment work on now.",
    ),
    RayMetric(
        "deployment", "queued", "ray_serve_deployment_queued_queries", "requests",
        "Requests that wait in Serve's routers for a replica.",
    ),
    RayMetric(
        "deployment", "requests", "ray_serve_deployment_request_counter", "requests",
        "Requests that replicas of a Serve deployment have answered.", counter=True,
    ),
    RayMetric(
        "deployment", "errors", "ray_serve_deployment_error_counter", "requests",
        "Requests that failed inside replicas of a Serve deployment.", counter=True,
    ),
    RayMetric(
        "deployment", "starts", "ray_serve_deployment_replica_starts", "replicas",
        "Replicas of a Serve deployment that have started, those in place of dead ones included.",
        counter=True,
    ),
    RayMetric(
        "deployment", "latency_sum_ms", "ray_serve_deployment_processing_latency_ms_sum", "ms",
        "Time inside replicas. Ray rebuilds the sum from bucket middles: a mean from it is an estimate.",
    ),
    RayMetric(
        "deployment", "latency_count", "ray_serve_deployment_processing_latency_ms_count", "requests",
        "Requests that the time inside replicas covers.",
    ),
)  # fmt: skip

#: Series name on a page -> what it is.
RAY_NAMES: Mapping[str, RayName] = {
    **{metric.series: RayName(metric, int(metric.counter)) for metric in RAY_TABLE},
    **{f"{metric.series}_total": RayName(metric) for metric in RAY_TABLE if metric.counter},
}
