"""Made-up snapshots with realistic shapes for the screen's tests: no clock, no random numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, lru_cache
from random import Random
from statistics import NormalDist

from rvtop.contract.arms import Arm
from rvtop.contract.command import Command
from rvtop.contract.figures import combined
from rvtop.contract.handle import Choice, SessionHandle
from rvtop.contract.replicas import Replicas
from rvtop.contract.requests import RequestRow, Requests
from rvtop.contract.showdown import COMPARED, Score, Showdown
from rvtop.contract.snapshot import (
    Dist,
    Engine,
    Event,
    Gpu,
    Latency,
    Load,
    Node,
    Phase,
    Plan,
    PlannedPhase,
    Probes,
    Series,
    ServeDeployment,
    ServerHist,
    Snapshot,
    SourceStatus,
    StartStep,
    Switch,
    Target,
    Tokens,
)
from rvtop.contract.spending import Spending
from rvtop.contract.start import GpuRow, Machine, ModelRow, Offer, RecentRow, StartFacts, UpRow
from rvtop.contract.tasks import Tasks, TaskStep
from rvtop.results.pairs import PairFold
from rvtop.stats.comb import Comb
from rvtop.stats.histogram import Histogram
from rvtop.stats.saturation import Saturation, Slope
from rvtop.stats.typical import Typical, split_ttft
from rvtop.stats.verdict_said import Judged, Verdict
from tests.pair_rows import same_then_both

START = 1_760_000_000.0  # Unix time of the made-up session's start
GIB = float(1 << 30)
VLLM_TTFT_MS = (
    1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, math.inf,
)  # fmt: skip


@cache
def normal_quantiles(n: int) -> tuple[float, ...]:
    """``n`` even quantiles of the normal distribution. Most of the time of a made-up snapshot went here."""
    normal = NormalDist()
    return tuple(normal.inv_cdf((i + 0.5) / n) for i in range(n))


@lru_cache(256)
def lognormal_ns(median_ms: float, sigma: float, n: int) -> tuple[int, ...]:
    """``n`` even quantiles of a lognormal distribution, nanoseconds."""
    return tuple(int(1e6 * median_ms * math.exp(sigma * z)) for z in normal_quantiles(n))


def dist(ns: tuple[int, ...], phase_ns: tuple[int, ...]) -> Dist:
    """The figures of a row of the latency table."""
    h, phase = Histogram.of(ns), Histogram.of(phase_ns)
    p50, p90, p99 = (h.percentile(q) / 1e6 for q in (50, 90, 99))
    mean = h.mean_ns / 1e6
    return Dist(mean * 1.02, mean, p50, p90, p99, phase.percentile(99) / 1e6, len(ns))


def wave(t: float, period: float, phase: float = 0.0) -> float:
    """A smooth wobble in -1..1 out of two sines."""
    return 0.7 * math.sin(2 * math.pi * (t / period + phase)) + 0.3 * math.sin(
        4.6 * math.pi * (t / period + phase)
    )


def rate_at(t: float) -> float:
    """The commanded rate of the made-up session: a climb to 48 in a minute, then a hold."""
    return min(48.0, 4.0 + 44.0 * max(0.0, t - 5) / 60.0)


def kv_at(t: float) -> float:
    """KV-cache use: follows the rate late, with a wobble."""
    return min(1.0, max(0.0, 0.02 + 0.013 * rate_at(t - 8) + 0.03 * wave(t, 17)))


def series(t: float) -> Series:
    """History up to ``t``, one point a second, the oldest of at most 600 first."""
    ts = tuple(float(i) for i in range(max(0, int(t) - 599), int(t) + 1))
    target = tuple(rate_at(x) for x in ts)
    done = tuple(max(0.0, rate_at(x - 2) * (1 + 0.04 * wave(x, 9))) for x in ts)
    tokens = tuple(d * 247.0 for d in done)
    kv = tuple(kv_at(x) for x in ts)
    return Series(
        t_s=ts,
        target_rps=target,
        completed_rps=done,
        tokens_per_s=tokens,
        server_tokens_per_s=tuple(v * 1.04 for v in tokens),
        in_flight=tuple(d * 0.85 for d in done),
        ttft_p50_ms=tuple(25 + 0.2 * d for d in done),
        ttft_p99_ms=tuple(60 + 1.1 * d for d in done),
        kv_usage=kv,
        running=tuple(round(k * 60.0) * 1.0 for k in kv),
        waiting=tuple(float(max(0, round(90 * (k - 0.6)))) for k in kv),
        gpu_memory=tuple(0.69 for _ in ts),
        gpu_util_min=tuple(min(1.0, 0.1 + 0.015 * d) for d in done),
        gpu_util_max=tuple(min(1.0, 0.2 + 0.016 * d) for d in done),
        node_cpu_min=tuple(None for _ in ts),
        node_cpu_max=tuple(None for _ in ts),
        preemptions=tuple(0.0 for _ in ts),
        watts=tuple(None for _ in ts),
        replicas_wanted=tuple(None for _ in ts),
        replicas_starting=tuple(None for _ in ts),
        replicas_healthy=tuple(None for _ in ts),
        replicas_draining=tuple(None for _ in ts),
        whole_p50_ms=tuple(None for _ in ts),
        whole_p99_ms=tuple(None for _ in ts),
    )


def engines(t: float, n: int = 3) -> tuple[Engine, ...]:
    made = []
    for i in range(n):
        kv = min(1.0, max(0.0, kv_at(t) * (1.02 - 0.05 * i) + 0.02 * wave(t, 7, i / 5)))
        made.append(
            Engine(
                name=f"e{i}",
                node=f"n{1 + i // 2}:{i % 2}",
                model=("q3b", "q15b")[i % 2],
                running=float(round(kv * 34)),
                waiting=float(max(0, round(40 * (kv - 0.6)))),
                kv_usage=kv,
                preemptions=float(max(0, i - 2)),
                prefix_hit_rate=0.31,
                ttft_ms=26.0 + 40.0 * max(0.0, kv - 0.5) + 6.0 * wave(t, 5, i / 3),
            )
        )
    return tuple(made)


def together(made: tuple[Engine, ...]) -> dict[str, float]:
    """The figures of all engines together, as the session tells them."""
    names = ("running", "waiting", "kv_usage", "preemptions")
    fresh = [engine for engine in made if engine.stale_s is None]
    told = [{name: getattr(engine, name) for name in names} for engine in fresh]
    figures = combined([{name: value for name, value in each.items() if value is not None} for each in told])
    if any(engine.prefix_hit_rate is not None for engine in fresh):
        figures["prefix_hit_rate"] = 0.31
    split = {"waiting_by_reason/capacity": 4.0, "waiting_by_reason/deferred": 2.0}
    split |= {
        "prompt_tokens_by_source/local_compute": 690.0,
        "prompt_tokens_by_source/local_cache_hit": 310.0,
    }
    return (
        {**figures, **split, "queue_time": 12.4, "prefill_time": 23.1, "decode_time": 782.0} if fresh else {}
    )


def gpus(t: float, n: int = 4) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(
            node=f"n{1 + i // 2}",
            index=i % 2,
            name="NVIDIA H200",
            memory_used=(98.0 - i) * GIB,
            memory_total=141.0 * GIB,
            util=min(1.0, max(0.0, 0.87 - 0.03 * i + 0.02 * wave(t, 5, i / 4))),
            idle_share=0.04 * i,
        )
        for i in range(n)
    )


def live(t: float = 92.0, *, seq: int | None = None) -> Snapshot:
    """A vLLM topology under load at ``t`` seconds: 48 requests a second, a queue beginning to form."""
    rps = rate_at(t)
    crowd = max(0.0, kv_at(t) - 0.55)
    recent = lognormal_ns(24 + 0.15 * rps + 60 * crowd, 0.42, max(1, int(rps * 10)))
    phase = lognormal_ns(27, 0.38, 1700) + lognormal_ns(70, 0.5, 60)
    gaps = lognormal_ns(3.0, 0.12, 2000)
    ends = lognormal_ns(820, 0.16, 480)
    done = series(t)
    sent = int(sum(done.completed_rps[i] or 0.0 for i in range(len(done.t_s)))) + 41
    return Snapshot(
        seq=int(t * 10) if seq is None else seq,
        t_s=t,
        unix_s=START + t,
        state="running",
        name="ramp-48",
        target=Target("http://127.0.0.1:8000", "rvc", ("q3b", "q15b"), "vllm", owned=True),
        phase=Phase("climb", 1, 4, t - 50, 60.0),
        load=Load(
            target_rps=rps,
            offered_rps=rps * (1 + 0.02 * wave(t, 3)),
            sent_rps=rps * (1 + 0.02 * wave(t, 3)),
            completed_rps=(done.completed_rps[-1] or 0.0),
            in_flight=int(rps * 0.85 + 3 * wave(t, 2)),
            sent=sent,
            ok=sent - 41 - 12,
            errors=(("http_429", 9), ("reset", 3)) if t > 80 else (),
            errors_recent=2 if t > 80 else 0,
            lag_p99_ms=0.41 + 0.05 * wave(t, 4),
        ),
        latency=Latency(
            ttft=dist(recent, phase),
            itl=dist(gaps, lognormal_ns(3.05, 0.15, 2000)),
            e2e=dist(ends, lognormal_ns(840, 0.18, 900)),
            ttft_recent=Histogram.of(recent).distribution(),
            ttft_phase=Histogram.of(phase + recent).distribution(),
            server_ttft=server_hist(26.0, 0.42, 480),
        ),
        tokens=Tokens(
            per_s=done.tokens_per_s[-1],
            max_per_s=max(v or 0.0 for v in done.tokens_per_s),
            total=int(sum(v or 0.0 for v in done.tokens_per_s)),
            server_per_s=done.server_tokens_per_s[-1],
        ),
        engines=engines(t),
        figures=together(engines(t)),
        gpus=gpus(t),
        sources=(SourceStatus("metrics", "ok", age_s=0.4), SourceStatus("nvml", "ok", age_s=0.4)),
        series=done,
        events=(
            Event(START + 4, "phase climb began"),
            Event(START + 61, "e2: metrics stale", "warn"),
            Event(START + 64, "e2: metrics back"),
            Event(START + 83, "http_429 from e1", "error"),
            Event(START + 88, "rate 40 → 48 rps"),
        ),
        slo_ttft_ms=200.0,
        out_dir="runs/2025-10-09-rvc-ramp-48",
    )


def powered() -> Snapshot:
    """GPUs that tell their power, one of them not, and prices in the settings."""
    s = live()
    gpus = tuple(replace(gpu, watts=412.3 - 100 * i if i != 1 else None) for i, gpu in enumerate(s.gpus))
    found = Spending(
        watts=412.3,
        watts_idle=71.0,
        measured=True,
        joules=30_000.0,
        joules_per_token=0.214,
        joules_per_request=54.7,
        money_per_hour=4.4,
        money_per_mtok=0.31,
        money_per_mtok_in=0.043,
        money_per_mtok_out=1.27,
    )
    return replace(s, gpus=gpus, spending=found)


def comb() -> Snapshot:
    """Ray Serve LLM, whose batcher gathers tokens for 50 ms."""
    s = live()
    bars = (0.855, *[0.001] * 6, 0.004, 0.01, 0.032, 0.06, 0.02, 0.006, *[0.001] * 7)
    return replace(s, target=replace(s.target, topology="rsv"), comb=Comb(50.2, 6.9, 0.855, bars))


def bound() -> Snapshot:
    """A server of ours whose batch is full."""
    verdict = Verdict(
        "batch",
        "all places of the batch are taken while the KV cache has room",
        ("batch 4/4", "wait 28", "KV 3.1 %"),
        {"running": 4.0, "places": 4.0, "waiting": 28.0, "kv": 0.031},
        "max_num_seqs 4→8",
        "max_num_seqs bounds the batch: https://docs.vllm.ai/",
        "vllm",
        ("--max-num-seqs", "8"),
        "vllm serve … --max-num-seqs 8",
        (
            Judged("client", "no", "late sends p99 0.2 ms"),
            Judged("batch", "holds", "batch 4/4"),
            Judged("decode", "unknown", "not told: the engine's ITL"),
        ),
        31.0,
    )
    s = live()
    return replace(s, target=replace(s.target, owned=True, topology="vllm"), verdict=verdict)


def saturated() -> Snapshot:
    """A load above what the server can answer, with probes beside it."""
    s = live()
    slopes = Saturation(12.4, 50.0, 40.2, Slope(9.8, 2.4), Slope(212.0, 22.0))
    ttft = Dist(now=1240.0, mean=1100.0, p50=1226.0, p90=2100.0, p99=2400.0, phase_p99=2400.0, count=10)
    return replace(s, saturation=slopes, probes=Probes(1.0, ttft, 74, 72, 1, (("timeout_ttft", 2),)))


def split() -> Snapshot:
    """One name for two versions, the new one of which fails now and then."""
    arms = (
        Arm("v1", "chat", 0.9, 0.892, True, 8123, 0, 0, 41.2, 158.0, 52.0, 1210.0, 812.0, 44.1),
        Arm("v2", "chat", 0.1, 0.108, True, 904, 12, 3, 39.8, 310.0, 60.0, 1400.0, 96.0, 4.9),
    )
    return replace(live(), arms=arms)


def agents() -> Snapshot:
    """A workload of tasks."""
    shares = (0.0, 0.62, 0.81, 0.88, 0.9, None)
    steps = tuple(TaskStep(k, 48 - k, 41.0 + k, 900.0 + 310 * k, share) for k, share in enumerate(shares))
    tasks = Tasks(42, 1, 2, 5, 12.3, 11.0, 8310.0, 14_200.0, 3120.0, 5170.0, 20.0, 412.0, steps)
    return replace(live(), tasks=tasks)


def server_hist(median_ms: float, sigma: float, n: int) -> ServerHist:
    """vLLM's own TTFT buckets for a lognormal distribution."""
    normal = NormalDist(math.log(median_ms), sigma)
    edges = [normal.cdf(math.log(le)) if math.isfinite(le) else 1.0 for le in VLLM_TTFT_MS]
    counts = [round(n * (b - a)) for a, b in zip([0.0, *edges], edges, strict=False)]
    p50, p90, p99 = (math.exp(normal.inv_cdf(q)) for q in (0.5, 0.9, 0.99))
    mean = math.exp(math.log(median_ms) + sigma**2 / 2)
    return ServerHist(VLLM_TTFT_MS, tuple(float(c) for c in counts), mean, p50, p90, p99)


