"""What the screen, the plain lines and a replay read: one frozen picture of the session, ten a second.

Every figure is a plain number or ``None``; ``None`` is drawn as ``--`` and never as 0. Durations are
milliseconds, memory is bytes, rates are per second, shares are 0..1 unless a field says otherwise.
Nothing here knows of sockets or Textual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rvtop.contract.arms import Arm
from rvtop.contract.cluster import Cluster
from rvtop.contract.pairs import Pairs
from rvtop.contract.placement import Placement
from rvtop.contract.replicas import Replicas
from rvtop.contract.requests import NO_REQUESTS, Requests
from rvtop.contract.showdown import Showdown
from rvtop.contract.spending import Spending
from rvtop.contract.stages import Stage
from rvtop.contract.tasks import Tasks
from rvtop.stats.comb import Comb
from rvtop.stats.distribution import EMPTY, Distribution
from rvtop.stats.kv_map import KvMap
from rvtop.stats.saturation import Saturation
from rvtop.stats.verdict_said import Verdict

#: Session states, in the order they are passed through; those of a session that has ended.
OVER = ("done", "lost", "failed", "crashed")
STATES = ("starting", "watching", "running", "paused", "draining", *OVER)


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load."""

    url: str
    topology: str | None  # baseline | rac | rsc | rvc; None: a server we only attached to
    models: tuple[str, ...]
    engine: str | None = None  # "vllm", "hf", … as far as its metrics show it
    owned: bool = False  # started by this session, so ended by it too
    dashboard: str = ""  # URL of Ray's dashboard, where it is known
    start: tuple[str, ...] = ()  # of one that is owned: the words of a command line that start it


@dataclass(frozen=True, slots=True)
class Phase:
    """The scenario phase that runs now; a hand-driven session has one endless phase called ``live``."""

    name: str
    index: int  # 0-based
    count: int
    elapsed_s: float
    duration_s: float | None  # None: endless
    warmup: bool = False
    concurrency: int = 0  # of a closed loop, which has no rate; 0: arrivals at a rate


@dataclass(frozen=True, slots=True)
class Load:
    """What was commanded and what came of it. Rates are means over the last 2 s."""

    target_rps: float | None = None  # commanded now (0 while paused)
    offered_rps: float | None = None  # intended by the plan
    sent_rps: float | None = None
    completed_rps: float | None = None
    in_flight: int = 0
    sent: int = 0
    ok: int = 0
    errors: tuple[tuple[str, int], ...] = ()  # (class, count), most first, since the start
    errors_recent: int = 0  # in the last 10 s
    dropped: int = 0
    lag_p99_ms: float | None = None  # late sends, last 10 s
    goodput_rps: float | None = None  # requests a second that meet the SLO, last 10 s; None without one
    client_limited: str | None = None  # why the client distorts the figures; None: it does not
    max_rate: float | None = None
    due: int = 0  # arrivals that the plan has had so far, sent or not


@dataclass(frozen=True, slots=True)
class Dist:
    """One latency: ``now`` is the mean of the last second, p50..p99 cover the last 10 s."""

    now: float | None = None
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    phase_p99: float | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class ServerHist:
    """A histogram in the server's own buckets over the last 10 s (Prometheus ``le``, differences).

    ``le_ms`` are ascending upper edges in ms, the last may be inf; ``counts`` are per bucket (not
    cumulative), same length. Percentiles from it are interpolated estimates and are shown as such.
    """

    le_ms: tuple[float, ...]
    counts: tuple[float, ...]
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None

    @property
    def count(self) -> float:
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Latency:
    """CLIENT figures from the load, SERVER figures from the server's own metrics."""

    ttft: Dist = Dist()
    itl: Dist = Dist()
    e2e: Dist = Dist()
    ttft_recent: Distribution = EMPTY  # last 10 s
    ttft_phase: Distribution = EMPTY  # since the phase began
    itl_is_chunks: bool = False  # chunks are not tokens here: call it inter-chunk latency
    server_ttft: ServerHist | None = None
    server_itl: ServerHist | None = None
    server_e2e: ServerHist | None = None
    whole_recent: Distribution = EMPTY  # E2E of the last 10 s, where answers come in one piece …
    whole_phase: Distribution = EMPTY  # … and since the phase began: they have no TTFT


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output tokens. ``estimated``: live count from chunks scaled by the usage-to-chunk ratio (``~``)."""

    per_s: float | None = None  # client side, last second
    max_per_s: float | None = None
    total: int = 0
    estimated: bool = True
    server_per_s: float | None = None  # growth of the server's own generation counter


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, from its metrics. The fields of figures have their keys in ``contract.figures``; those that
    have no field are in ``figures``, by key (``key/value`` where a label splits them)."""

    name: str
    node: str | None = None
    model: str | None = None
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None  # 0..1
    kv_bytes: float | None = None  # Hugging Face engines: bytes held by live sequences
    preemptions: float | None = None  # since we began to watch
    prefix_hit_rate: float | None = None  # 0..1, since we began to watch
    stale_s: float | None = None  # seconds since the source last answered; None: it is fresh
    figures: Mapping[str, float] = field(default_factory=dict)
    max_seqs: float | None = None  # places in its batch, where the server tells
    most_running: float | None = None  # the largest batch since we began to watch
    tokens_per_s: float | None = None  # growth of its own generation counter
    ttft_ms: float | None = (
        None  # its own mean of the first tokens since the look before; None: there were none
    )


