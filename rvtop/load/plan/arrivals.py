"""When requests are meant to be sent. Pure: no clock, no I/O; the same inputs give the same times.

One seeded stream of unit-rate arrivals ``E_0 <= E_1 <= ...`` (mean gap 1) is mapped through the
inverse of ``L(t)``, the integral of the rate: request ``k`` is intended at the ``t`` with
``L(t) = E_k`` (time-rescaling of a point process, Brown et al., Neural Computation 14, 2002). So a
change of rate takes effect at once, also in the middle of a wait; a pause adds nothing to ``L`` and
is never caught up; and every worker that knows the seed and the changes derives the same plan.

Times are seconds from the phase's start; rates are requests per second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["constant", "poisson", "gamma"]
Shape = Literal["linear", "exponential", "step", "spike"]

_BATCH = 4096


class UnitArrivals:
    """The unit-rate stream ``E_k``, extended as far as it is asked for.

    ``constant``: ``E_k = k``. ``poisson``: exponential gaps. ``gamma``: gaps of shape ``burstiness``
    and mean 1, so 1 is Poisson, below 1 is burstier (coefficient of variation ``1/sqrt(burstiness)``).
    """

    def __init__(
        self,
        kind: Kind,
        seed: tuple[int, ...],
        burstiness: float = 1.0,
        recorded: Floats | None = None,
    ) -> None:
        """``recorded``: a stream that was seen elsewhere (a trace), ascending; after it comes nothing."""
        if not burstiness > 0:
            raise ValueError(f"burstiness must be > 0, got {burstiness}")
        self._kind = kind
        self._recorded = recorded
        self._shape = burstiness
        # RandomState, not Generator: NumPy freezes its streams for ever, so a seed repeats across releases.
        self._random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
        self._known: Floats = np.empty(0)  # E_first … as far as it was asked for
        self._first = 0
        self._last = 0.0  # the newest of all

    def span(self, start: int, stop: int) -> Floats:
        """``E_start … E_(stop-1)``; shape (stop - start,). Raises ValueError for what was forgotten."""
        if self._recorded is not None:
            known = self._recorded[start:stop]
            return np.concatenate((known, np.full(stop - start - known.size, np.inf)))
        if self._kind == "constant":
            return np.arange(start, stop, dtype=np.float64)
        if start < self._first:
            raise ValueError(f"arrival {start} was forgotten, the first known is {self._first}")
        missing = stop - self._first - self._known.size
        if missing > 0:
            more: list[Floats] = []
            for _ in range(-(-missing // _BATCH)):
                gaps = (
                    self._random.standard_exponential(_BATCH)
                    if self._kind == "poisson"
                    else self._random.standard_gamma(self._shape, _BATCH) / self._shape
                )
                more.append(self._last + np.cumsum(gaps))
                self._last = float(more[-1][-1])
            self._known = np.concatenate((self._known, *more))
        return self._known[start - self._first : stop - self._first]

    def forget(self, before: int) -> None:
        """Drops the arrivals below ``before``: a run of days must not keep them all."""
        drop = min(before - self._first, self._known.size)
        if drop >= _BATCH:  # seldom enough to cost nothing
            self._known = self._known[drop:].copy()
            self._first += drop


@dataclass(frozen=True, slots=True)
class Ramp:
    """On the way to a rate: it begins at ``start`` and takes ``over_s`` seconds (> 0), linear or by the same
    factor in the same time (both rates > 0)."""

    start: float
    over_s: float
    exponential: bool = False

    def left(self, to: float, passed_s: float) -> Ramp | None:
        """What is left of it after ``passed_s`` on the way to the rate ``to``; None: nothing."""
        if passed_s <= 0:
            return self
        if passed_s >= self.over_s:
            return None
        line = RateLine()
        line.ramp_to(0.0, to, self)
        return Ramp(line.rate(passed_s), self.over_s - passed_s, self.exponential)


@dataclass(frozen=True, slots=True)
class _Piece:
    """The rate from ``t`` on: ``(rate + slope * d) * exp(growth * d)`` with ``d = time - t``, where slope or
    growth is 0; ``area`` is L(t)."""

    t: float
    rate: float
    slope: float
    area: float
    growth: float = 0.0  # per second

    def at(self, time: float) -> float:
        d = time - self.t
        if self.growth:
            return self.rate * math.exp(self.growth * d)
        return self.rate + self.slope * d

    def integral(self, time: float) -> float:
        d = time - self.t
        if self.growth:
            return self.area + self.rate * math.expm1(self.growth * d) / self.growth
        return self.area + d * (self.rate + 0.5 * self.slope * d)


class RateLine:
    """A piecewise linear or exponential rate(t) with its integral and the inverse of it.

    Pieces are appended in the order of time; the last one goes on for ever.
    """

    def __init__(self) -> None:
        self._pieces: list[_Piece] = [_Piece(0.0, 0.0, 0.0, 0.0)]

    @classmethod
    def constant(cls, rate: float) -> RateLine:
        """The same rate for ever."""
        line = cls()
        line.change(0.0, rate)
        return line

    @classmethod
    def ramp(cls, start: float, end: float, duration: float) -> RateLine:
        """From ``start`` to ``end`` over ``duration`` seconds, then ``end``."""
        line = cls()
        line.ramp_to(0.0, end, Ramp(start, duration))
        return line

    @classmethod
    def shaped(
        cls,
        shape: Shape,
        start: float,
        end: float,
        duration: float,
        *,
        steps: int = 1,
        peak_at: float = 0.0,
        peak_for: float = 0.0,
    ) -> RateLine:
        """From ``start`` to ``end`` over ``duration`` seconds, then ``end``: ``linear``; ``exponential`` (the
        same factor in the same time; both rates > 0); in ``steps`` holds of equal length, the first at
        ``start`` and the last at ``end``; or ``spike``: ``start``, but ``end`` for ``peak_for`` seconds from
        ``peak_at`` on.

        Raises ValueError for an exponential ramp from or to 0.
        """
        line = cls()
        if shape in ("linear", "exponential"):
            line.ramp_to(0.0, end, Ramp(start, duration, shape == "exponential"))
        elif shape == "step":
            for k in range(steps):
                share = k / (steps - 1) if steps > 1 else 1.0
                line.change(duration * k / steps, start + (end - start) * share)
        else:
            line.change(0.0, start)
            line.change(peak_at, end)
            line.change(peak_at + peak_for, start)
        return line

    def change(self, t: float, rate: float, slope: float = 0.0, growth: float = 0.0) -> None:
        """From ``t`` on the rate is ``rate + slope * (time - t)``, or ``rate * exp(growth * (time - t))``;
        pieces planned after ``t`` are dropped.

        Raises ValueError for a rate that is negative or not finite.
        """
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"a rate must be a finite number >= 0, got {rate}")
        t = max(t, 0.0)
        while self._pieces and self._pieces[-1].t >= t:
            self._pieces.pop()
        area = self._pieces[-1].integral(t) if self._pieces else 0.0
        self._pieces.append(_Piece(t, rate, slope, area, growth))

    def ramp_to(self, t: float, rate: float, ramp: Ramp | None) -> None:
        """From ``t`` on ``ramp`` leads to ``rate``, which stands then; None: at once.

        Raises ValueError as :meth:`change` does, and for an exponential ramp from or to 0.
        """
        if ramp is None:
            self.change(t, rate)
            return
        if not ramp.exponential:
            self.change(t, ramp.start, (rate - ramp.start) / ramp.over_s)
        elif ramp.start > 0 and rate > 0:
            self.change(t, ramp.start, growth=math.log(rate / ramp.start) / ramp.over_s)
        else:
            raise ValueError("an exponential ramp needs rates > 0 at both ends")
        self.change(t + ramp.over_s, rate)

    def splice(self, t: float, plan: RateLine) -> None:
        """From ``t`` on follow ``plan`` as it stands at ``t`` and later."""
        piece = plan._piece_at(t)
        self.change(t, max(0.0, piece.at(t)), piece.slope, piece.growth)
        for later in plan._pieces:
            if later.t > t:
                self.change(later.t, later.rate, later.slope, later.growth)

    def _piece_at(self, t: float) -> _Piece:
        found = self._pieces[0]
        for piece in self._pieces:
            if piece.t > t:
                break
            found = piece
        return found

    def rate(self, t: float) -> float:
        """The rate at ``t``."""
        return max(0.0, self._piece_at(t).at(t))

    def expected(self, t: float) -> float:
        """``L(t)``: how many unit arrivals fit before ``t``."""
        return self._piece_at(t).integral(t)

    def when(self, units: Floats) -> Floats:
        """The times at which ``L`` reaches ``units`` (ascending); inf where it never does. Same shape."""
        areas = np.array([p.area for p in self._pieces])
        # A pause leaves several pieces with one area: an arrival exactly there waits for the resume.
        index = np.searchsorted(areas, units, side="right") - 1
        times = np.full(units.shape, np.inf)
        for i in np.unique(index):
            chosen = index == i
            times[chosen] = self._reach(int(i), units[chosen])
        return times

    def _reach(self, i: int, units: Floats) -> Floats:
        piece = self._pieces[i]
        need = units - piece.area
        if piece.growth:
            grown = need * piece.growth / piece.rate  # a falling rate reaches only so far, though this piece
            with np.errstate(divide="ignore", invalid="ignore"):  # ends before
                d = np.log1p(grown) / piece.growth
            return piece.t + np.where(grown > -1.0, d, np.inf)
        if piece.slope == 0.0:
            if piece.rate == 0.0:
                return np.full(need.shape, np.inf)
            return piece.t + need / piece.rate
        # rate*d + slope*d²/2 = need, in the form that keeps its digits when slope is small
        root = piece.rate * piece.rate + 2.0 * piece.slope * need
        with np.errstate(divide="ignore", invalid="ignore"):
            d = 2.0 * need / (piece.rate + np.sqrt(root))
        d = np.where(need <= 0.0, 0.0, d)
        return piece.t + np.where(root >= 0.0, d, np.inf)