def watching(t: float = 64.0) -> Snapshot:
    """Attached to a server that others load: only the server's own figures."""
    s = live(t)
    gap = ServerHist((2.0, 3.0, 4.0, 6.0, math.inf), (40.0, 5200.0, 900.0, 12.0, 0.0), 2.8, 2.6, 3.3, 4.6)
    none = tuple(None for _ in s.series.t_s)
    return replace(
        s,
        state="watching",
        name="live",
        target=Target("http://10.0.0.7:8000", None, ("Qwen2.5-3B-Instruct",), "vllm"),
        phase=Phase("live", 0, 1, t, None),
        load=Load(target_rps=0.0, offered_rps=0.0, sent_rps=0.0, completed_rps=0.0),
        latency=Latency(server_ttft=server_hist(31.0, 0.5, 350), server_itl=gap),
        tokens=Tokens(server_per_s=s.tokens.server_per_s),
        engines=(replace(s.engines[0], name="0", node=None),),
        figures=together(s.engines[:1]),
        gpus=(),
        sources=(
            SourceStatus("metrics", "ok", age_s=0.4),
            SourceStatus("nvml", "absent", "no NVIDIA driver here"),
        ),
        series=replace(
            s.series,
            target_rps=none,
            completed_rps=none,
            tokens_per_s=none,
            in_flight=none,
            ttft_p50_ms=none,
            ttft_p99_ms=none,
            gpu_memory=none,
        ),
        events=(Event(START + 1, "attached to http://10.0.0.7:8000: vLLM 0.29"),),
        slo_ttft_ms=None,
        out_dir=None,
    )


