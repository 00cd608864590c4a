"""A length as a scenario gives it: a number, or a distribution to draw from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from rvtop.scenario.part import Count, Mistake, Number, Part, fail

#: What each distribution must be given, and what it may be given besides.
_NEEDS = {
    "normal": ("mean", "std"),
    "lognormal": ("mean", "std"),
    "uniform": ("min", "max"),
    "exponential": ("mean",),
}
_MAY = ("min", "max")
MOST = 10_000_000


class Lengths(Part):
    """Whole numbers drawn from a distribution, rounded and clamped to ``min``..``max`` (1 and no limit).

    ``mean`` and ``std`` are those of the lengths themselves before clamping, for ``lognormal`` too.
    ``uniform`` takes each number of ``min``..``max`` equally often.
    """

    dist: Literal["normal", "lognormal", "uniform", "exponential"]
    mean: Annotated[Number, Field(gt=0, le=MOST)] | None = None
    std: Annotated[Number, Field(gt=0, le=MOST)] | None = None
    min: Annotated[Count, Field(le=MOST)] | None = None
    max: Annotated[Count, Field(le=MOST)] | None = None

    def contradictions(self) -> Iterator[Mistake]:
        needs = _NEEDS[self.dist]
        for key in ("mean", "std", "min", "max"):
            given = getattr(self, key) is not None
            if key in needs and not given:
                yield Mistake(f"is missing ({self.dist} needs {' and '.join(needs)})", key, ("dist",))
            if given and key not in needs and key not in _MAY:
                takes = ", ".join(dict.fromkeys((*needs, *_MAY)))
                yield Mistake(f"has no meaning for {self.dist}, which takes {takes}", key, ("dist",))
        if self.min is not None and self.max is not None and self.min > self.max:
            yield Mistake(f"is above max, {self.max}", "min", ("max",))
        elif self.mean is not None and not self.low <= self.mean <= self.high:
            bounds = f"{self.low} to {self.high:g}"
            yield Mistake(f"must lie between min and max, {bounds}, got {{written}}", "mean", ("min", "max"))

    @property
    def low(self) -> int:
        return 1 if self.min is None else self.min

    @property
    def high(self) -> float:
        return math.inf if self.max is None else self.max

    @property
    def average(self) -> float:
        """The mean, leaving aside what clamping does to it."""
        return self.mean if self.mean is not None else (self.low + self.high) / 2


def _number_or_keys(value: object) -> object:
    if isinstance(value, Mapping | Lengths) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    fail("must be a whole number or {dist: normal, mean: M, std: S}, got {written}")


def _which(value: object) -> str:
    """The tag: no key of a file, or it would be taken for one in an error's path."""
    return "(drawn)" if isinstance(value, Mapping | Lengths) else "(number)"


#: ``600``, or ``{dist: normal, mean: 600, std: 100, min: 1, max: 2048}``.
Length = Annotated[
    Annotated[Annotated[Count, Field(le=MOST)], Tag("(number)")] | Annotated[Lengths, Tag("(drawn)")],
    Discriminator(_which),
    BeforeValidator(_number_or_keys),
]


def average(length: int | Lengths) -> float:
    """The mean of a length."""
    return length.average if isinstance(length, Lengths) else float(length)


def highest(length: int | Lengths) -> float:
    """No length drawn is above this."""
    return length.high if isinstance(length, Lengths) else float(length)
