"""Folds telemetry samples into what the screen and the timeline need. No I/O, no clock of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from rvtop.contract.figures import BY_KEY, SHOWN, combined, shown
from rvtop.contract.replicas import Replicas
from rvtop.contract.snapshot import Engine, Gpu, Node, ServeDeployment, ServerHist, SourceStatus
from rvtop.telemetry.bounds import MOST, fitting
from rvtop.telemetry.buckets import Growth, merged, server_hist
from rvtop.telemetry.counters import EngineCounters, RecentEvents, TokenRate
from rvtop.telemetry.deployments import DeploymentState
from rvtop.telemetry.power_state import GpuState, PackageStates
from rvtop.telemetry.replicas import of_deployments
from rvtop.telemetry.sample import DeploymentSample, EngineSample, NodeSample, Sample
from rvtop.text import printable

STALE_S = 3.0  # what is older than this is shown as STALE and counts in no sum
FORGET_S = 60.0  # an engine that its living source no longer tells of is dropped after this
_ERROR_LIMIT = 200


@dataclass(frozen=True, slots=True)
class ServerView:
    """The server at one moment. ``None``: not known. Sums and means cover what is fresh.

    ``totals`` is the growth of each counter (keys of ``contract.figures``) since we began to watch, over all
    engines, restarts bridged. ``figures`` are those of all engines together, as Engine.figures; empty while
    no engine is fresh.
    ``gpu_memory`` is the used share of all GPUs, 0..1. ``engine_kind``: "vllm" | "hf".
    """

    engines: tuple[Engine, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    nodes: tuple[Node, ...] = ()
    deployments: tuple[ServeDeployment, ...] = ()
    sources: tuple[SourceStatus, ...] = ()
    tokens_per_s: float | None = None
    totals: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    ttft: ServerHist | None = None
    itl: ServerHist | None = None
    e2e: ServerHist | None = None
    kv_usage: float | None = None
    running: float | None = None
    waiting: float | None = None
    gpu_memory: float | None = None
    engine_kind: str | None = None
    cpu_watts: float | None = None  # of this machine's processors, where they tell
    cpu_joules: float | None = None  # since we began to watch
    replicas: tuple[Replicas, ...] = ()  # of models that are scaled

    @property
    def watts(self) -> float | None:
        """Of all GPUs that tell it now; where no GPU is seen at all, of the processors."""
        told = [gpu.watts for gpu in self.gpus if gpu.watts is not None and gpu.stale_s is None]
        return sum(told) if told else None if self.gpus else self.cpu_watts


#: Figures that have a field of their own in Engine, and histograms of which the mean is shown.
_FIELDS = tuple(each.name for each in fields(Engine) if each.name in BY_KEY)
_MEANS = tuple(figure.key for figure in SHOWN if figure.kind == "histogram")

_Key = TypeVar("_Key")
_EngineId = tuple[str, str, str | None]  # source, engine, model


@dataclass(slots=True)
class _Engine:
    sample: EngineSample
    t_ns: int
    counters: EngineCounters
    line: Engine | None = None  # as it was shown last; a new sample takes it away
    most_running: float | None = None
    tokens_per_s: float | None = None


@dataclass(slots=True)
class _Source:
    seen_ns: int | None = None  # the last answer that told of something
    nothing: bool = False  # it answers that there is nothing of the kind here
    error: str = ""
    tokens: TokenRate = field(default_factory=TokenRate)
    recent: RecentEvents = field(default_factory=RecentEvents)


class ServerState:
    """``apply`` samples as they come (in order of time), then read ``view``.

    ``source_names`` are shown as absent until they answer, and give the order of display. Not
    thread-safe: apply and read in one thread.
    """

    def __init__(
        self, source_names: Iterable[str] = (), totals_before: Mapping[str, float] | None = None
    ) -> None:
        self._sources: dict[str, _Source] = {name: _Source() for name in source_names}
        self._engines: dict[_EngineId, _Engine] = {}
        self._gone = dict(totals_before or {})  # what engines that are no longer there had counted
        self._gpus: dict[tuple[str, int], GpuState] = {}
        self._nodes: dict[str, tuple[NodeSample, int]] = {}  # with when it was seen
        self._packages = PackageStates()
        self._deployments: dict[str, DeploymentState] = {}
        self._replicas: dict[str, tuple[tuple[Replicas, ...], int]] = {}  # by source, with when
        self._second_hand: set[str] = set()  # sources whose engines count only while no other tells of any

    # -- fold ---------------------------------------------------------------------------------

    def apply(self, sample: Sample) -> str:
        """Takes one sample in. Returns one line on what of it was left out, "" where nothing was."""
        source = self._sources.setdefault(sample.source, _Source())
        source.error = printable(sample.error or "", _ERROR_LIMIT)
        if sample.error is not None:
            return ""
        source.nothing = sample.empty
        if source.nothing:
            return ""
        sample = self._fitting(sample)
        before_ns, source.seen_ns = source.seen_ns, sample.t_ns
        if not sample.second_hand:
            if sample.engines:
                self._drop_second_hand(sample.source)
            self._apply_engines(source, sample, before_ns)
        elif sample.engines and not self._told_by_others(sample):
            self._second_hand.add(sample.source)
            self._apply_engines(source, sample, before_ns)
        for gpu in sample.gpus:
            held = self._gpus.get((gpu.node, gpu.index))
            # Two sources may tell of one GPU (NVML and DCGM): the first keeps it while it is fresh.
            told = (gpu, sample.source, sample.t_ns)
            if held is None:
                self._gpus[gpu.node, gpu.index] = GpuState(*told)
            elif held.source == sample.source or _age_s(held.t_ns, sample.t_ns) > STALE_S:
                self._gpus[gpu.node, gpu.index] = held.told(*told)
        if sample.packages:
            self._packages.apply(sample.packages, sample.t_ns)
        if sample.replicas:
            self._replicas[sample.source] = (sample.replicas, sample.t_ns)
        for node in sample.nodes:
            self._nodes[node.node] = (node, sample.t_ns)
        for deployment in sample.deployments:
            self._apply_deployment(deployment, sample.t_ns)
        for name in [n for n, (_, t_ns) in self._nodes.items() if _age_s(t_ns, sample.t_ns) > FORGET_S]:
            del self._nodes[name]
        return sample.note

    def count_idle(self, in_flight: int, now_ns: int) -> None:
        """Counts this second for the GPUs' idle share, if one of our requests (``in_flight``) or of others
        is on its way. To be called once a second."""
        engines = [engine.sample.gauges for engine in self._fresh_engines(now_ns)]
        if not in_flight and not any(e.get("running") or e.get("waiting") for e in engines):
            return
        for gpu in self._gpus.values():
            if _fresh(gpu.t_ns, now_ns):
                gpu.count()

    def _fitting(self, sample: Sample) -> Sample:
        """The sample without what comes on top of ``MOST`` of a kind: names that change with each poll must
        not fill the memory. What is stale makes room first."""
        if len(self._engines) >= MOST:
            for key in [k for k, held in self._engines.items() if not _fresh(held.t_ns, sample.t_ns)]:
                self._forget_engine(key)
        _drop_stale(self._gpus, sample.t_ns)
        _drop_stale(self._deployments, sample.t_ns)
        kept = replace(
            sample,
            engines=fitting(sample.engines, self._engines, lambda e: (sample.source, e.engine, e.model)),
            gpus=fitting(sample.gpus, self._gpus, lambda gpu: (gpu.node, gpu.index)),
            nodes=fitting(sample.nodes, self._nodes, lambda node: node.node),
            deployments=fitting(sample.deployments, self._deployments, lambda each: each.name),
        )
        names = ("engines", "gpus", "nodes", "deployments")
        less = [name for name in names if len(getattr(kept, name)) < len(getattr(sample, name))]
        if not less or sample.note:
            return kept
        told = " and ".join(less).replace("gpus", "GPUs")
        return replace(kept, note=f"more than {MOST} {told}; the rest is left out")

    def _told_by_others(self, sample: Sample) -> bool:
        """Whether another source tells of engines: perhaps the same ones under other names."""
        return any(
            source != sample.source and _age_s(engine.t_ns, sample.t_ns) <= STALE_S
            for (source, _, _), engine in self._engines.items()
        )

    def _drop_second_hand(self, source: str) -> None:
        """Takes back engines told at second hand, now that ``source`` tells of its own."""
        for other in self._second_hand - {source}:
            self._sources[other].tokens.per_s = None
            self._sources[other].recent.clear()
            for key in [key for key in self._engines if key[0] == other]:
                del self._engines[key]
        self._second_hand.clear()

    def _apply_deployment(self, now: DeploymentSample, t_ns: int) -> None:
        held = self._deployments.get(now.name)
        if held is None:
            self._deployments[now.name] = DeploymentState(now, t_ns)
        else:
            held.update(now, t_ns)

    def _apply_engines(self, source: _Source, sample: Sample, before_ns: int | None) -> None:
        tokens: float | None = None
        events: dict[str, list[Growth]] = {}
        for engine in sample.engines:
            key = (sample.source, engine.engine, engine.model)
            held = self._engines.get(key)
            if held is None:
                most = engine.gauges.get("running")
                self._engines[key] = _Engine(engine, sample.t_ns, EngineCounters(engine), None, most)
                continue
            passed_s = _age_s(held.t_ns, sample.t_ns)
            held.most_running = max(
                (n for n in (held.most_running, engine.gauges.get("running")) if n is not None), default=None
            )
            held.sample, held.t_ns, held.line = engine, sample.t_ns, None
            more, growths = held.counters.update(engine)
            if "generation_tokens" in more:
                held.tokens_per_s = more["generation_tokens"] / passed_s if passed_s > 0 else None
                tokens = (tokens or 0.0) + more["generation_tokens"]
            for name, grown in growths.items():
                events.setdefault(name, []).append(grown)
        for key, engine_state in list(self._engines.items()):
            if key[0] == sample.source and _age_s(engine_state.t_ns, sample.t_ns) > FORGET_S:
                self._forget_engine(key)
        source.recent.add(sample.t_ns, events)
        source.tokens.update(tokens, before_ns, sample.t_ns, second_hand=sample.second_hand)

    def _forget_engine(self, key: _EngineId) -> None:
        for name, total in self._engines.pop(key).counters.grown.items():
            self._gone[name] = self._gone.get(name, 0.0) + total

    def _fresh_engines(self, now_ns: int) -> list[_Engine]:
        return [engine for engine in self._engines.values() if _age_s(engine.t_ns, now_ns) <= STALE_S]

    def totals(self) -> dict[str, float]:
        """The growth of each counter; see ``ServerView``."""
        totals = dict(self._gone)
        for engine in self._engines.values():
            for name, grown in engine.counters.grown.items():
                totals[name] = totals.get(name, 0.0) + grown
        return totals

    # -- read ---------------------------------------------------------------------------------

    def view(self, now_ns: int) -> ServerView:
        """The server as it stands at ``now_ns`` (same clock as the samples)."""
        fresh = self._fresh_engines(now_ns)
        gauges = [engine.sample.gauges for engine in fresh]
        totals = self.totals()
        kv = _each(gauges, "kv_usage")
        kinds = {engine.sample.kind for engine in self._engines.values()} - {None}
        deployments = tuple(
            self._deployments[name].line(now_ns)
            for name in sorted(self._deployments)
            if _fresh(self._deployments[name].t_ns, now_ns)
        )
        told = [each for each, t_ns in self._replicas.values() if _fresh(t_ns, now_ns)]
        return ServerView(
            engines=self._engine_lines(now_ns),
            gpus=tuple(self._gpu_line(self._gpus[key], now_ns) for key in sorted(self._gpus)),
            nodes=tuple(_node_line(*self._nodes[name], now_ns) for name in sorted(self._nodes)),
            deployments=deployments,
            # One that is late is not told by Ray's names meanwhile.
            replicas=tuple(one for each in told for one in each)
            if self._replicas
            else of_deployments(deployments),
            sources=tuple(_source_line(name, source, now_ns) for name, source in self._sources.items()),
            tokens_per_s=_sum(
                source.tokens.per_s
                for source in self._sources.values()
                if source.tokens.per_s is not None and _fresh(source.seen_ns, now_ns)
            ),
            totals=totals,
            figures=shown({**combined(gauges), **totals, **self._means(now_ns)}) if fresh else {},
            ttft=self._hist("ttft", now_ns),
            itl=self._hist("itl", now_ns),
            e2e=self._hist("e2e", now_ns),
            kv_usage=sum(kv) / len(kv) if kv else None,
            running=_sum(_each(gauges, "running")),
            waiting=_sum(_each(gauges, "waiting")),
            gpu_memory=self._gpu_memory(now_ns),
            engine_kind=kinds.pop() if len(kinds) == 1 else None,
            cpu_watts=self._packages.watts(now_ns, STALE_S),
            cpu_joules=self._packages.joules(),
        )

    def _gpu_line(self, gpu: GpuState, now_ns: int) -> Gpu:
        age_s = _age_s(gpu.t_ns, now_ns)
        return gpu.line(now_ns, age_s if age_s > STALE_S else None)

    def _engine_lines(self, now_ns: int) -> tuple[Engine, ...]:
        lines = []
        for name, ((_, _, model), state) in zip(
            _shown_names(list(self._engines)), self._engines.items(), strict=True
        ):
            age_s = _age_s(state.t_ns, now_ns)
            stale_s = age_s if age_s > STALE_S else None
            if state.line is None or (state.line.name, state.line.stale_s) != (name, stale_s):
                told = shown({**state.sample.gauges, **state.counters.grown})
                known = {key: told.pop(key, None) for key in _FIELDS}
                own = {"most_running": state.most_running, "tokens_per_s": state.tokens_per_s}
                own["ttft_ms"] = state.counters.ttft_ms
                state.line = Engine(
                    name, state.sample.node, model, **known, **own, figures=told, stale_s=stale_s
                )
            lines.append(state.line)
        return tuple(lines)

    def _hist(self, name: str, now_ns: int) -> ServerHist | None:
        """The last ten seconds of one histogram; None when no source has it."""
        recent = merged(
            events for source in self._sources.values() for events in source.recent.of(name, now_ns)
        )
        return None if recent is None else server_hist(recent, BY_KEY[name].scale)

    def _means(self, now_ns: int) -> dict[str, float]:
        """Means of the last ten seconds of the histograms that are shown as one figure; of seconds, in ms."""
        hists = {name: self._hist(name, now_ns) for name in _MEANS}
        return {name: hist.mean for name, hist in hists.items() if hist is not None and hist.mean is not None}

    def _gpu_memory(self, now_ns: int) -> float | None:
        used = total = 0.0
        for gpu in self._gpus.values():
            held = gpu.sample
            if _fresh(gpu.t_ns, now_ns) and held.memory_used is not None and held.memory_total:
                used += held.memory_used
                total += held.memory_total
        return used / total if total else None


def _shown_names(keys: list[_EngineId]) -> list[str]:
    """The shortest name that tells each engine from the others: two models, or two sources, may both
    call an engine "0"."""
    candidates = (
        [engine for _, engine, _ in keys],
        [f"{model or source}/{engine}" for source, engine, model in keys],
        [f"{source}/{engine}" for source, engine, _ in keys],
        [f"{source}/{model}/{engine}" for source, engine, model in keys],
    )
    return list(next((names for names in candidates if len(set(names)) == len(names)), candidates[-1]))


def _age_s(then_ns: int, now_ns: int) -> float:
    return (now_ns - then_ns) / 1e9


def _fresh(seen_ns: int | None, now_ns: int) -> bool:
    return seen_ns is not None and _age_s(seen_ns, now_ns) <= STALE_S


def _drop_stale(table: dict[_Key, GpuState] | dict[_Key, DeploymentState], now_ns: int) -> None:
    """Makes room in a full table."""
    if len(table) >= MOST:
        for key in [key for key, held in table.items() if not _fresh(held.t_ns, now_ns)]:
            del table[key]


def _each(engines: Iterable[Mapping[str, float]], name: str) -> list[float]:
    return [engine[name] for engine in engines if name in engine and not math.isnan(engine[name])]


def _sum(values: Iterable[float]) -> float | None:
    """The sum; None, not 0, of nothing."""
    known = list(values)
    return sum(known) if known else None


def _node_line(node: NodeSample, seen_ns: int, now_ns: int) -> Node:
    age_s = _age_s(seen_ns, now_ns)
    stale_s = age_s if age_s > STALE_S else None
    return Node(node.node, node.cpu, node.memory_used, node.memory_total or None, stale_s)


def _source_line(name: str, source: _Source, now_ns: int) -> SourceStatus:
    if source.seen_ns is None:
        return SourceStatus(name, "absent", source.error)
    age_s = max(0.0, _age_s(source.seen_ns, now_ns))
    if age_s <= STALE_S:
        return SourceStatus(name, "ok", "", age_s)
    return SourceStatus(name, "stale", source.error, age_s)