#: The end of the log of a backend that did not start.
BACKEND_LINES = (
    "INFO loading weights of q3b: file 2 of 3",
    "INFO n1:0: 1.1 GiB free of 141 GiB",
    "ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 6.2 GiB.",
    "ERROR engine e0 ended with exit code 1",
    "INFO placement group removed",
)


def late() -> Snapshot:
    """A step of its start takes longer than it ever did."""
    s = starting(60.0)
    return replace(s, steps=(*s.steps[:2], replace(s.steps[2], elapsed_s=56.5), s.steps[3]))


def starting(t: float = 12.3) -> Snapshot:
    """A backend on its way up."""
    return Snapshot(
        seq=int(t * 10),
        t_s=t,
        unix_s=START + t,
        state="starting",
        name="live",
        target=Target("", "rvc", ("q3b", "q15b"), owned=True),
        steps=(
            StartStep("Ray", "done", 3.1, "local cluster, 2 nodes"),
            StartStep("placement", "done", 0.42, "4 groups, PACK"),
            StartStep("weights", "run", 8.8, "q3b: 2 of 3 files", 11.2),
            StartStep("warm-up", "wait", expected_s=6.0),
        ),
    )


def failed(t: float = 31.0) -> Snapshot:
    """A backend that did not come up."""
    s = starting(t)
    return replace(
        s,
        state="failed",
        message="rvc did not start: CUDA out of memory while loading q3b on n1:0 (needs 6.2 GiB, "
        "1.1 GiB free). Lower VLLM_GPU_MEM_UTIL or choose a smaller model.",
        steps=(
            *s.steps[:2],
            StartStep("weights", "fail", 27.1, "CUDA out of memory", 11.2, BACKEND_LINES),
            s.steps[3],
        ),
    )


