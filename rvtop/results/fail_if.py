"""``--fail-if``: what a comparison must not show. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rvtop.errors import UserError
from rvtop.results.compare import ALL, BY_KEY, SIGNIFICANT, Comparison, Row

_EXPRESSION = re.compile(r"\s*([a-z0-9_]+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*(%)?\s*(!)?\s*")


@dataclass(frozen=True, slots=True)
class Goal:
    """Missed where B's figure, or with ``percent`` its change in % of A's, is beyond ``limit``. A change that
    is not significant misses it only with ``always``."""

    text: str
    key: str
    above: bool
    limit: float
    percent: bool
    always: bool = False

    def missed(self, found: Comparison) -> str:
        """Why it is missed, one line; empty where it is not. What can't be told is missed."""
        return self._told(found) if self._counts(found) else ""

    def spared(self, found: Comparison) -> str:
        """That a change is beyond the limit but does not count, one line; else empty."""
        why = self._told(found)
        if not why or self._counts(found):
            return ""
        return f"{why}: {self._row(found).verdict}, so it is not missed; with ! it would be"

    def _row(self, found: Comparison) -> Row:
        missing = Row(BY_KEY[self.key], None, None, None, None, "")  # of neither side
        return next((row for row in found.parts[ALL] if row.figure.key == self.key), missing)

    def _counts(self, found: Comparison) -> bool:
        """B's own figure is measured, whatever A's is; a change is judged, where a comparison could be."""
        row = self._row(found)
        told = self.percent and row.percent is not None
        return not told or self.always or row.verdict in ("", SIGNIFICANT)

    def _told(self, found: Comparison) -> str:
        row = self._row(found)
        value = row.percent if self.percent else row.b
        what = f"--fail-if {self.text}: {found.b.where}: {row.figure.name}"
        if self.percent and value is None:
            why = row.word or "it is missing on one side"
            if row.a is not None and row.b is not None:
                why = row.word or "the two are not comparable; the notes say why"
            if row.a == 0:
                why = "it is 0 in the reference"
            return f"{what}: its change can't be told: {why}"
        if value is None:
            return f"{what}: it is missing"
        unit = "%" if self.percent else row.figure.unit
        beyond = value > self.limit if self.above else value < self.limit
        return f"{what} is {value:+.4g} {unit}".rstrip() if beyond else ""


def parse_goal(text: str) -> Goal:
    """``ttft_p99 > 5%`` (its change), ``errors > 0`` (B's own); ``!`` at its end: also a change that is not
    significant. A key may have its unit (``ttft_p99_ms``). Raises UserError."""
    read = _EXPRESSION.fullmatch(text)
    if read is None:
        raise UserError(f"--fail-if {text!r}: write FIGURE > NUMBER or FIGURE < NUMBER, with % for a change")
    key, sign, limit, percent, always = read.groups()
    key = key.removesuffix("_ms")
    if key not in BY_KEY:
        raise UserError(f"--fail-if {text!r}: no figure {key}; there are: {', '.join(BY_KEY)}")
    if percent and BY_KEY[key].points:
        raise UserError(f"--fail-if {text!r}: {key} is a percentage itself; write it without %")
    if always and not percent:
        raise UserError(f"--fail-if {text!r}: ! goes with a change in %; B's own figure always counts")
    return Goal(" ".join(text.split()), key, sign == ">", float(limit), bool(percent), bool(always))
