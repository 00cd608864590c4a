"""Where a TTFT went: its parts, which sum to it, of one request and of the typical ones. Without NumPy, since
a screen starts without it; the sums over many requests are in ``waterfall``."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Who tells the server's parts, best first. ``usage.rvtop``: our backends, of each request. ``metrics``:
#: vLLM, of each request (``--enable-per-request-metrics``). ``histograms``: means over all requests, an
#: ESTIMATE.
OURS, VLLM, HISTOGRAMS = "usage.rvtop", "metrics", "histograms"


#: Of retrieval, where a server has it in stages, in the order in which they pass.
STAGES = ("embed", "search", "rerank")


@dataclass(frozen=True, slots=True)
class TtftParts:
    """Where one TTFT went: parts in ms that sum to it, in the order in which they pass.

    ``late``: sent after its intended time, by the client. ``router`` (from its arrival at our router to that
    at its engine's server), ``queue``, ``retrieve`` (documents of RAG; where that has stages, ``embed``,
    ``search`` and ``rerank`` in its place) and ``prefill`` are told by the server, each None where it does
    not. ``network`` is the residual: the network, the server's front end, and whatever nobody tells.
    """

    late: float = 0.0
    network: float = 0.0
    router: float | None = None
    queue: float | None = None
    retrieve: float | None = None
    prefill: float | None = None
    embed: float | None = None
    search: float | None = None
    rerank: float | None = None

    @property
    def _server(self) -> tuple[float | None, ...]:
        return self.router, self.queue, self.retrieve, self.embed, self.search, self.rerank, self.prefill

    @property
    def told(self) -> bool:
        """Whether the server told any of them."""
        return any(part is not None for part in self._server)

    @property
    def total(self) -> float:
        return self.late + self.network + sum(part or 0.0 for part in self._server)


#: The server's parts may exceed the client's TTFT by so much, ms: its clock's ticks, and rounding.
TOLERANCE_MS = 1.0


def split_ttft(
    ttft_ms: float,
    late_ms: float,
    *,
    router: float | None = None,
    queue: float | None = None,
    retrieve: float | None = None,
    prefill: float | None = None,
    embed: float | None = None,
    search: float | None = None,
    rerank: float | None = None,
) -> TtftParts:
    """The parts of a TTFT of which the client knows the whole and how late it sent. What a server tells that
    does not fit into it (by over ``TOLERANCE_MS``) is no part of it and left out."""
    told = (router, queue, retrieve, prefill, embed, search, rerank)
    rest = ttft_ms - late_ms - sum(part or 0.0 for part in told)
    if rest < -TOLERANCE_MS:
        return TtftParts(late_ms, max(0.0, ttft_ms - late_ms))
    return TtftParts(late_ms, max(0.0, rest), *told)


@dataclass(frozen=True, slots=True)
class Typical:
    """Mean parts of the requests around a rank (``p50``, ``p99``), or of all (``mean``). ``decode_ms`` is
    from the first token to the last as the client saw them. ``source``: who told the server's parts ("":
    nobody; several are joined by " + ")."""

    name: str
    ttft_ms: float
    parts: TtftParts
    decode_ms: float | None = None
    source: str = ""

    @property
    def estimate(self) -> bool:
        """Whether its parts are means of histograms: of all requests that the server ended, not of these."""
        return self.source == HISTOGRAMS


def estimated(mean: Typical, queue_ms: float | None, prefill_ms: float | None) -> Typical | None:
    """The mean with the parts that the means of the server's own histograms make; None where it has none, or
    they do not fit into it. Means add up, so this holds for the mean alone."""
    if queue_ms is None or prefill_ms is None:
        return None
    rest = mean.ttft_ms - mean.parts.late - queue_ms - prefill_ms
    if rest < 0:
        return None
    parts = TtftParts(mean.parts.late, rest, queue=queue_ms, prefill=prefill_ms)
    return replace(mean, parts=parts, source=HISTOGRAMS)
