"""Single requests as the screen lists them: the slowest, the failed, and where their TTFT went."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.stats.typical import TtftParts, Typical

#: Requests of each list, the slowest and the failed.
LISTED = 50


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
class Requests:
    """Remade once a second, the same object while nothing has changed."""

    slowest: tuple[RequestRow, ...] = ()  # by TTFT, of those that ended well in the last 60 s
    errors: tuple[RequestRow, ...] = ()  # the last that failed, newest first
    typical: tuple[Typical, ...] = ()
    count: int = 0  # ended well in the last 10 s
    told: int = 0  # of these the server told parts of its own


NO_REQUESTS = Requests()
