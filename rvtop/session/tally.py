"""How requests fared by a name that each of them has: since the start, and over the last seconds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np

from rvtop.contract.arms import Arm
from rvtop.stats.slo import meets

WINDOW_S = 10
_SECOND_NS = 1_000_000_000


@dataclass
class _Second:
    """What ended in a second, by name: (TTFT ms, E2E ms, tokens) of each that ended well."""

    index: int
    ended: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


class Tally:
    """Takes rows of ``requests.jsonl``, gives figures as an :class:`Arm` has them."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S + 1)
        self._ok: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._began_ns = perf_counter_ns()

    @property
    def names(self) -> set[str]:
        """All that had a request."""
        return {*self._ok, *self._errors}

    def take(self, name: str, row: Mapping[str, Any], now_ns: int) -> None:
        """Takes in a request that ended just now."""
        second, first = self._second(now_ns), row["first_token_ns"]
        if row["error"] is not None or first is None:
            self._errors[name] += 1
            second.errors[name] += 1
            return
        self._ok[name] += 1
        began = row["intended_ns"]
        times = (first - began) / 1e6, (row["last_token_ns"] - began) / 1e6
        second.ended.setdefault(name, []).append((*times, row["output_tokens"] or 0))

    def figures(self, now_ns: int, names: Sequence[str], limits: Mapping[str, float]) -> list[Arm]:
        """One of each of ``names``. ``limits``: what makes a request good, ms by figure."""
        self._second(now_ns)
        recent = [s for s in self._seconds if s.index > now_ns // _SECOND_NS - WINDOW_S]
        totals = {name: sum(len(s.ended.get(name, ())) + s.errors[name] for s in recent) for name in names}
        all_of_them = sum(totals.values())
        span_s = max(1.0, min(float(WINDOW_S), (now_ns - self._began_ns) / 1e9))
        return [
            self._one(name, recent, totals[name] / all_of_them if all_of_them else None, limits, span_s)
            for name in names
        ]

    def _one(
        self,
        name: str,
        recent: Sequence[_Second],
        got: float | None,
        limits: Mapping[str, float],
        span_s: float,
    ) -> Arm:
        rows = np.array([row for s in recent for row in s.ended.get(name, ())], np.float64).reshape(-1, 3)
        ttft, e2e, tokens = rows.T
        good = float(meets(ttft, e2e, tokens, limits).sum()) / span_s if limits else None

        def at(values: Any, percent: float) -> float | None:
            return float(np.percentile(values, percent)) if len(values) else None

        return Arm(
            name=name,
            got=got,
            ok=self._ok[name],
            errors=self._errors[name],
            errors_recent=sum(s.errors[name] for s in recent),
            ttft_p50=at(ttft, 50),
            ttft_p99=at(ttft, 99),
            ttft_mean=float(ttft.mean()) if len(ttft) else None,
            e2e_mean=float(e2e.mean()) if len(e2e) else None,
            tokens_per_s=float(tokens.sum()) / span_s if len(tokens) else None,
            goodput_rps=good,
        )

    def _second(self, now_ns: int) -> _Second:
        index = now_ns // _SECOND_NS
        if not self._seconds or self._seconds[-1].index != index:
            self._seconds.append(_Second(index))
        return self._seconds[-1]