def lost(t: float = 92.0) -> Snapshot:
    """The server went away under load."""
    return replace(
        live(t),
        state="lost",
        message="the server at http://127.0.0.1:8000 refuses connections since 14:03:12",
    )


def done(t: float = 92.0) -> Snapshot:
    """A run that came to its end."""
    s = live(t)
    return replace(
        s, state="done", message="all 4 phases ran", load=replace(s.load, target_rps=0.0, in_flight=0)
    )


def stale(t: float = 92.0) -> Snapshot:
    """Under load with figures missing: one engine stale, one without a KV cache, one GPU silent."""
    s = live(t)
    e = s.engines
    kv = (*s.series.kv_usage[:-20], *(None for _ in range(20)))
    e = (
        replace(e[0], kv_usage=None, waiting=None, preemptions=None),
        replace(e[1], stale_s=6.3),
        replace(e[2], kv_usage=None, kv_bytes=1.2 * GIB),
    )
    return replace(
        s,
        engines=e,
        figures=together(e),
        gpus=(
            replace(s.gpus[0], util=None),
            replace(s.gpus[1], memory_used=None),
            replace(s.gpus[2], stale_s=31.0),
        ),
        sources=(
            SourceStatus("metrics", "stale", "timed out after 2 s", 6.3),
            SourceStatus("nvml", "ok", age_s=0.4),
        ),
        latency=replace(s.latency, itl=Dist(), itl_is_chunks=True, server_ttft=None),
        tokens=Tokens(),
        load=replace(s.load, offered_rps=None, lag_p99_ms=None),
        series=replace(s.series, kv_usage=kv, waiting=kv, server_tokens_per_s=tuple(None for _ in kv)),
    )


