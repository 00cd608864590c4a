"""The figures that a verdict is made of: means over the last seconds of a run's rows
(``timeline.jsonl``). What no source tells is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

#: Seconds that the figures are means of: as long as the windows of the latencies in a row.
WINDOW_S = 10
#: A batch is full from this share of its places on, a KV cache from this share of its blocks on.
FULL = 0.95

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """What changes only where a server's engines do. ``places`` are those in each engine's batch,
    ``step_tokens`` the most tokens that a step of an engine computes, ``replicas`` the engines of a model,
    all as far as they are told; ``arguments`` those that a topology of ours (``owned``) was started with."""

    topology: str | None = None
    owned: bool = False
    engine: str | None = None  # "vllm", "hf"
    arguments: tuple[str, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    step_tokens: int | None = None
    gpus: bool = False
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class EngineMeans:
    """One engine. ``ttft_ms`` is its own mean."""

    name: str
    running: float | None
    waiting: float | None
    ttft_ms: float | None


@dataclass(frozen=True, slots=True)
class DeploymentMeans:
    """One deployment of Ray Serve, or the replicas of a model of ours."""

    name: str
    replicas: float | None
    wanted: float | None
    ongoing: float | None
    queued: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the last ``seconds`` rows; times in ms, shares 0..1. ``steady_s``: how long the rate has
    been the same. Of all engines together unless a field says otherwise."""

    seconds: int = 0
    steady_s: int = 0
    target_rps: float | None = None
    completed_rps: float | None = None
    in_flight: float | None = None
    growth: float = 0.0  # of what is in flight, requests a second
    # client
    limited: str | None = None  # why our own delays bend the figures
    lag_ms: float | None = None  # p99 of late sends
    loop_ms: float | None = None  # the longest that an event loop of a worker was blocked
    worker_cpu: float | None = None
    ttft_ms: float | None = None  # mean
    ttft_p50_ms: float | None = None
    comb_ms: float | None = None  # tokens come in lumps, one each so many ms
    # engines
    server_ttft_ms: float | None = None
    queue_ms: float | None = None
    prefill_ms: float | None = None
    itl_ms: float | None = None
    lower: tuple[float, float] | None = None  # (batch, ITL) of at most half the batch of now, seen before
    running: float | None = None
    flat: float | None = None  # share of the seconds in which the batch was the largest ever seen
    most_running: float | None = None
    places: float | None = None  # in all batches
    full: float | None = None  # share of the seconds in which (nearly) all of them were taken
    waiting: float | None = None
    deferred: float | None = None  # of these, for other reasons than room
    kv: float | None = None  # of the fullest engine
    preempts: float | None = None  # a minute
    step: float | None = None  # tokens a step
    step_most: float | None = None
    prompt_tps: float | None = None  # prompt tokens computed a second
    gpu: float | None = None  # use of the busiest
    gpu_least: float | None = None
    engines: tuple[EngineMeans, ...] = ()
    before: float | None = None  # requests that wait before all engines, in a queue of ours
    deployments: tuple[DeploymentMeans, ...] = ()

    @property
    def inside_ms(self) -> float | None:
        """Of the TTFT what the engine knows of: from a request's arrival in it to its first token. Queue and
        prefill leave the front end out, but are told as requests end: where requests wait, and each waits
        longer than the one before, the server's own TTFT is the newer one, and the larger of both counts."""
        parts = None
        if self.queue_ms is not None and self.prefill_ms is not None:
            parts = self.queue_ms + self.prefill_ms
        if parts is None or (self.waiting or 0.0) < 1:
            return parts if parts is not None else self.server_ttft_ms
        return max(parts, self.server_ttft_ms or 0.0)

    @property
    def outside_ms(self) -> float | None:
        """Of the client's TTFT what no engine knows of: network, front end, router."""
        if self.ttft_ms is None or self.inside_ms is None:
            return None
        return max(0.0, self.ttft_ms - self.inside_ms)

    @property
    def queued(self) -> float | None:
        """Requests that wait before they reach an engine: in Serve's routers, or a queue of ours, which may
        be two figures of one queue."""
        known = _known((_sum(one.queued for one in self.deployments), self.before))
        return max(known, default=None)

    @property
    def used(self) -> float | None:
        """Share of the places in use."""
        return self.running / self.places if self.running is not None and self.places else None

    @property
    def kv_with_one_more(self) -> float | None:
        """Share of the KV cache if one more request like those that run were in it."""
        if self.kv is None or not self.running:
            return self.kv
        return self.kv * (1 + len(self.engines or (None,)) / self.running)

    @property
    def gain(self) -> float | None:
        """How many times the tokens/s there would be in a batch twice as large, if the ITL is linear in the
        batch (``a + b n``, through that of now and that of the lower batch): 2 where requests cost each
        other nothing, 1 where a batch makes no more than a smaller one. None without a lower batch."""
        if self.lower is None or self.itl_ms is None or not self.running or self.running <= self.lower[0]:
            return None
        each = max(0.0, (self.itl_ms - self.lower[1]) / (self.running - self.lower[0]))
        slower = self.itl_ms + each * self.running
        return 2 * self.itl_ms / slower if slower else None

    @property
    def worst_engine(self) -> tuple[EngineMeans, float, float] | None:
        """The engine that most wait for, with the medians of what the others let wait and of their TTFT."""
        known = [engine for engine in self.engines if engine.waiting is not None]
        if len(known) < 2:
            return None
        worst = max(known, key=lambda engine: (engine.waiting or 0.0, engine.ttft_ms or 0.0))
        others = [engine for engine in known if engine is not worst]
        times = [engine.ttft_ms for engine in others if engine.ttft_ms is not None]
        waits = [engine.waiting or 0.0 for engine in others]
        return worst, median(waits), median(times) if times else 0.0


