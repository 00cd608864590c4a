"""What the client measured, as a page for Prometheus: ``--metrics-port``.

A thread answers scrapes. It never reads the session's state itself: it asks the session's loop for one frozen
picture of it, so that nothing is made while nobody scrapes, and a slow reader holds nothing up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rvtop.contract.client_figures import E2E, GOODPUT, ITL, LATE, LIMITED, TOKENS, TTFT
from rvtop.contract.snapshot import Snapshot
from rvtop.errors import UserError
from rvtop.net.place import host_and_port
from rvtop.stats.distribution import Distribution
from rvtop.text import printable

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.metrics_core import Metric

#: How long a scrape waits for the session's loop.
_ASK_LIMIT_S = 2.0

#: Upper edges of the buckets, seconds: vLLM's own, so that client and server stand in one chart.
TTFT_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
)
ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
E2E_S = (0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)

#: (name, help, buckets) of each latency.
LATENCIES = {
    "ttft": ("rvtop_client_ttft_seconds", TTFT.sentence, TTFT_S),
    "itl": ("rvtop_client_itl_seconds", ITL.sentence, ITL_S),
    "e2e": ("rvtop_client_e2e_seconds", E2E.sentence, E2E_S),
}


@dataclass(frozen=True)
class Measured:
    """A picture of a session, and its distributions since the start, by the keys of :data:`LATENCIES`."""

    picture: Snapshot
    latencies: Mapping[str, Distribution]


def place(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``, without a host this machine alone. Raises UserError."""
    host, port = host_and_port(f"127.0.0.1:{text}" if text.isdecimal() else text) or (None, None)
    if host is None or port is None:
        raise UserError(f"--metrics-port {text}: must look like 9400, 127.0.0.1:9400 or [::1]:9400")
    return host, port


class MetricsPage:
    """The page of one session. ``measured`` is called in the loop that runs while this is made."""

    def __init__(self, at: tuple[str, int], measured: Callable[[], Measured]) -> None:
        """Listens. Raises UserError, with exit code 2, where it can't."""
        from prometheus_client import CollectorRegistry, start_http_server

        self._measured = measured
        self._loop = asyncio.get_running_loop()
        registry = CollectorRegistry()
        registry.register(self)
        host, port = at
        try:
            self._server: WSGIServer
            self._thread: threading.Thread
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            why = (
                "is in use" if error.errno == errno.EADDRINUSE else f"can't be listened on: {error.strerror}"
            )
            raise UserError(f"--metrics-port: port {port} of {host} {why}; give another") from None

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}/metrics" if ":" in str(host) else f"http://{host!s}:{port}/metrics"

    async def close(self) -> None:
        """Ends it, also for a scrape that is under way."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        self._thread.join()

    def describe(self) -> Iterator[Metric]:
        """Nothing: so that no picture is made when it is registered."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """In the thread of the scrape. Nothing while the session does not answer."""
        asked = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            yield from metrics(asked.result(_ASK_LIMIT_S))

    async def _ask(self) -> Measured:
        return self._measured()


def metrics(measured: Measured) -> Iterator[Metric]:
    """The page's families."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    picture, load = measured.picture, measured.picture.load
    about = {
        "scenario": picture.name,
        "state": picture.state,
        "topology": picture.target.topology or "",
        "target": picture.target.url,
        "phase": picture.phase.name if picture.phase is not None else "",
    }
    shown = {name: printable(value) for name, value in about.items()}
    yield InfoMetricFamily("rvtop_client", "What runs.", shown)
    ended = CounterMetricFamily(
        "rvtop_client_requests",
        "Requests that ended, by how: ok, or the class of their error.",
        labels=["end"],
    )
    for end, count in (("ok", load.ok), *load.errors):
        ended.add_metric([printable(end)], count)
    yield ended
    for name, about_it, value in (
        ("sent", "Requests that were sent.", load.sent),
        ("due", "Arrivals that the plan has had, sent or not.", load.due),
        ("dropped", "Arrivals that were never sent.", load.dropped),
    ):
        yield CounterMetricFamily(f"rvtop_client_requests_{name}", about_it, value)
    yield CounterMetricFamily("rvtop_client_output_tokens", "Tokens of answers.", picture.tokens.total)
    for name, about_it, gauge in (
        ("in_flight", "Requests that were sent and have not ended.", load.in_flight),
        ("target_rps", "Requests a second that are commanded.", load.target_rps),
        ("offered_rps", "Requests a second that the plan intended, last 2 s.", load.offered_rps),
        ("sent_rps", "Requests a second that were sent, last 2 s.", load.sent_rps),
        ("completed_rps", "Requests a second that were answered, last 2 s.", load.completed_rps),
        ("goodput_rps", f"{GOODPUT.sentence} Last 10 s.", load.goodput_rps),
        ("output_tokens_per_second", TOKENS.sentence, picture.tokens.per_s),
        ("late_sends_p99_seconds", f"{LATE.sentence} Last 10 s.", _seconds(load.lag_p99_ms)),
        ("limited", f"1 while it holds: {LIMITED.brief}.", float(bool(load.client_limited))),
    ):
        family = GaugeMetricFamily(f"rvtop_client_{name}", about_it)
        if gauge is not None:  # a missing figure is no figure, never 0
            family.add_metric([], gauge)
        yield family
    for key, distribution in measured.latencies.items():
        yield _histogram(key, distribution)


def _histogram(key: str, distribution: Distribution) -> Metric:
    """A distribution in the buckets of its latency. A count inside one of our buckets (2 % wide) that an edge
    cuts is shared between its two sides."""
    from prometheus_client.core import HistogramMetricFamily

    name, about, edges = LATENCIES[key]
    counts = distribution.rebin([0.0, *(edge * 1e9 for edge in edges)])
    below, cumulative = 0.0, []
    for edge, count in zip(edges, counts, strict=True):
        below += count
        cumulative.append((str(float(edge)), below))
    cumulative.append(("+Inf", float(distribution.count)))
    family = HistogramMetricFamily(name, about)
    family.add_metric([], cumulative, distribution.sum_ns / 1e9)
    return family


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1e3
