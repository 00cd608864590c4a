"""Whether the tokens of a stream come in lumps of one period, as where something between the engine and the
client gathers them: the gaps between chunks are then near 0 within a lump and one period between lumps, which
drawn as a histogram is a comb."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.stats.distribution import Distribution, middle_ns

#: Chunks that come together are read together: what is between them is less than this.
_TOGETHER_NS = 1e6
#: Of all gaps at least so many are near 0: two chunks a lump or more.
_LEAST_TOGETHER = 0.5
#: Of the others at least so many lie so near to the period, as a share of it. Measured on two busy cores,
#: 0.38 to 0.44 behind Ray Serve LLM's batcher; 0.16 to 0.2 where a server that sends each token is starved.
_NEAR = 0.15
_LEAST_NEAR = 0.35
#: Gaps between lumps below which nothing is said.
_LEAST_LUMPS = 50
#: A shorter period is that of an engine's steps, a longer one is no stream.
_PERIODS_NS = (5e6, 2e9)
#: An engine whose own gaps are at least so long, as a share of the period, makes the lumps itself: under
#: speculative decoding each of its steps brings several tokens.
_OWN = 0.6
#: Nagle's algorithm waits for an acknowledgement, which Linux delays by 40 ms to 200 ms (tcp(7), RFC 1122).
_DELAYED_ACK_MS = 120.0
#: Bars of the drawing, from no gap to one of two periods.
BARS = 20


@dataclass(frozen=True, slots=True)
class Comb:
    """``period_ms`` from lump to lump, ``lump`` chunks in one on average (a little high where answers have
    few lumps: the first has no gap before it), ``together`` the share (0..1) of the gaps that are near 0,
    ``bars`` the shares of the gaps by length, in equal steps from 0 to two periods."""

    period_ms: float
    lump: float
    together: float
    bars: tuple[float, ...] = ()


def comb_of(gaps: Distribution, engine_gap_ms: float | None = None) -> Comb | None:
    """The comb in the gaps between chunks, None where there is none. ``engine_gap_ms``: the mean gap between
    tokens by the engine's own figures, where they are known."""
    apart = [(middle_ns(bucket), n) for bucket, n in gaps.buckets if middle_ns(bucket) >= _TOGETHER_NS]
    lumps = sum(n for _, n in apart)
    if lumps < _LEAST_LUMPS or gaps.count < lumps / (1 - _LEAST_TOGETHER):
        return None
    near, inside = _fullest(apart)
    period_ns = sum(ns * n for ns, n in near) / inside
    if inside < _LEAST_NEAR * lumps or not _PERIODS_NS[0] <= period_ns <= _PERIODS_NS[1]:
        return None
    if engine_gap_ms is not None and engine_gap_ms * 1e6 >= _OWN * period_ns:
        return None
    return Comb(
        period_ms=period_ns / 1e6,
        lump=gaps.count / lumps,
        together=1 - lumps / gaps.count,
        bars=_bars(gaps, period_ns),
    )


def _fullest(apart: list[tuple[float, int]]) -> tuple[list[tuple[float, int]], int]:
    """Of all bands around one of the lengths (``apart`` has them ascending) the one that holds most gaps, and
    how many it holds. Both ends of the band only move up as its middle does, so each length is added and
    taken away once."""
    first = end = inside = most = 0
    band = (0, 0)
    for middle, _ in apart:
        while end < len(apart) and apart[end][0] - middle <= _NEAR * middle:
            inside += apart[end][1]
            end += 1
        while middle - apart[first][0] > _NEAR * middle:
            inside -= apart[first][1]
            first += 1
        if inside > most:
            most, band = inside, (first, end)
    return apart[slice(*band)], most


def _bars(gaps: Distribution, period_ns: float) -> tuple[float, ...]:
    step = 2 * period_ns / BARS
    counts = gaps.rebin([step * edge for edge in range(BARS + 1)])
    return tuple(count / gaps.count for count in counts)


def said(comb: Comb) -> tuple[str, str]:
    """What there is to see, and what does it as far as the client can know."""
    seen = (
        f"lumps of {comb.lump:.2g} tokens every {comb.period_ms:.3g} ms; "
        f"{100 * comb.together:.0f} % of gaps are 0"
    )
    return seen, "not the engine: something between it and here gathers them"


def knob(comb: Comb, topology: str | None) -> str:
    """What ends it: a setting of what is known to gather tokens so, empty where nothing is known."""
    if topology == "rsv":
        return "Serve LLM's batcher: --stream-batching-ms 0"
    if comb.period_ms > _DELAYED_ACK_MS:
        return "Nagle's algorithm: option http-no-delay in HAProxy, TCP_NODELAY elsewhere"
    return ""