def figures_of(rows: Sequence[Row], server: Server, lower: tuple[float, float] | None = None) -> Figures:
    """Those of the last rows (one a second, oldest first, all of one server and one phase)."""
    last = list(rows[-WINDOW_S:])
    if not last:
        return Figures()
    running = _known(row.get("running") for row in last)
    most = max(_known(row.get("running") for row in rows), default=None)
    places = float(sum(server.places.values())) if server.places else None
    in_flight = [float(row["in_flight"]) for row in last]
    deployments = tuple(_deployment(name, last) for name in _names(last, "deployments"))
    deployments += tuple(_scaled(name, last) for name in _names(last, "replicas", "model"))
    told = [_engine(name, last) for name in _names(last, "engines")]
    engines = tuple(engine for engine in told if engine.running is not None)
    before = [engine.waiting for engine in told if engine.running is None]  # a queue of ours has no batch
    return Figures(
        seconds=sum(1 for row in last if is_loaded(row)),
        steady_s=_steady(rows),
        target_rps=last[-1].get("target_rps"),
        completed_rps=_mean(last, "completed_rps"),
        in_flight=fmean(in_flight),
        growth=(fmean(in_flight[-3:]) - fmean(in_flight[:3])) / max(1, len(in_flight) - 3),
        limited=last[-1].get("client_limited"),
        lag_ms=last[-1].get("lag_p99_ms"),
        loop_ms=max(_known(row.get("loop_lag_ms") for row in last), default=None),
        worker_cpu=_mean(last, "worker_cpu"),
        ttft_ms=last[-1].get("ttft_mean_ms"),
        ttft_p50_ms=last[-1].get("ttft_p50_ms"),
        comb_ms=last[-1].get("comb_ms"),
        server_ttft_ms=last[-1].get("server_ttft_ms"),
        queue_ms=_newest(last, "queue_time"),
        prefill_ms=_newest(last, "prefill_time"),
        itl_ms=last[-1].get("server_itl_ms"),
        lower=lower,
        running=fmean(running) if running else None,
        flat=sum(n == most for n in running) / len(running) if running else None,
        most_running=most,
        places=places,
        full=sum(n >= FULL * places for n in running) / len(running) if running and places else None,
        waiting=_sum(engine.waiting for engine in engines) if before else _mean(last, "waiting"),
        before=_sum(before),
        deferred=_mean_of(_newest([row], "waiting_by_reason/deferred") for row in last),
        kv=_kv(last),
        preempts=_a_minute(last),
        step=_newest(last, "step_tokens"),
        step_most=server.step_tokens,
        prompt_tps=_prompt_tps(last),
        gpu=_mean(last, "gpu_util_max"),
        gpu_least=_mean(last, "gpu_util_min"),
        engines=engines,
        deployments=deployments,
    )