def crowded(t: float = 92.0) -> Snapshot:
    """More engines and GPUs than there is room for."""
    s = live(t)
    many = list(engines(t, 24))
    many[17] = replace(many[17], waiting=91.0, kv_usage=1.0, preemptions=14.0)
    many[20] = replace(many[20], stale_s=12.0)
    return replace(s, engines=tuple(many), figures=together(tuple(many)), gpus=gpus(t, 16))


def full(t: float = 92.0) -> Snapshot:
    """The end of a run of which everything is known: the tallest tables, a long message."""
    s = crowded(t)
    server = server_hist(26.0, 0.42, 480)
    return replace(
        s,
        state="lost",
        message=failed().message,
        nodes=tuple(Node(f"n{i}", i / 20, i * GIB, 64.0 * GIB) for i in range(20)),
        deployments=tuple(ServeDeployment(f"app{i}/D", 1.0, 2.0, 1.0 * i, 0.0, 5.0) for i in range(12)),
        latency=replace(s.latency, server_itl=server, server_e2e=server),
        load=replace(
            s.load,
            dropped=1234,
            max_rate=64.0,
            errors=(("http_429", 91234), ("timeout_connect", 3), ("reset", 1)),
        ),
    )


def cluster(t: float = 92.0) -> Snapshot:
    """A Ray cluster with Serve: two machines, one replica short, a queue in front of it."""
    nodes = (Node("n1", 0.38, 96.0 * GIB, 512.0 * GIB), Node("n2", 0.31, 80.0 * GIB, None))
    serve = (
        ServeDeployment("llm/OpenAiIngress", 2.0, 2.0, 45.0, 0.0, 56.1, 2.0),
        ServeDeployment("llm/LLMServer:q3b", 3.0, 4.0, 43.0, 7.0, None, 5.0),
    )
    s = live(t)
    target = replace(s.target, dashboard="http://10.0.0.7:8265")
    return replace(s, target=target, nodes=nodes, deployments=serve)


def crowded_cluster(t: float = 92.0) -> Snapshot:
    """More of everything than there is room for, under load."""
    return replace(full(t), state="running", message="")


