"""The ``replicas`` block of a summary: what autoscaling did, from the timeline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rvtop.results.server import seconds_in

Row = Mapping[str, Any]


def scaling_summary(timeline: Sequence[Row], spans: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Over the seconds inside ``spans`` ((start, end), seconds from the run's start); None where the number
    of replicas never changed.

    ``first``, ``most`` and ``last`` are healthy replicas. ``replica_seconds``: those that took up room,
    starting and draining ones too. ``overshoot_replica_s``: how many of them were above what the requests in
    flight asked for (None where no target is told). ``first_token_s``: from the second in which more load
    came, for which more replicas were wanted, to the first tokens of an engine that was not there; to the
    second, since the engines' pages are read once in one. ``ups``, ``downs``: changes of what was wanted.
    """
    rows = [row for row in seconds_in(timeline, spans) if row.get("replicas_healthy") is not None]
    wanted = [row["replicas_wanted"] for row in rows if row.get("replicas_wanted") is not None]
    changes = [(before, now) for before, now in itertools.pairwise(wanted) if before != now]
    if not changes:
        return None
    healthy = [row["replicas_healthy"] for row in rows]
    above = [over for row in rows if (over := _above(row)) is not None]
    return {
        "first": healthy[0],
        "most": max(healthy),
        "last": healthy[-1],
        "ups": sum(now > before for before, now in changes),
        "downs": sum(now < before for before, now in changes),
        "replica_seconds": _per_second(rows, [_held(row) for row in rows]),
        "overshoot_replica_s": _per_second(rows, above) if len(above) == len(rows) else None,
        "first_token_s": _first_token_s(rows),
    }


def _held(row: Row) -> float:
    states = ("starting", "healthy", "draining")
    return float(sum(row.get(f"replicas_{state}") or 0 for state in states))


def _above(row: Row) -> float | None:
    """Replicas above those that a second's requests in flight asked for; None where no target is told."""
    targets = [one.get("target_requests") for one in row.get("replicas") or []]
    if not targets or not all(targets) or row.get("in_flight") is None:
        return None
    most: float = max(targets)  # several models share what is in flight: the larger target needs fewer
    needed = max(1, math.ceil(float(row["in_flight"]) / most))
    return max(0.0, _held(row) - needed)


def _per_second(rows: Sequence[Row], counts: Sequence[float]) -> float:
    """Counts times the seconds that each row stands for."""
    times = [float(row["t_s"]) for row in rows]
    lengths = [1.0, *(now - before for before, now in itertools.pairwise(times))]
    # A row that is missing, or a span that is not measured, lies between two of them.
    return sum(count * min(length, 2.0) for count, length in zip(counts, lengths, strict=True))


def _first_token_s(rows: Sequence[Row]) -> float | None:
    """Of the first rise."""
    rise = next(
        (
            place
            for place in range(1, len(rows))
            if (rows[place].get("replicas_wanted") or 0) > (rows[place - 1].get("replicas_wanted") or 0)
        ),
        None,
    )
    if rise is None:
        return None
    known = {engine.get("name") for engine in rows[rise - 1].get("engines") or []}
    answered = next(
        (
            row
            for row in rows[rise:]
            for engine in row.get("engines") or []
            if engine.get("name") not in known and engine.get("tokens_per_s")
        ),
        None,
    )
    if answered is None:
        return None
    return float(answered["t_s"]) - _spike_s(rows[: rise + 1])


def _spike_s(rows: Sequence[Row]) -> float:
    """When the load of the last row came: since then at least half as many requests have been in flight."""
    now = rows[-1].get("in_flight") or 0
    spike_s = float(rows[-1]["t_s"])
    for row in reversed(rows):
        if (row.get("in_flight") or 0) < now / 2:
            break
        spike_s = float(row["t_s"])
    return spike_s
