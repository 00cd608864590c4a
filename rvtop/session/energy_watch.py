"""What serving takes, each second of a load: power, energy a token and a request, money where prices are set.

The figures are those of the summary (``results.energy``, ``stats.prices``), over the last half minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from rvtop.contract.spending import Spending
from rvtop.results.cost import joules_of, powers_of
from rvtop.results.energy import MEASURED, GpuId, Idle, MeteredEnergy, Meters, over, told_by, watts_of
from rvtop.stats.prices import Prices, cost, per_million, prefill_share, split

WINDOW_S = 30

Row = Mapping[str, Any]


class EnergyWatch:
    """``spending`` is what there is to show; None while nothing tells power or energy and no price is set."""

    def __init__(self, prices: Prices) -> None:
        self.spending: Spending | None = None
        self._prices = prices
        self._powers = powers_of(prices)
        self._rows: deque[tuple[Row, int]] = deque()
        self._meters = Meters()  # of these rows
        self._idle = Idle(())
        self._served: list[GpuId] = []
        self._url = ""
        self._ever: set[GpuId] = set()  # that served at this URL: replicas come and go

    def begin_at(self, url: str) -> None:
        """The server is the one at ``url`` from now on: the GPUs of another one are none of its."""
        if url != self._url:
            self._url = url
            self._ever.clear()

    def look(self, row: Row, tokens: int, engine_gpus: int | None) -> None:
        """Once a second: its line of the timeline. ``tokens`` is how many came so far by the client's own
        count; ``engine_gpus`` how many GPUs the engines say they have."""
        self._rows.append((row, tokens))
        self._meters.add(row)
        if len(self._rows) > WINDOW_S + 1:
            self._meters.forget(self._rows.popleft()[0])
        first, first_tokens = self._rows[0]
        counts = [n for one, _ in self._rows if (n := one.get("engine_gpus", engine_gpus)) is not None]
        energy = MeteredEnergy(self._meters, max(counts, default=None), self._powers)
        self._ever.update(energy.gpus)
        if energy.gpus != self._served:
            self._served, self._idle = energy.gpus, Idle(energy.gpus)
        self._idle.add(row)
        span = (first["t_s"], row["t_s"])
        made, ended = _growth(first, row, "generation_tokens"), _growth(first, row, "requests_ok")
        made = tokens - first_tokens if made is None else made
        ended = row["ok"] - first["ok"] if ended is None else ended
        block = energy.over([span], tokens=made, requests=ended or 0)
        watts = watts_of(row, self._served)
        if block is None and watts is None and not self._prices.any:
            self.spending = None
            return
        idle, idle_from = self._idle.watts(self._powers)
        # The mean of the window: replicas come and go.
        gpus: float | None = fmean(counts) if counts else len(self._served) or None
        paid = cost(self._prices, gpus, span[1] - span[0], joules_of(block)).whole
        share = prefill_share(
            *(_growth(first, row, f"{name}.sum") for name in ("prefill_time", "decode_time"))
        )
        of_input, of_output = split(paid, share)
        taken = _growth(first, row, "prompt_tokens")
        joules = self._so_far(row)
        self.spending = Spending(
            watts=watts,
            watts_idle=idle,
            measured=idle_from == MEASURED,
            on_cpu=not self._served and watts is not None,
            joules=joules,
            joules_per_token=block["joules_per_token"] if block is not None else None,
            joules_per_request=block["joules_per_request"] if block is not None else None,
            money_per_hour=over(None if paid is None else 3600 * paid, span[1] - span[0]),
            money_per_mtok=per_million(paid, None if taken is None else taken + made),
            money_per_mtok_in=per_million(of_input, taken),
            money_per_mtok_out=per_million(of_output, made),
        )

    def _so_far(self, row: Row) -> float | None:
        """The energy since the server is watched, of the GPUs that serve or did and, where they tell, of the
        processors; None where one of the GPUs does not tell."""
        cpu: float | None = row.get("cpu_joules")
        there = {(gpu["node"], gpu["index"]) for gpu in row.get("gpus") or ()}
        served = [*self._served, *sorted(self._ever & there - set(self._served))]
        if not served:
            return cpu
        of_gpus = told_by(row, served, "joules")
        return None if of_gpus is None else of_gpus + (cpu or 0.0)


def _growth(first: Row, last: Row, name: str) -> float | None:
    """How much a counter of the server grew; None where it has none."""
    before, after = ((row.get("totals") or {}).get(name) for row in (first, last))
    return None if before is None or after is None else float(after - before)
