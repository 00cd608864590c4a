"""Prometheus metrics of engines that have none of their own, in a registry of their own.

Names are vLLM's (0.29) with ``rvtop:`` for ``vllm:`` where the meaning is the same, and so are the bucket
edges, so that one reader and one dashboard serve all topologies. ``vllm:*`` itself comes from vLLM only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from backends.engines.protocol import Delta, EngineInfo, EngineState

CONTENT_TYPE = CONTENT_TYPE_LATEST
LABELS = ("engine", "model_name")
# Edges in seconds, as in vLLM 0.29's v1/metrics/loggers.py.
TTFT_EDGES = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
ITL_EDGES = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
LATENCY_EDGES = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FINISHED_REASONS = ("stop", "length", "abort", "error")

# `_created` series would double the page, and have no reader.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All series of one process. Scrapes and updates may come from different threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._gauges = {
            name: Gauge(f"rvtop:{name}", text, LABELS, registry=r)
            for name, text in (
                ("num_requests_running", "Requests that an engine is computing."),
                ("num_requests_waiting", "Requests admitted and waiting for an engine."),
                ("kv_cache_usage_perc", "KV bytes held over the capacity at full concurrency; 1 is full."),
                ("kv_cache_bytes", "Bytes of keys and values held by live sequences."),
                ("kv_cache_capacity_bytes", "KV bytes of `concurrency` sequences of max_model_len tokens."),
                ("allocator_allocated_bytes", "Bytes that torch's allocator of the device has given out."),
                ("allocator_reserved_bytes", "Bytes that torch's allocator holds of the device."),
            )
        }
        self._prompt_tokens = Counter("rvtop:prompt_tokens", "Prompt tokens prefilled.", LABELS, registry=r)
        self._tokens = Counter("rvtop:generation_tokens", "Tokens generated.", LABELS, registry=r)
        self._success = Counter(
            "rvtop:request_success", "Requests that ended.", (*LABELS, "finished_reason"), registry=r
        )
        self._ttft = _seconds("time_to_first_token", "Arrival to the first token.", TTFT_EDGES, r)
        self._itl = _seconds("inter_token_latency", "Between two tokens of a request.", ITL_EDGES, r)
        self._tpot = _seconds(
            "request_time_per_output_token", "Mean per token after a request's first.", ITL_EDGES, r
        )
        self._e2e = _seconds("e2e_request_latency", "Arrival to the last token.", LATENCY_EDGES, r)
        self._queue = _seconds("request_queue_time", "Spent waiting for an engine.", LATENCY_EDGES, r)
        self._prefill = _seconds(
            "request_prefill_time", "From an engine to the first token.", LATENCY_EDGES, r
        )
        self._decode = _seconds("request_decode_time", "First token to last.", LATENCY_EDGES, r)

    def add_engine(self, info: EngineInfo) -> None:
        """Makes an engine's series exist at zero, so that a rate over them has a beginning."""
        labels = (info.engine, info.model)
        for metric in (self._prompt_tokens, self._tokens, self._ttft, self._itl, self._e2e, self._queue):
            metric.labels(*labels)
        for reason in FINISHED_REASONS:
            self._success.labels(*labels, reason)

    def request(self, info: EngineInfo, arrived: float) -> RequestMetrics:
        """A recorder for one request that arrived at ``arrived`` (``time.perf_counter`` seconds)."""
        return RequestMetrics(self, info, arrived)

    def set_waiting(self, engine: str, model: str, waiting: int) -> None:
        self._gauges["num_requests_waiting"].labels(engine, model).set(waiting)

    def set_state(self, info: EngineInfo, state: EngineState) -> None:
        """Gauges of one engine; what it does not have stays absent."""
        usage = None
        if state.kv_bytes is not None and state.kv_capacity_bytes:
            usage = state.kv_bytes / state.kv_capacity_bytes
        values = {
            "num_requests_running": state.running,
            "kv_cache_usage_perc": usage,
            "kv_cache_bytes": state.kv_bytes,
            "kv_cache_capacity_bytes": state.kv_capacity_bytes,
            "allocator_allocated_bytes": state.allocated_bytes,
            "allocator_reserved_bytes": state.reserved_bytes,
        }
        for name, value in values.items():
            if value is not None:
                self._gauges[name].labels(info.engine, info.model).set(value)

    def page(self) -> str:
        """The exposition text."""
        return generate_latest(self.registry).decode()


class RequestMetrics:
    """Records one request. A request that never got a token leaves no latency, only its end."""

    def __init__(self, metrics: Metrics, info: EngineInfo, arrived: float) -> None:
        labels = (info.engine, info.model)
        self._labels = labels
        self._m = metrics
        self._arrived = arrived
        self._first = 0.0
        self._last: float | None = None
        self._made = 0
        self._tokens = metrics._tokens.labels(*labels)
        self._itl = metrics._itl.labels(*labels)

    def delta(self, delta: Delta, prompt_tokens: int, queue_ms: float) -> None:
        """``queue_ms``: waited before the engine got the request."""
        now = time.perf_counter()
        m = self._m
        self._made += len(delta.token_ids)
        if self._last is None:
            self._first = now
            m._prompt_tokens.labels(*self._labels).inc(prompt_tokens)
            m._ttft.labels(*self._labels).observe(now - self._arrived)
        else:
            self._itl.observe(now - self._last)
        self._last = now
        self._tokens.inc(len(delta.token_ids))
        if delta.finish is not None:
            m._e2e.labels(*self._labels).observe(now - self._arrived)
            if self._made > 1:
                m._tpot.labels(*self._labels).observe((now - self._first) / (self._made - 1))
            timings = delta.finish.timings
            m._queue.labels(*self._labels).observe((queue_ms + (timings.queue_ms if timings else 0.0)) / 1e3)
            if timings is not None:
                m._prefill.labels(*self._labels).observe(timings.prefill_ms / 1e3)
                m._decode.labels(*self._labels).observe(timings.decode_ms / 1e3)
            self.ended(delta.finish.reason)

    def ended(self, reason: str) -> None:
        self._m._success.labels(*self._labels, reason).inc()


def merge_pages(pages: Iterable[str]) -> str:
    """Several exposition texts as one: each family's HELP and TYPE once, its samples together, as the format
    demands. Engines keep apart by their labels."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for page in pages:
        family = ""
        for line in page.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                samples.setdefault(family, [])
                if not any(known.startswith(line[: len("# HELP ") + len(family)]) for known in head):
                    head.append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(line)
    lines = [line for family in samples for line in (*heads.get(family, ()), *samples[family])]
    return "\n".join(lines) + "\n" if lines else ""


def _seconds(name: str, text: str, edges: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"rvtop:{name}_seconds", f"{text} Seconds.", LABELS, buckets=edges, registry=registry)