class LowerBatches:
    """Remembers the ITL at the batches that were seen, by powers of two."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float, float]] = {}  # (seconds, mean batch, mean ITL)

    def add(self, f: Figures) -> None:
        """One second of one rate more."""
        if f.running is None or f.itl_ms is None or f.running <= 0 or f.steady_s < WINDOW_S:
            return
        key = max(0, round(f.running).bit_length())
        n, batch, itl = self._seen.get(key, (0, 0.0, 0.0))
        n = min(n + 1, 60)
        self._seen[key] = (n, batch + (f.running - batch) / n, itl + (f.itl_ms - itl) / n)

    def below(self, batch: float | None) -> tuple[float, float] | None:
        """(batch, ITL) of the smallest batch that is at most half of ``batch``; None where there was none."""
        known = [(b, itl) for n, b, itl in self._seen.values() if n >= 3 and b <= (batch or 0.0) / 2]
        return min(known, default=None)


# -- of rows ---------------------------------------------------------------------------------


def _known(values: Iterable[Any]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float) and value == value]


def _mean_of(values: Iterable[Any]) -> float | None:
    known = _known(values)
    return fmean(known) if known else None


def _sum(values: Iterable[Any]) -> float | None:
    known = _known(values)
    return sum(known) if known else None


def _mean(rows: Sequence[Row], key: str) -> float | None:
    return _mean_of(row.get(key) for row in rows)


def _newest(rows: Sequence[Row], figure: str) -> float | None:
    """A figure of all engines together, which is a mean over ten seconds itself."""
    for row in reversed(rows):
        if figure in row.get("figures", {}):
            return float(row["figures"][figure])
    return None


def _names(rows: Sequence[Row], kind: str, key: str = "name") -> list[str]:
    return list(dict.fromkeys(one[key] for row in rows for one in row.get(kind) or ()))


def _of(rows: Sequence[Row], kind: str, name: str, key: str = "name") -> list[Mapping[str, Any]]:
    return [one for row in rows for one in row.get(kind) or () if one[key] == name]


def _engine(name: str, rows: Sequence[Row]) -> EngineMeans:
    told = _of(rows, "engines", name)
    means = {key: _mean_of(one.get(key) for one in told) for key in ("running", "waiting", "ttft_ms")}
    return EngineMeans(name, **means)


def _deployment(name: str, rows: Sequence[Row]) -> DeploymentMeans:
    told = _of(rows, "deployments", name)
    keys = ("replicas", "target_replicas", "ongoing", "queued")
    return DeploymentMeans(name, *(_mean_of(one.get(key) for one in told) for key in keys))


def _scaled(model: str, rows: Sequence[Row]) -> DeploymentMeans:
    told = _of(rows, "replicas", model, "model")
    healthy, wanted = (_mean_of(one.get(key) for one in told) for key in ("healthy", "wanted"))
    return DeploymentMeans(model, healthy, wanted, None, None)


def _kv(rows: Sequence[Row]) -> float | None:
    means = (
        _mean_of(one.get("kv_usage") for one in _of(rows, "engines", n)) for n in _names(rows, "engines")
    )
    return max(_known(means), default=_mean(rows, "kv_usage"))


def _a_minute(rows: Sequence[Row]) -> float | None:
    known = [row for row in rows if row.get("preemptions") is not None]
    if len(known) < 2:
        return None
    first, last = known[0], known[-1]
    span_s = float(last["t_s"]) - float(first["t_s"])
    return 60.0 * (float(last["preemptions"]) - float(first["preemptions"])) / span_s


def _prompt_tps(rows: Sequence[Row]) -> float | None:
    """Prompt tokens less those that came from a cache."""
    first, last = rows[0].get("totals") or {}, rows[-1].get("totals") or {}
    span = float(rows[-1]["t_s"]) - float(rows[0]["t_s"])
    if span <= 0 or "prompt_tokens" not in first or "prompt_tokens" not in last:
        return None
    taken = float(last["prompt_tokens"]) - float(first["prompt_tokens"])
    cached = float(last.get("cached_tokens", 0.0)) - float(first.get("cached_tokens", 0.0))
    return (taken - cached) / span


def is_loaded(row: Row) -> bool:
    """Whether anything is under way in that second, or due."""
    return bool(row["in_flight"] or row.get("completed_rps") or row.get("target_rps"))


def _steady(rows: Sequence[Row]) -> int:
    """Rows, back from the last one, with its rate."""
    rate, count = rows[-1].get("target_rps"), 0
    for row in reversed(rows):
        if row.get("target_rps") != rate:
            break
        count += 1
    return count
