"""Whether load comes faster than the server answers it: the slopes of in flight and TTFT over time.

The idea to call over-saturation from both slopes and their confidence is GuideLLM's (its over-saturation
stopping: ``docs/guides/over_saturation_stopping.md`` of vllm-project/guidellm). Two things are done otherwise
here, because a queue near its capacity wanders and a regression over it finds slopes where there are none
(Granger and Newbold, Spurious regressions in econometrics, Journal of Econometrics 2, 1974):

- The slope of in flight is the mean of its steps from second to second, with the variance of a mean of values
  that follow each other (:func:`rvtop.stats.intervals.variance_of_mean`).
- Of those steps only what the server did counts. How many requests were planned is known, so that a burst of
  arrivals, which any server is late with for a while, is taken out as a control variate (Lavenberg and Welch,
  A perspective on the use of control variables, Management Science 27, 1981): the slope is what was planned
  minus what ended. A server with room answers a burst faster than the plan; one without does not.

The slope of TTFT is that of least squares, with the error of Newey and West (A simple, positive
semi-definite, heteroskedasticity and autocorrelation consistent covariance matrix, Econometrica 55, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from rvtop.stats.intervals import student_t, variance_of_mean

#: Seconds that are looked at, up to now. Short ones see a steep slope soon, long ones a flat one at all.
WINDOWS = (6, 8, 10, 12, 15, 20)
#: So sure are both slopes before anything is said, %; and so sure is the interval that is shown.
_SURE, _SHOWN = 98.0, 95.0
#: At least so much of the planned load is not answered, as a share …
LEAST_SHARE = 0.03
#: … and TTFT grows by at least so many seconds a second. In a queue it grows by the same share.
_LEAST_TTFT = 0.02
#: Answers that take longer than this are not waited for.
_LONGEST_SERVICE_S = 60
#: Seconds of the past that may be asked for.
KEPT = WINDOWS[-1] + 1 + 2 * _LONGEST_SERVICE_S


@dataclass(frozen=True, slots=True)
class LoadSecond:
    """One second of an open loop. ``in_flight`` at its end; ``sent`` in it; ``planned_rps`` at its end, None
    where there is no rate; ``ttft_ms``: mean of the first tokens that came in it, ``service_s``: how long an
    answer takes once it has begun; None where there was none."""

    in_flight: int
    sent: int
    planned_rps: float | None
    ttft_ms: float | None
    service_s: float | None


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth a second, ± half of its 95 % interval."""

    per_s: float
    error: float


@dataclass(frozen=True, slots=True)
class Saturation:
    """Load is above what the server can answer, for ``lasts_s`` by now. ``in_flight`` in requests a second
    (the planned rate minus what ended), ``ttft`` in ms a second."""

    lasts_s: float
    planned_rps: float
    answered_rps: float
    in_flight: Slope
    ttft: Slope


def saturation_of(seconds: Sequence[LoadSecond]) -> Saturation | None:
    """The over-saturation at the end of ``seconds``, which follow each other; None where there is none, or
    where it can't be known yet."""
    for window in WINDOWS:
        found = slopes(seconds, window)
        # A client that is late itself has fewer answers than were planned, and no more in flight.
        grows = found is not None and seconds[-1].in_flight > seconds[-window - 1].in_flight
        if found is not None and grows and _is_sure(found, window):
            return found
    return None


def slopes(seconds: Sequence[LoadSecond], window: int) -> Saturation | None:
    """Both slopes over the last ``window`` seconds, whatever they are; None where one of these seconds has no
    planned rate or no first token, or the answers to what was planned can't have come yet."""
    if len(seconds) <= window:
        return None
    planned = _planned(seconds, window)
    last = seconds[-window:]
    ttft = [second.ttft_ms for second in last if second.ttft_ms is not None]
    if planned is None or len(ttft) < window:
        return None
    steps = [now.in_flight - before.in_flight for before, now in pairwise(seconds[-window - 1 :])]
    ended = [second.sent - step for second, step in zip(last, steps, strict=True)]
    missing = [due - done for due, done in zip(planned, ended, strict=True)]
    t = student_t(_SHOWN, window - 1)
    return Saturation(
        lasts_s=float(window),
        planned_rps=fmean(planned),
        answered_rps=fmean(ended),
        in_flight=Slope(fmean(missing), t * math.sqrt(variance_of_mean(missing))),
        ttft=_regression(ttft, t),
    )


def _is_sure(found: Saturation, window: int) -> bool:
    """Whether both slopes are above the least that counts, and not by chance."""
    wider = student_t(_SURE, window - 1) / student_t(_SHOWN, window - 1)
    missing, ttft = found.in_flight, found.ttft
    return (
        missing.per_s - wider * missing.error > LEAST_SHARE * found.planned_rps
        and ttft.per_s - wider * ttft.error > 1e3 * _LEAST_TTFT
    )


def _planned(seconds: Sequence[LoadSecond], window: int) -> list[float] | None:
    """The rate at which answers are due in each of the last ``window`` seconds: the least that was planned in
    the time of two answers before it, so that neither a step nor a ramp up looks like a server that is late.
    None where none is due in one of them."""
    served = [second.service_s for second in seconds[-window:] if second.service_s is not None]
    back = 2 * math.ceil(min(median(served), _LONGEST_SERVICE_S)) if served else 2
    begin = len(seconds) - window
    if begin < back:
        return None
    out = []
    for at in range(begin, len(seconds)):
        rates = [second.planned_rps or 0.0 for second in seconds[at - back : at + 1]]
        if min(rates) <= 0:
            return None
        out.append(min(rates))
    return out


def _regression(values: Sequence[float], t: float) -> Slope:
    """The slope of ``values``, one a second, by least squares; its error is ``t`` times that of Newey and
    West with a lag of the cube root of their number."""
    count, middle = len(values), fmean(values)
    times = [at - (count - 1) / 2 for at in range(count)]
    spread = sum(at * at for at in times)
    slope = sum(at * value for at, value in zip(times, values, strict=True)) / spread
    parts = [at * (value - middle - slope * at) for at, value in zip(times, values, strict=True)]
    lags = max(1, round(count ** (1 / 3)))
    variance = sum(part * part for part in parts)
    for lag in range(1, lags + 1):
        together = sum(now * before for now, before in zip(parts[lag:], parts[:-lag], strict=True))
        variance += 2 * (1 - lag / (lags + 1)) * together
    error = math.sqrt(max(variance, 0.0) * count / (count - 2)) / spread
    return Slope(slope, t * error)


def said(found: Saturation) -> tuple[str, str]:
    """Both slopes in words: since when with that of in flight; that of TTFT with the two rates."""
    flight, ttft = found.in_flight, found.ttft
    return (
        f"since {found.lasts_s:.0f} s: in flight {flight.per_s:+.1f}/s ± {flight.error:.1f}",
        f"TTFT {ttft.per_s:+.0f} ms/s ± {ttft.error:.0f}; "
        f"{found.planned_rps:.3g} rps planned, {found.answered_rps:.3g} answered",
    )