class FakeHandle:
    """A session that shows what it was told to and keeps what it was sent."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.now = snapshot
        self.sent: list[Command] = []
        self.closed = 0
        self.looks = 0

    def snapshot(self) -> Snapshot | None:
        self.looks += 1
        return self.now

    def send(self, command: Command) -> None:
        self.sent.append(command)

    async def close(self) -> None:
        self.closed += 1


class Connecting:
    """Hands out sessions in turn, or raises; notes what was chosen."""

    def __init__(self, *answers: SessionHandle | Exception) -> None:
        self.chosen: list[Choice] = []
        self._answers = list(answers)

    async def __call__(self, choice: Choice) -> SessionHandle:
        self.chosen.append(choice)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def closed() -> Snapshot:
    """A closed loop under an SLO: no rate is commanded, and not every request is good."""
    s = live()
    assert s.phase is not None
    return replace(
        s,
        phase=replace(s.phase, name="closed", concurrency=32),
        load=replace(s.load, target_rps=None, in_flight=32, goodput_rps=41.5),
        slo_ttft_ms=60.0,
    )


def requests(told: bool = True) -> Requests:
    """What a session lists: slow ones that queued, errors, and typical parts that sum to their TTFT."""
    slowest = []
    for i in range(50):
        ttft = 301.0 * 0.965**i
        late, queue = 0.2, (ttft * 0.55 if told else None)
        prefill = 18.0 if told else None
        slowest.append(
            RequestRow(
                id=9812 + 3 * i,
                unix_s=START + 60 + i * 0.6,
                phase="climb",
                model=("q3b", "q15b")[i % 2],
                prompt=i,
                engine=f"e{i % 4}" if told else None,
                prompt_tokens=612 + i,
                cached_tokens=400 * (i % 3 > 0),
                output_tokens=256,
                ttft_ms=ttft,
                e2e_ms=ttft + 939.0 - 3 * i,
                parts=split_ttft(ttft, late, queue=queue, prefill=prefill),
                finish=("stop", "length")[i % 2],
            )
        )
    full = "admission queue is full, retry after 1 s"
    errors = tuple(
        RequestRow(9990 - i, START + 91 - i, "climb", "q3b", i, error="http_503", error_text=full)
        for i in range(4)
    )
    means = (("mean", 71.0), ("p50", 65.1), ("p99", 158.0))
    typical = tuple(
        Typical(name, ms, split_ttft(ms, 0.2, queue=ms / 5 if told else None, prefill=17.0 if told else None))
        for name, ms in means
    )
    return Requests(tuple(slowest), errors, typical, 481, 481 if told else 0)


def listing(told: bool = True) -> Snapshot:
    """Under load, with requests to list."""
    return replace(live(), requests=requests(told))


def listing_estimate() -> Snapshot:
    """The same on a server whose answers tell no parts."""
    return listing(told=False)


def mapped(t: float = 92.0, n: int = 4) -> Snapshot:
    """Engines that tell their places and tokens, one of them gone, a queue before another."""
    told = [replace(e, max_seqs=64.0, most_running=64.0) for e in engines(t, n)]
    made = [
        replace(e, node=f"n{1 + i // 4}:{i % 4}", tokens_per_s=3000.0 - 40 * i) for i, e in enumerate(told)
    ]
    made[2] = replace(made[2], stale_s=6.0)
    made[1] = replace(made[1], waiting=23.0, running=64.0)
    s = live(t)
    return replace(s, engines=tuple(made), load=replace(s.load, in_flight=150))


def switched() -> tuple[Snapshot, Snapshot]:
    """What was before a switch, Ray actors that serve one request at a time, and what is now."""
    now = mapped(94.0)
    s = mapped(92.0)
    few = tuple(
        replace(e, name=f"a{i}", running=1.0, waiting=0.0, max_seqs=1.0, tokens_per_s=29.47, stale_s=None)
        for i, e in enumerate(s.engines)
    )
    target = replace(s.target, url="http://127.0.0.1:7999", topology="rac", engine="hf")
    tokens = replace(s.tokens, per_s=118.0)
    load = replace(s.load, in_flight=1916, target_rps=96.0, completed_rps=0.5)
    return replace(s, target=target, engines=few, load=load, tokens=tokens), now


# -- the Start screen --------------------------------------------------------------------------


def nothing_known() -> StartFacts:
    """What is known before anything was looked for."""
    return replace(start_facts(), up=(), models=(), gpus=(), recent=(), machine=Machine(), complete=False)


def start_facts() -> StartFacts:
    """A head node with four GPUs, one of them free, and one server up."""
    gpu = "NVIDIA H200"
    return StartFacts(
        offers=(
            Offer("baseline", "one process", "HF generate", "one process", "a call", "--", last_start_s=9.2),
            Offer(
                *("rac", "Ray actors", "HF generate", "actor per GPU", "front → least loaded", "Ray"),
                last_start_s=21.4,
            ),
            Offer(
                *(
                    "rsc",
                    "Ray Serve",
                    "HF generate",
                    "Serve replicas",
                    "HAProxy → Serve → router",
                    "Ray Serve",
                ),
                last_start_s=24.0,
                kubernetes=True,
            ),
            Offer(
                *("rvc", "vLLM", "vLLM", "actor per GPU", "HAProxy → engine's port", "Ray + batching"),
                why="vllm is not installed",
                fix="pip install 'rvtop[vllm]'",
                kubernetes=True,
            ),
        ),
        up=(
            UpRow("rvc", "http://127.0.0.1:8000", "rvc", ("q3b", "q15b"), "ready", 8040.0),
            UpRow("second", "", "rac", (), "starting", 12.0, why="weights: run"),
        ),
        models=(
            ModelRow("q3b", "/mnt/shared/models/qwen25_3b", "qwen25_3b", 5.9 * GIB, by_default=True),
            ModelRow("q15b", "/mnt/shared/models/qwen25_1_5b", "qwen25_1_5b", 2.9 * GIB, by_default=True),
            ModelRow("tiny", "tiny", "built here"),
        ),
        gpus=tuple(GpuRow(i, gpu, used * GIB, 141 * GIB) for i, used in enumerate((98.0, 97.0, 0.5, 71.0))),
        recent=(
            RecentRow(url="http://gpu-b:8000"),
            RecentRow(folder="runs/ramp-48-20251126-140101", about="rvc", age_s=7300.0),
        ),
        machine=Machine("n1", 64, 0.04, (("Ray", "2.60.0"), ("vLLM", "0.29.0")), "Ray up at 10.0.0.1:6379"),
        complete=True,
    )


def start_without_gpu() -> StartFacts:
    """A laptop: no GPU, no Ray cluster, no server."""
    s = start_facts()
    models = (replace(s.models[2], by_default=True),)
    return replace(
        s, up=(), gpus=(), models=models, recent=(), machine=Machine("laptop", 8, 0.31, (), "no Ray cluster")
    )


def start_with_nothing() -> StartFacts:
    """Nothing is installed and nothing is up."""
    s = start_without_gpu()
    why = "torch, transformers are not installed"
    offers = tuple(
        replace(one, why=why, fix="pip install 'rvtop[hf]'", last_start_s=None) for one in s.offers
    )
    return replace(s, offers=offers)


def switching(**more: object) -> Snapshot:
    """Live, on its way from a topology of ours to one that starts."""
    s = live()
    steps = (
        StartStep("Ray", "done", 2.0, expected_s=2.0),
        StartStep("placement", "done", 1.0, expected_s=1.0),
        StartStep("weights", "run", 7.0, expected_s=11.0),
        StartStep("warm-up", "wait", expected_s=6.0),
    )
    target = replace(s.target, url="http://127.0.0.1:4", topology="rsc", owned=True)
    switch = Switch("rac", "starts", 12.0, paused=True)
    return replace(s, target=target, steps=steps, switch=switch, state="paused", **more)


def score(name: str, state: str = "done", ttft_ms: float = 0.0, sigma: float = 0.4, **more: object) -> Score:
    """A row of a showdown; ``ttft_ms`` is the median of its TTFT, 0: nothing was measured."""
    if not ttft_ms:
        return Score(name, state, **more)  # type: ignore[arg-type]
    measured = Histogram.of(lognormal_ns(ttft_ms, sigma, 400)).distribution()
    mean = measured.mean_ns / 1e6
    figures = {
        "ttft_ms": mean,
        "latency_avg_ms": mean * 1.6 + 840.0,
        "latency_total_s": mean / 420 + 0.9,
        "tps": 2.4e6 / (mean + 310.0),
        "completed_pct": 100.0,
    }
    given = {"repeats": 1, "start_s": 9.4 + ttft_ms % 37, "figures": figures, "ttft": measured, **more}
    return Score(name, state, **given)  # type: ignore[arg-type]


def compared(scores: list[Score], reference: str) -> tuple[Score, ...]:
    """The rows with their changes against ``reference``."""
    base = next(one for one in scores if one.name == reference)
    told = []
    for one in scores:
        if one is base or not one.repeats or not base.repeats:
            told.append(one)
        elif abs((one.figures["completed_pct"] or 0) - (base.figures["completed_pct"] or 0)) > 1:
            told.append(replace(one, censored=True))
        else:
            pairs = {key: (one.figures[key] or 0, base.figures[key] or 1) for key in COMPARED}
            change = {key: 100 * (mine / theirs - 1) for key, (mine, theirs) in pairs.items()}
            told.append(replace(one, change_pct=change))
    return tuple(told)


SHOWDOWN_NOTES = (
    "requests at once per engine: 1 (baseline, rac, rsc), 256 (rvc-noprefix, rvc)",
    "prefix caching: off (baseline, rac, rsc, rvc-noprefix), on (rvc)",
)


def showdown(moment: str) -> Snapshot:
    """A showdown: the ``first`` topology starts, the ``third`` runs, all are ``done``, one has ``failed``, or
    is ``censored``."""
    incomplete = replace(score("baseline", ttft_ms=3100, sigma=0.5))
    figures = {**incomplete.figures, "completed_pct": 61.0 if moment == "censored" else 100.0}
    baseline = replace(incomplete, figures=figures)
    rac = score("rac", ttft_ms=2100)
    rsc = score("rsc", ttft_ms=2230)
    vllm = [score("rvc-noprefix", ttft_ms=61, sigma=0.3), score("rvc", ttft_ms=38, sigma=0.25)]
    waits = [Score(name, "wait", expected_start_s=48.0) for name in ("rvc-noprefix", "rvc")]
    if moment == "first":
        waiting = [
            Score(name, "wait", expected_start_s=took) for name, took in (("rac", 24.0), ("rsc", None))
        ]
        scores, turn = [Score("baseline", "run", expected_start_s=9.0), *waiting, *waits], 1
    elif moment == "third":
        scores, turn = [baseline, rac, Score("rsc", "run"), *waits], 3
    elif moment == "failed":
        why = "rsc did not start: Serve's proxy on port 8000 is in use; end what uses it, or give --port"
        scores, turn = [baseline, rac, Score("rsc", "failed", reason=why), *vllm], 5
    else:
        scores, turn = [baseline, rac, rsc, *vllm], 5
    reference = "rac" if moment in ("censored", "failed", "done") else "baseline"
    over = moment in ("done", "failed", "censored")
    show = Showdown(
        "paper-rounds",
        compared(scores, reference),
        reference,
        turn=turn,
        turns=5,
        elapsed_s=130.0 * turn - 100,
        left_s=None if over or turn == 1 else 130.0 * (5 - turn) + 70,
        notes=() if turn == 1 else SHOWDOWN_NOTES,
        over=over,
        folder="runs/showdown-20251009-085320" if over else "",
    )
    s = live(92.0)
    if moment == "first":
        s = starting()
    elif over:
        s = replace(s, state="done")
    topology = {"first": "baseline", "third": "rsc"}.get(moment, "rvc")
    target = replace(s.target, topology=topology)
    return replace(s, slo_ttft_ms=200.0, target=target, showdown=show)


def planned(t: float = 92.0) -> Snapshot:
    """``live`` in the second phase of a scenario of four."""
    s = live(t)
    total = 230.0
    rates = [_planned_at(total * column / 240) for column in range(240)]
    phases = (
        PlannedPhase("warm", 0.0, 50.0, 2.0, 2.0),
        PlannedPhase("climb", 50.0, 60.0, 2.0, 48.0),
        PlannedPhase("hold", 110.0, 60.0, 48.0, 48.0),
        PlannedPhase("spike", 170.0, 60.0, 8.0, 80.0),
    )
    return replace(s, plan=Plan(total, 0.0, phases, tuple(rates)), plan_s=t)


def _planned_at(t: float) -> float:
    if t < 110:
        return 2.0 if t < 50 else 2.0 + 46 * (t - 50) / 60
    return 48.0 if t < 170 else 80.0 if 190 <= t < 195 else 8.0


def pairs(count: int = 240, same: int = 60, delta_ms: float = -12.4) -> Snapshot:
    """Live pairs of two servers, after so many of A against A and of both."""
    random = Random(3)

    def pair(by_ms: float) -> tuple[float, float]:
        prompt = random.gauss(28.4, 4.0)
        return max(1.0, prompt + random.gauss(0, 4)), max(1.0, prompt + by_ms + random.gauss(0, 4))

    fold = PairFold("http://10.0.0.5:8000", "http://10.0.0.6:8000")
    for row in same_then_both([pair(0) for _ in range(same)], [pair(delta_ms) for _ in range(count)]):
        fold.add(row)
    return replace(live(), pairs=fold.view("both" if count else "same"))


def scaled(t: float = 92.0) -> Snapshot:
    """Replicas that follow the load: one, then three wanted and started one after the other, then one that
    ends what it has."""
    made = live(t)

    def at(second: float) -> tuple[float, float, float, float]:
        """Wanted, starting, healthy, draining."""
        age = t - second
        if age > 50:
            return 1.0, 0.0, 1.0, 0.0
        if age > 40:
            return 3.0, 1.0, 1.0, 0.0
        if age > 25:
            return 3.0, 1.0, 2.0, 0.0
        return (3.0, 0.0, 3.0, 0.0) if age > 10 else (2.0, 0.0, 2.0, 1.0)

    wanted, starting, healthy, draining = zip(*map(at, made.series.t_s), strict=True)
    series = replace(
        made.series,
        replicas_wanted=wanted,
        replicas_starting=starting,
        replicas_healthy=healthy,
        replicas_draining=draining,
    )
    return replace(made, series=series, replicas=(Replicas("q3b", 2.0, 0.0, 2.0, 1.0, 4.0),))