#: A GPU that is busy for a smaller share of a second than this is idle.
IDLE_UTIL = 0.05


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, from NVML, DCGM or Ray. Bytes; ``util`` 0..1. ``idle_share``, 0..1: of the seconds in which
    requests were in flight, how many found it idle (``util`` below ``IDLE_UTIL``). Its energy since we began
    to watch: ``joules`` by its counter or else by its power, ``joules_integrated`` by its power alone,
    ``joules_by`` which of the two, ``power_gap_s`` the seconds that ``joules`` leaves out."""

    node: str
    index: int
    name: str
    memory_used: float | None = None
    memory_total: float | None = None
    util: float | None = None
    stale_s: float | None = None
    idle_share: float | None = None
    watts: float | None = None
    joules: float | None = None
    joules_integrated: float | None = None
    joules_by: str = ""
    power_gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a Ray cluster: ``cpu`` 0..1 of all its cores, memory in bytes."""

    name: str
    cpu: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    stale_s: float | None = None


@dataclass(frozen=True, slots=True)
class ServeDeployment:
    """One deployment of Ray Serve. ``latency_ms``: mean time inside a replica over the last 20 s, an estimate
    from Serve's buckets. ``starts``: of replicas, since it began. Of `@serve.batch`: ``batch_size`` is
    answered requests over batches, ``batch_wait_ms`` the mean time that filled one, an estimate too."""

    name: str  # application/deployment
    replicas: float | None = None  # healthy ones
    target_replicas: float | None = None
    ongoing: float | None = None  # requests inside replicas
    queued: float | None = None  # requests that wait in Serve's routers
    latency_ms: float | None = None
    starts: float | None = None
    batch_size: float | None = None
    batch_wait_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A telemetry source and how fresh it is."""

    name: str  # "metrics", "nvml", "dcgm", …
    state: str  # "ok" | "stale" | "absent"
    detail: str = ""  # one short line when it is not ok
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """History for the charts: one point a second, oldest first, at most 600; ``None`` is a gap.

    All tuples have the same length as ``t_s`` (seconds since the session's start).
    """

    t_s: tuple[float, ...] = ()
    target_rps: tuple[float | None, ...] = ()
    completed_rps: tuple[float | None, ...] = ()
    tokens_per_s: tuple[float | None, ...] = ()
    server_tokens_per_s: tuple[float | None, ...] = ()
    in_flight: tuple[float | None, ...] = ()
    ttft_p50_ms: tuple[float | None, ...] = ()
    ttft_p99_ms: tuple[float | None, ...] = ()
    kv_usage: tuple[float | None, ...] = ()  # mean over engines, 0..1
    running: tuple[float | None, ...] = ()  # sum over engines
    waiting: tuple[float | None, ...] = ()  # sum over engines
    gpu_memory: tuple[float | None, ...] = ()  # used share over all GPUs, 0..1
    gpu_util_min: tuple[float | None, ...] = ()  # of the GPU that is used least, 0..1
    gpu_util_max: tuple[float | None, ...] = ()  # of the one that is used most
    node_cpu_min: tuple[float | None, ...] = ()  # of the machines, likewise
    node_cpu_max: tuple[float | None, ...] = ()
    preemptions: tuple[float | None, ...] = ()  # sum over engines since we began to watch
    watts: tuple[float | None, ...] = ()  # of all GPUs together; where there is none, of the processors
    replicas_wanted: tuple[float | None, ...] = ()  # of all models that are scaled
    replicas_starting: tuple[float | None, ...] = ()
    replicas_healthy: tuple[float | None, ...] = ()
    replicas_draining: tuple[float | None, ...] = ()
    whole_p50_ms: tuple[float | None, ...] = ()  # E2E of answers in one piece, which have no TTFT
    whole_p99_ms: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the event strip. ``level``: info | warn | error; ``kind``: what it is about (rate, pause,
    phase, mark, worker, target, source, search, slo, command, placement; "note" for all else)."""

    unix_s: float
    text: str
    level: str = "info"
    kind: str = "note"
    t_s: float | None = None  # since the session's start


@dataclass(frozen=True, slots=True)
class StartStep:
    """One step of starting a backend. ``state``: wait | run | done | fail; ``elapsed_s`` so far or in all.
    ``expected_s``: how long it took in the last starts of this kind, None where none is known. ``log``: of a
    step that failed, the last lines of the backend's log."""

    name: str
    state: str
    elapsed_s: float | None = None
    detail: str = ""
    expected_s: float | None = None
    log: tuple[str, ...] = ()

    @property
    def is_late(self) -> bool:
        """Whether it runs for more than twice the time that it was expected to take."""
        expected, so_far = self.expected_s, self.elapsed_s
        return self.state == "run" and expected is not None and so_far is not None and so_far > 2 * expected


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    """A phase of the plan: when it begins (seconds from the first one's beginning; as it was, or as it is to
    be) and how long its arrivals take. Rates: at its beginning and the highest, None where it has none."""

    name: str
    begins_s: float
    lasts_s: float
    from_rps: float | None = None
    most_rps: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan over time. ``rates``: the highest planned rate in each of so many equal parts of ``total_s``,
    None where none is planned. ``t0_s`` is when the first phase began, as ``Series.t_s`` counts."""

    total_s: float
    t0_s: float
    phases: tuple[PlannedPhase, ...] = ()
    rates: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Switch:
    """The load is on its way to another server, or the start of that one failed and the load ``waits``.
    ``what`` is what happens now, in a word or two; ``steps`` of a Snapshot are those of this start."""

    to: str
    what: str
    since_s: float
    paused: bool = False  # nothing is sent until it is over
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Probes:
    """One-token requests beside the load, ``rate_rps`` of them a second; they are in no figure of the load.
    Errors as of ``Load``."""

    rate_rps: float
    ttft: Dist = Dist()
    sent: int = 0
    ok: int = 0
    in_flight: int = 0
    errors: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole picture. Immutable; two equal ``seq`` are the same picture."""

    seq: int
    t_s: float  # since the session's start
    unix_s: float
    state: str  # one of STATES
    name: str  # scenario's name, or "live"
    target: Target
    phase: Phase | None = None
    load: Load = Load()
    latency: Latency = Latency()
    tokens: Tokens = Tokens()
    engines: tuple[Engine, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    sources: tuple[SourceStatus, ...] = ()
    series: Series = Series()
    events: tuple[Event, ...] = ()  # newest last, at most 200
    steps: tuple[StartStep, ...] = ()  # while starting
    slo_ttft_ms: float | None = None
    slo_e2e_ms: float | None = None
    out_dir: str | None = None
    nodes: tuple[Node, ...] = ()  # machines of a Ray cluster
    deployments: tuple[ServeDeployment, ...] = ()  # Ray Serve's
    message: str = ""  # why it failed or ended, one line
    figures: Mapping[str, float] = field(default_factory=dict)  # of all engines together, as Engine.figures
    target_down_s: float | None = None  # since the target last answered, while it does not answer
    requests: Requests = NO_REQUESTS  # the slowest and the failed
    switch: Switch | None = None  # to another server, while it is under way or waits
    standby: tuple[Target, ...] = ()  # further servers of ours that are up
    backend_log: str = ""  # the log of the server of ours that starts, or of the one that is loaded
    plan: Plan | None = None  # of a scenario: what is to come
    plan_s: float | None = None  # since its first phase began
    recording_s: float | None = None  # how long a recording goes on; None: nothing is recorded
    recording_unnamed: bool = False  # it was given no name
    showdown: Showdown | None = None  # where this session is one of several that are compared
    comb: Comb | None = None  # where tokens come in lumps
    kv_map: KvMap | None = None  # what is in the engines' prefix caches, where they publish it
    spending: Spending | None = None  # where power is told, or a price is set
    verdict: Verdict | None = None  # what binds it, while there is load
    pairs: Pairs | None = None  # where each request goes to two servers
    probes: Probes | None = None  # where there are some
    replicas: tuple[Replicas, ...] = ()  # of models that are scaled
    saturation: Saturation | None = None  # while load is above what the server can answer
    arms: tuple[Arm, ...] = ()  # models behind one name, where the server has some
    placement: Placement | None = None  # where a plan says how many replicas each model has
    stages: tuple[Stage, ...] = ()  # that a request passes, where the server is a graph of them
    cluster: Cluster | None = None  # where a backend of ours tells of the one that it is in
    tasks: Tasks | None = None  # where the workload has tasks of agents
