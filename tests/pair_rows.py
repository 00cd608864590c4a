"""Rows of requests.jsonl as pairs leave them, made of given latencies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rvtop.contract.pairs import SAME

MS = 1_000_000


def row(pair: int, side: int, phase: str, ttft_ms: float, error: str | None = None) -> dict[str, Any]:
    """A request of eight tokens, 2 ms apart, ``side`` 0 or 1 of a pair."""
    intended = pair * 100 * MS
    first = intended + round(ttft_ms * MS)
    return {
        "id": 2 * pair + side,
        "phase": phase,
        "intended_ns": intended,
        "sent_ns": intended + (pair % 2 != side) * 20_000,
        "first_token_ns": None if error else first,
        "last_token_ns": None if error else first + 14 * MS,
        "output_tokens": None if error else 8,
        "error": error,
    }


def rows(
    ttfts: Iterable[tuple[float, float]], phase: str = "steady", first: int = 0
) -> Iterator[dict[str, Any]]:
    """Both requests of each pair, in turn."""
    for number, (a, b) in enumerate(ttfts, first):
        yield row(number, 0, phase, a)
        yield row(number, 1, phase, b)


def same_then_both(
    same: Iterable[tuple[float, float]], both: Iterable[tuple[float, float]]
) -> Iterator[dict[str, Any]]:
    """Pairs of A against A, then those of A and B."""
    before = list(rows(same, SAME))
    yield from before
    yield from rows(both, first=len(before) // 2)
