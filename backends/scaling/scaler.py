"""Autoscaling of rvc: looks at each model, decides (:mod:`backends.scaling.policy`), and has replicas started
and retired."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Protocol

from backends.process.looks import Looks
from backends.scaling import replicas
from backends.scaling.counts import Counts
from backends.scaling.demand import Demand, Pages
from backends.scaling.policy import Seen, Waited, decide
from backends.scaling.replicas import Settling
from backends.scaling.window import Window
from backends.settings.autoscale import Autoscale

log = logging.getLogger("backends.scaling")

# Ray's controller decides each 0.1 s on samples of 10 s; here samples are of now.
STEP_S = 0.5


class Replicas(replicas.Replicas, Protocol):
    """The replicas of one model, which say what the rule asks."""

    @property
    def places(self) -> float | None:
        """What a replica computes at once; None while that is not known."""
        ...

    def counts(self) -> Counts: ...


class Scaler:
    """``in_flight`` asks for the requests of each model, in replicas and before them; ``pages`` for the pages
    that rules are read off; ``wanted`` is told how many replicas each model is to have, ``targets`` how many
    requests each of them is to hold."""

    def __init__(
        self,
        scale: Autoscale,
        pools: Sequence[Replicas],
        in_flight: Callable[[], Awaitable[Mapping[str, int]]],
        pages: Pages,
        wanted: MutableMapping[str, int],
        targets: MutableMapping[str, float],
    ) -> None:
        self._targets = targets
        self._scale = scale
        self._in_flight = in_flight
        self._models = [_Model(scale, pool, pages, wanted) for pool in pools]
        self._looks = Looks(self.look, STEP_S, "the load", log)

    def start(self) -> None:
        """Begins to decide, each STEP_S."""
        self._looks.start()

    async def failed(self) -> str:
        """Returns if the loop broke, which only a bug can do."""
        return f"autoscaling ended: {await self._looks.failed()!r}"

    async def close(self) -> None:
        await self._looks.stop()
        for model in self._models:
            await model.pool.close()

    async def look(self) -> None:
        """One look, and what follows from it."""
        held = await self._in_flight()
        if not held:  # the router is down
            return
        now_s = time.monotonic()
        for model in self._models:
            await model.demand.look(now_s, model.pool.counts())
            each = self._scale.target_ongoing_requests or model.pool.places
            if each is not None:
                self._targets[model.pool.model] = each
                model.step(now_s, held.get(model.pool.model, 0), each)


class _Model:
    """One model's decisions."""

    def __init__(
        self, scale: Autoscale, pool: Replicas, pages: Pages, wanted: MutableMapping[str, int]
    ) -> None:
        self.pool = pool
        self.demand = Demand(scale, pool.model, pages)
        self._scale = scale
        self._wanted = wanted
        self._target = wanted[pool.model] = scale.first
        self._window = Window(scale.look_back_period_s, scale.aggregation_function)
        self._waited = Waited()
        self._settling = Settling(pool)

    def step(self, now_s: float, requests: float, per_replica: float) -> None:
        """Takes a sample, decides, and begins what it takes to get there."""
        self._window.add(now_s, requests)
        counts = self.pool.counts()
        desired = self.demand.desired(now_s, requests, counts.healthy, per_replica)
        seen = Seen(now_s, self._window.value(now_s), counts.healthy, self._target, desired)
        target, self._waited = decide(self._scale, per_replica, seen, self._waited)
        if target != self._target:
            log.info(
                "%s: %d → %d replicas (%.1f requests, %g a replica%s)",
                *(self.pool.model, self._target, target, seen.requests, per_replica),
                f"; asked for beside them: {max(desired):.1f} replicas" if desired else "",
            )
            self._target = self._wanted[self.pool.model] = target
            self._settling.anew()
        self._settling.settle(now_s, target)
