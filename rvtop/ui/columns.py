"""Histograms as columns of a log axis. Pure: histograms in, heights and cells out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rvtop.contract.snapshot import ServerHist
from rvtop.stats.distribution import Distribution
from rvtop.ui.axis import LogAxis


def client_columns(found: Distribution, axis: LogAxis, width: int) -> list[float]:
    """Events in each of ``width`` cells of ``axis``; their sum is the count of what lies on the axis."""
    if width <= 0 or found.count == 0:
        return [0.0] * max(0, width)
    return found.rebin(tuple([edge_ms * 1e6 for edge_ms in axis.edges(width)]))


def server_bounds(server: ServerHist) -> list[tuple[float, float, float]]:
    """The filled buckets as (lower ms, upper ms, count).

    A bucket from 0 is drawn as one octave below its edge, and one to infinity as one octave above
    the last finite edge: the server does not say where in them the requests lie.
    """
    found = []
    below = 0.0
    for upper, n in zip(server.le_ms, server.counts, strict=True):
        if n > 0:
            if math.isinf(upper):
                found.append((below or 1.0, 2 * (below or 1.0), n))
            else:
                found.append((below if below > 0 else upper / 2, upper, n))
        below = upper
    return found


def server_columns(server: ServerHist, axis: LogAxis, width: int) -> list[float]:
    """A server's buckets spread evenly over the cells they cover on the log axis."""
    columns = [0.0] * max(0, width)
    for low, high, n in server_bounds(server):
        begin, end = axis.position(low, width), axis.position(high, width)
        if end - begin <= 1e-9:
            continue
        for column in range(max(0, math.floor(begin)), min(width, math.ceil(end))):
            covered = min(end, column + 1) - max(begin, column)
            columns[column] += n * max(0.0, covered) / (end - begin)
    return columns


def shares(columns: Sequence[float]) -> list[float]:
    """Columns as shares of their sum, so that 10 s and a whole phase compare in shape."""
    total = sum(columns)
    return [value / total for value in columns] if total > 0 else list(columns)
