"""Which series of a metrics page is which figure: of engines (``NAMES``, from the table in
``rvtop.contract.figures``), and of a Ray cluster's nodes, GPUs and Serve (``RAY_TABLE``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rvtop.contract.figures import FIGURES, Combine, Figure

#: What stands before a figure's suffix, and the kind of engine it tells of.
PREFIXES: Mapping[str, str] = {
    "vllm:": "vllm",
    "rvtop:": "hf",
    "ray_vllm_": "vllm",
    "ray_vllm:": "vllm",
    "ray_rvtop_": "hf",
    "ray_rvtop:": "hf",
}


@dataclass(frozen=True, slots=True)
class Name:
    """One series name on a page: whose it is, how much it is preferred (0 first), and for histograms
    which part. ``engine_kind``: "vllm" or "hf"."""

    figure: Figure
    rank: int
    engine_kind: str
    part: Literal["value", "bucket", "sum", "count"] = "value"


def _names(figure: Figure) -> Iterator[tuple[str, Name]]:
    for rank, suffix in enumerate(figure.suffixes if figure.kind != "info" else ()):
        for prefix, engine_kind in PREFIXES.items():
            base = prefix + suffix
            if figure.kind == "histogram":
                if figure.buckets:
                    yield f"{base}_bucket", Name(figure, rank, engine_kind, "bucket")
                yield f"{base}_sum", Name(figure, rank, engine_kind, "sum")
                yield f"{base}_count", Name(figure, rank, engine_kind, "count")
            elif figure.kind == "counter":
                # An exporter writes one or the other; with both, only _total may count.
                yield base, Name(figure, 2 * rank + 1, engine_kind)
                yield f"{base}_total", Name(figure, 2 * rank, engine_kind)
            else:
                yield base, Name(figure, rank, engine_kind)


#: Series name on a page -> what it is. A page's line whose name is not here is never parsed.
NAMES: Mapping[str, Name] = dict(pair for figure in FIGURES for pair in _names(figure))


@dataclass(frozen=True, slots=True)
class RayMetric:
    """One figure of a node, a GPU or a Serve deployment, from one series of Ray's pages.

    ``field`` is its place in NodeSample, GpuSample or DeploymentSample; ``scale`` makes our unit of Ray's.
    ``heading`` is its name on the screen, empty where it is not shown.
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
    heading: str = ""


@dataclass(frozen=True, slots=True)
class RayName:
    """One series name on Ray's pages, and how much it is preferred (0 first) where a page has both."""

    metric: RayMetric
    rank: int = 0


_MIB = 1024.0 * 1024.0

#: Names checked against pages of Ray 2.44, 2.52 and 2.60, those of GPUs against their reporter_agent.py.
RAY_TABLE: tuple[RayMetric, ...] = (
    RayMetric(
        "node", "cpu", "ray_node_cpu_utilization", "share 0..1", "Use of all cores of a node.", 0.01,
        heading="cpu",
    ),
    RayMetric(
        "node", "memory_used", "ray_node_mem_used", "bytes", "Memory in use on a node or its cgroup.",
        heading="memory",
    ),
    RayMetric("node", "memory_total", "ray_node_mem_total", "bytes", "Memory of a node or its cgroup."),
    RayMetric("gpu", "memory_used", "ray_node_gram_used", "bytes", "GPU memory in use.", _MIB),
    RayMetric("gpu", "memory_free", "ray_node_gram_available", "bytes", "GPU memory that is free.", _MIB),
    RayMetric("gpu", "util", "ray_node_gpus_utilization", "share 0..1", "Time a GPU was busy.", 0.01, "max"),
    RayMetric("gpu", "watts", "ray_node_gpu_power_milliwatts", "W", "Power of a GPU.", 1e-3, "max"),
    RayMetric(
        "deployment", "replicas", "ray_serve_deployment_replica_healthy", "replicas",
        "Replicas of a Serve deployment that pass their health check: ●.", heading="replicas ●",
    ),
    RayMetric(
        "deployment", "target_replicas", "ray_serve_autoscaling_target_replicas", "replicas",
        "Replicas that Serve wants now; those above the healthy ones are on their way: ○.", 1.0, "max",
        heading="of, ○",
    ),
    RayMetric(
        "deployment", "ongoing", "ray_serve_replica_processing_queries", "requests",
        "Requests that replicas of a Serve deployment work on now.", heading="ongoing",
    ),
    RayMetric(
        "deployment", "queued", "ray_serve_deployment_queued_queries", "requests",
        "Requests that wait in Serve's routers for a replica.", heading="queue",
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
        counter=True, heading="starts",
    ),
    RayMetric(
        "deployment", "batches", "ray_serve_batches_processed", "batches",
        "Requests in a batch of @serve.batch: answered requests over batches, last 20 s.", counter=True,
        heading="batch",
    ),
    RayMetric(
        "deployment", "batch_wait_sum_ms", "ray_serve_batch_wait_time_ms_sum", "ms",
        "Mean time in which a batch of @serve.batch was filled, last 20 s. An estimate: Ray tells buckets.",
        heading="fill ms",
    ),
    RayMetric(
        "deployment", "batch_wait_count", "ray_serve_batch_wait_time_ms_count", "batches",
        "Batches that the time of filling covers.",
    ),
    RayMetric(
        "deployment", "latency_sum_ms", "ray_serve_deployment_processing_latency_ms_sum", "ms",
        "Mean time inside replicas, last 20 s. Ray rebuilds the sum from bucket middles: it is an estimate.",
        heading="ms",
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
