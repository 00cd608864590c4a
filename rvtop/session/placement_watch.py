"""What the target says of where its work is done, during a load: the plan by which it places models or stages
(``--auto-place``, ``--auto``), its stages, and what engines are that came after the load began."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from rvtop.contract.placement import Placement, placement_of
from rvtop.contract.stages import Passed, Stage, stages_of
from rvtop.errors import UserError
from rvtop.session.events import EventFeed
from rvtop.session.load_target import LoadTarget
from rvtop.target.probe import ask

#: Seconds from one look to the next.
_EVERY = 2
_LIMIT_S = 5.0
#: The topologies that may have a plan or stages.
_TELLING = ("rvc", "graph")
#: Looks after an engine came or went: it may be told of by its figures before it is by the topology.
_LOOKS = 2


class PlacementWatch:
    """``placement`` is the plan in force; None where the target has none. An event says each plan's reasons,
    and each second's row has its replicas. ``stages`` are those of a graph. Where engines come or go, the
    target's places, settings and GPUs are learned anew."""

    def __init__(self, target: LoadTarget, feed: EventFeed) -> None:
        self.placement: Placement | None = None
        self.stages: tuple[Stage, ...] = ()
        self._passed: Passed = {}  # the stages, until the look at
        self._looked_s = 0.0
        self._target = target
        self._feed = feed
        self._asked: asyncio.Task[None] | None = None
        self._url = ""  # of the target that was asked last
        self._without = False  # it has no plan
        self._since = _EVERY
        self._engines: frozenset[str] = frozenset()  # that told figures in the last second
        self._looks = 0  # still to come for a change of these

    def look(self, row: dict[str, Any]) -> None:
        """Once a second: notes the plan in its row of the timeline, and asks anew now and then."""
        info = self._target.info
        if info is None or info.topology is None:
            self.placement, self.stages = None, ()
            return
        if info.pages != self._url:
            self._url, self.placement, self._since = info.pages, None, _EVERY
            self._without = info.topology not in _TELLING
            self.stages, self._passed = (), {}
            self._engines = frozenset(info.places)  # those of the probe
        if self.placement is not None:
            row["placement"] = {model.name: model.replicas for model in self.placement.models}
        if self.stages:
            row["stages"] = {stage.name: [stage.ready, stage.in_flight, stage.ms] for stage in self.stages}
        told = frozenset(engine["name"] for engine in row["engines"])  # none: it doesn't answer
        if told and told != self._engines:
            self._engines, self._looks = told, _LOOKS
        self._since += 1
        wanted = not self._without or self._looks > 0
        if not wanted or self._since < _EVERY or (self._asked is not None and not self._asked.done()):
            return
        self._since = 0
        self._asked = asyncio.create_task(self._ask(info.pages))

    async def _ask(self, url: str) -> None:
        try:
            status, body = await asyncio.to_thread(
                ask, f"{url}/rvtop/topology", self._target.transport, _LIMIT_S
            )
            facts = json.loads(body) if status == 200 else None
        except (UserError, OSError, ValueError, RecursionError):
            return  # whether it answers at all is said elsewhere
        self._looks = max(0, self._looks - 1)
        info = self._target.info
        if info is None or info.pages != url:
            return  # the load has gone over to another server meanwhile
        if url == self._url and facts is not None:
            now_s = time.monotonic()
            self.stages, self._passed = stages_of(facts, self._passed, now_s - self._looked_s)
            self._looked_s = now_s
            self._target.learn_engines(facts)
            self.take(placement_of(facts))

    def take(self, now: Placement | None) -> None:
        """What the target says now."""
        before, self.placement = self.placement, now
        self._without = now is None and not self.stages
        if now is None or (before is not None and before.number == now.number):
            return
        for model in now.models:
            self._feed.say(f"plan {now.number}: {model.name} gets {model.reason}", kind="placement")
