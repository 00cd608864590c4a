"""Single requests as the screen lists them: the slowest, the failed, and where their TTFT went."""

from __future__ import annotations

from dataclasses import dataclass

#: Requests of each list, the slowest and the failed.
LISTED = 50


@dataclass(frozen=True, slots=True)
class TtftParts:
    """Where one TTFT went: parts in ms that sum to it.

    ``late``: sent after its intended time, by the client. ``queue``, ``retrieve`` (documents of RAG) and
    ``prefill`` are told by the server, each None where it does not. ``network`` is what is left: the network,
    the server's front end or router, and whatever nobody tells.
    """

    late: float = 0.0
    network: float = 0.0
    queue: float | None = None
    retrieve: float | None = None
    prefill: float | None = None

    @property
    def told(self) -> bool:
        """Whether the server told any of them."""
        return any(part is not None for part in (self.queue, self.retrieve, self.prefill))

    @property
    def total(self) -> float:
        return self.late + self.network + (self.queue or 0.0) + (self.retrieve or 0.0) + (self.prefill or 0.0)


#: The server's parts may exceed the client's TTFT by so much, ms: its clock's ticks, and rounding.
TOLERANCE_MS = 1.0


def split_ttft(
    ttft_ms: float,
    late_ms: float,
    *,
    queue: float | None = None,
    retrieve: float | None = None,
    prefill: float | None = None,
) -> TtftParts:
    """The parts of a TTFT of which the client knows the whole and how late it sent. What a server tells that
    does not fit into it (by over ``TOLERANCE_MS``) is no part of it and left out."""
    rest = ttft_ms - late_ms - (queue or 0.0) - (retrieve or 0.0) - (prefill or 0.0)
    if rest < -TOLERANCE_MS:
        return TtftParts(late_ms, max(0.0, ttft_ms - late_ms))
    return TtftParts(late_ms, max(0.0, rest), queue, retrieve, prefill)


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request that has ended. Times in ms are from its intended time; what never happened is None."""

    id: int  # number in the run, which no other has
    unix_s: float  # intended time
    phase: str
    model: str
    prompt: int  # row of prompts.jsonl
    turn: int | None = None  # of a conversation, from 0
    engine: str | None = None  # where the server tells it
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    ttft_ms: float | None = None
    e2e_ms: float | None = None
    parts: TtftParts | None = None  # of its TTFT; None without one
    finish: str | None = None
    error: str | None = None  # class; None: it ended well
    error_text: str = ""


@dataclass(frozen=True, slots=True)
class Typical:
    """Mean parts of the last 10 seconds' requests around a rank (``p50``, ``p99``), or of all (``mean``)."""

    name: str
    ttft_ms: float
    parts: TtftParts


@dataclass(frozen=True, slots=True)
class Requests:
    """Remade once a second, the same object while nothing has changed."""

    slowest: tuple[RequestRow, ...] = ()  # by TTFT, of those that ended well in the last 60 s
    errors: tuple[RequestRow, ...] = ()  # the last that failed, newest first
    typical: tuple[Typical, ...] = ()
    count: int = 0  # ended well in the last 10 s
    told: int = 0  # of these the server told parts of its own


NO_REQUESTS = Requests()
