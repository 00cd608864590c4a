"""What a telemetry source hands over each second. Plain data, picklable, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from rvtop.contract.replicas import Replicas


@dataclass(frozen=True, slots=True)
class Buckets:
    """A Prometheus histogram as exported: ``le`` ascending upper edges (seconds, last is inf) and
    cumulative counts of the same length, with the sum (seconds) and the count."""

    le: tuple[float, ...]
    cumulative: tuple[float, ...]
    sum: float
    count: float


@dataclass(frozen=True, slots=True)
class EngineSample:
    """One engine at one moment. Keys of the mappings are those of ``rvtop.contract.figures``; one with a
    label has an entry ``key/value`` for each value of it."""

    engine: str
    model: str | None = None
    node: str | None = None
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    hists: Mapping[str, Buckets] = field(default_factory=dict)
    kind: str | None = None  # "vllm" | "hf", as far as its metrics' names tell


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment: bytes, utilisation 0..1, power in W, and energy in J by its own counter since
    whenever that began."""

    node: str
    index: int
    name: str
    memory_used: float | None = None
    memory_total: float | None = None
    util: float | None = None
    watts: float | None = None
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class PackageSample:
    """One processor package at one moment: its mean power since the moment before in W, and its energy since
    we began to watch in J."""

    node: str
    index: int
    watts: float | None = None
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One machine of a cluster at one moment: ``cpu`` 0..1 of all its cores, memory in bytes."""

    node: str
    cpu: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None


@dataclass(frozen=True, slots=True)
class DeploymentSample:
    """One deployment of Ray Serve at one moment. ``replicas`` are the healthy ones; ``requests``
    (answered), ``errors``, ``starts`` of replicas, ``batches`` of `@serve.batch`, and the sums and numbers of
    latencies and of the time in which batches were filled are counters since it began."""

    name: str  # application/deployment
    replicas: float | None = None
    target_replicas: float | None = None
    ongoing: float | None = None
    queued: float | None = None
    requests: float | None = None
    errors: float | None = None
    latency_sum_ms: float | None = None
    latency_count: float | None = None
    starts: float | None = None
    batches: float | None = None
    batch_wait_sum_ms: float | None = None
    batch_wait_count: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of one source, or its failure (``error``: one short line, nothing else filled).

    An answer that holds nothing and no error says: there is nothing of the kind here (no NVIDIA driver).
    ``second_hand``: its engines may be those that another source tells of, and count only while none does.
    """

    t_ns: int  # monotonic (time.perf_counter_ns) when the answer arrived
    source: str
    engines: tuple[EngineSample, ...] = ()
    gpus: tuple[GpuSample, ...] = ()
    error: str | None = None
    nodes: tuple[NodeSample, ...] = ()
    deployments: tuple[DeploymentSample, ...] = ()
    second_hand: bool = False
    note: str = ""  # one line for the user: what of the answer was left out
    packages: tuple[PackageSample, ...] = ()
    replicas: tuple[Replicas, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it tells of nothing."""
        told = (self.engines, self.gpus, self.nodes, self.deployments, self.packages, self.replicas)
        return not any(told)


def without_meters(sample: Sample) -> Sample:
    """The sample without what differs each time: when it came, power, and energy."""
    gpus = tuple(replace(gpu, watts=None, joules=None) for gpu in sample.gpus)
    return replace(sample, t_ns=0, gpus=gpus, packages=())


class TelemetrySource(Protocol):
    """Something that can be asked once a second."""

    name: str

    async def poll(self) -> Sample:
        """Asks once. Never raises for an unreachable source: returns a Sample with ``error``."""
        ...

    async def close(self) -> None: ...
