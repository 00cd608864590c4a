"""What looks at each second of a load and says why its figures are what they are."""

from __future__ import annotations

from rvtop.session.comb_watch import CombWatch
from rvtop.session.energy_watch import EnergyWatch
from rvtop.session.live import LiveState
from rvtop.session.load_parts import Parts, Second
from rvtop.session.placement_watch import PlacementWatch
from rvtop.session.player import Player
from rvtop.session.replica_watch import ReplicaWatch
from rvtop.session.request import with_slo
from rvtop.session.saturation_watch import SaturationWatch
from rvtop.session.setup import slo_ns
from rvtop.session.task_watch import TaskWatch
from rvtop.session.verdict_watch import VerdictWatch
from rvtop.session.warm_up_watch import WarmUpWatch


class Watches:
    """Those of one load. `judge` adds to a second's row, so it comes before the row is written."""

    def __init__(self, parts: Parts, live: LiveState, player: Player) -> None:
        request, say = parts.request, parts.feed.say
        self._target = parts.target
        self._paired = request.pair is not None
        self._live = live
        self._player = player
        self.comb = CombWatch(say)
        self.energy = EnergyWatch(request.prices)
        self.verdict = VerdictWatch(say, parts.target, str(request.workers))
        self.saturation = SaturationWatch(parts, live, player)
        self.placement = PlacementWatch(parts.target, parts.feed)
        scenario = request.scenario
        self.tasks = TaskWatch(slo_ns(None if scenario is None else with_slo(scenario, request.slo).slo))
        self._warm_up = WarmUpWatch(parts, live, player)
        self._replicas = ReplicaWatch(say)

    def judge(self, second: Second) -> None:
        """What binds the system now, and what it is."""
        self.placement.look(second.row)
        # What is told of a pair's replicas is of both servers, of its engines of one.
        second.row["engine_gpus"] = None if self._paired else self._target.gpus_held(second.row["replicas"])
        self.verdict.look(self._live, self._player.start_ns, second, self.comb.comb)

    def look(self, second: Second) -> None:
        """Everything else."""
        gap_ms: float | None = second.row["server_itl_ms"]
        info = self._target.info
        topology = self._target.topology or (info.topology if info is not None else None)
        self.comb.look(self._live, second.now_ns, gap_ms, topology)
        if not self._paired:  # what is told of energy is of one of the two servers
            self.energy.begin_at(self._target.url)
            self.energy.look(second.row, self._live.tokens, second.row["engine_gpus"])
        self.saturation.look(second)
        self.tasks.look(second.now_ns)
        self._warm_up.look(second)
        self._replicas.look(second.row)
