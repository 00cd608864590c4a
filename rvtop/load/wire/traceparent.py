"""The trace of a request, by which the spans of client and server meet (W3C Trace Context).

Its ids follow from the run's own number and the request's, so the load worker that sends a request and the
session that makes its span later know them without a word between them.
"""

from __future__ import annotations

HEADER = b"traceparent"
_64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def ids(run: int, seq: int) -> tuple[int, int]:
    """Trace id (128 bits, its upper half is ``run``, 64 bits and not 0) and span id (64 bits, not 0) of the
    run's request ``seq``.

    The lower half looks random, as collectors that keep a share of all traces expect it.
    """
    low = _mixed(run + seq * _GOLDEN)
    return run << 64 | low, _mixed(low ^ run) or 1


def header(run: int, seq: int) -> bytes:
    """The header's line, behind a line before it: recorded, so that a server that may choose keeps it."""
    trace, span = ids(run, seq)
    return b"\r\n%b: 00-%032x-%016x-01" % (HEADER, trace, span)


def _mixed(value: int) -> int:
    """A number of 64 bits, one to one (the last steps of splitmix64)."""
    value &= _64
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _64
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _64
    return value ^ value >> 31
