"""A rate in words: what it asks for, and what will come of it. All pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rvtop.contract.command import MAX_CHANGE_S, SetConcurrency, SetRate
from rvtop.scenario.units import MAX_AT_ONCE, parse_duration
from rvtop.ui.draw import UP
from rvtop.ui.format import clip, count, rate

_CHANGE = re.compile(r"(?P<percent>[+-]\d+(?:[.,]\d+)?)\s*%|[x×*]\s*(?P<times>\d+(?:[.,]\d+)?)")
_TIMED = re.compile(
    r"(?P<kind>ramp|spike)?\s*(?P<rate>.+?)\s*(?P<how>in|for)\b\s*(?P<time>.*?)"
    r"(?P<shape>\s+(?:exp|exponential|linear))?"
)
_NUMBER_HINT = "type for example 12.5, +10% or x2"
_COLUMNS = 10  # of the sketch of a ramp or a spike


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a phrase is read against: requests per second, the rate of ``now`` and the ``most`` that may be
    asked for; ``at_once``: the requests in flight of a closed loop, which has no rate, else 0."""

    now: float | None = None
    most: float | None = None
    at_once: int = 0


def parse_rate(text: str, most: float | None, now: float | None = None) -> float:
    """The requests per second that ``text`` means: a number, ``off``, or a change of ``now`` (``+10%``,
    ``x2``).

    Raises ValueError with one line to show.
    """
    typed = text.strip()
    if typed == "off":
        return 0.0
    if changed := _CHANGE.fullmatch(typed):
        by = float((changed["percent"] or changed["times"]).replace(",", "."))
        value = (now or 0.0) * (1 + by / 100 if changed["percent"] else by)
        return _checked(float(f"{value:.6g}"), typed, most)
    try:
        value = float(typed.replace(",", "."))
    except ValueError:
        raise ValueError(f"not a number: {clip(typed, 12)}; {_NUMBER_HINT}") from None
    return _checked(value, typed, most)


def _checked(value: float, typed: str, most: float | None) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{typed} is no rate; {_NUMBER_HINT}")
    if value < 0:
        raise ValueError(f"a rate is 0 or more, not {typed}")
    if most is not None and value > most:
        raise ValueError(f"{typed} is over the maximum of {rate(most)} (--max-rate)")
    return value


def parse_phrase(text: str, bounds: Bounds) -> SetRate | SetConcurrency:
    """The command that ``text`` means: a rate as of :func:`parse_rate`; a ramp, ``40 in 30s`` (with ``exp``
    by the same factor in the same time); a spike, ``90 for 10s``; a closed loop, ``closed 32``.

    Raises ValueError with one line to show.
    """
    typed = " ".join(text.lower().split())
    if typed.split(" ", 1)[0] == "closed":
        return SetConcurrency(_at_once(typed.removeprefix("closed").strip()))
    if bounds.at_once and (_CHANGE.match(typed) or _TIMED.fullmatch(typed)):
        raise ValueError("a closed loop has no rate yet: type 12.5 first")
    timed = _TIMED.fullmatch(typed)
    if timed is None:
        if typed.split(" ", 1)[0] in ("ramp", "spike"):
            raise ValueError("for how long? ramp 40 in 30s, spike 90 for 10s")
        return SetRate(parse_rate(typed, bounds.most, bounds.now))
    if timed["kind"] and timed["kind"] != ("ramp" if timed["how"] == "in" else "spike"):
        raise ValueError("a ramp is 40 in 30s, a spike is 90 for 10s")
    rps, lasts_s = parse_rate(timed["rate"], bounds.most, bounds.now), _time(timed["time"])
    shape = (timed["shape"] or "").strip()
    if timed["how"] == "for":
        if shape:
            raise ValueError(f"{shape} is for a ramp: 40 in 30s {shape}")
        return SetRate(rps, for_s=lasts_s)
    if shape in ("", "linear"):
        return SetRate(rps, over_s=lasts_s)
    if not (rps > 0 and (bounds.now is None or bounds.now > 0)):
        raise ValueError("an exponential ramp goes from and to more than 0")
    return SetRate(rps, over_s=lasts_s, shape="exponential")


def _at_once(typed: str) -> int:
    if not typed.isdecimal() or not 1 <= int(typed) <= MAX_AT_ONCE:
        raise ValueError(f"how many at once, from 1 to {MAX_AT_ONCE}? closed 32")
    return int(typed)


def _time(typed: str) -> float:
    if not typed:
        raise ValueError("for how long? 40 in 30s, 90 for 10s")
    try:
        seconds = parse_duration(typed)
    except ValueError:
        raise ValueError(f"not a time: {clip(typed, 12)}; type 30s, 500ms or 2m") from None
    if not 0 < seconds <= MAX_CHANGE_S:
        raise ValueError(f"a time is more than 0 and at most 24h, not {clip(typed, 12)}")
    return seconds


def preview(command: SetRate | SetConcurrency, bounds: Bounds, missed: Sequence[float]) -> str:
    """What ``command`` will do from now on, in one or two lines. ``missed``: the rates at which the SLO was
    missed before."""
    before = bounds.now or 0.0
    from_ = f"{bounds.at_once} at once" if bounds.at_once else f"{rate(before)} rps"
    if isinstance(command, SetConcurrency):
        what = f"{from_} → {command.requests} at once: each answer sends the next"
        return f"{what}\nthe phase begins anew as a closed loop"
    if bounds.at_once:
        return f"{from_} → {rate(command.rps)} rps\nthe phase begins anew with that rate"
    low, high = sorted((before, command.rps))
    within = [one for one in missed if one <= command.rps]
    slo = f"; SLO missed at {rate(min(within))} before" if within and command.rps >= before else ""
    if command.over_s is not None:
        lasts, shape, mean = command.over_s, command.shape, (low + high) / 2
        if shape == "exponential" and 0 < low < high:
            mean = (high - low) / math.log(high / low)
        what = f"ramp {rate(before)} → {rate(command.rps)} rps, {shape}, {lasts:g} s"
    elif command.for_s is not None:
        lasts, mean = command.for_s, command.rps
        what = f"spike of {rate(command.rps)} rps for {lasts:g} s, then as before"
    else:
        return f"{rate(before)} → {rate(command.rps)} rps at once{slo}"
    return f"{what}  {_sketch(command, before)}\nabout {count(mean * lasts)} requests{slo}"


def _sketch(command: SetRate, before: float) -> str:
    """The rate over the time that the change takes, as columns."""
    top = max(before, command.rps) or 1.0
    if command.for_s is not None:
        side = [before] * (_COLUMNS // 3)
        rates = [*side, *[command.rps] * (_COLUMNS - 2 * len(side)), *side]
    else:
        shares = [column / (_COLUMNS - 1) for column in range(_COLUMNS)]
        rates = [before + (command.rps - before) * share for share in shares]
        if command.shape == "exponential" and before > 0 and command.rps > 0:
            rates = [before * (command.rps / before) ** share for share in shares]
    return "".join(UP[max(1, round(8 * one / top))] for one in rates)
