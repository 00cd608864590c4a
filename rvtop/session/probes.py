"""Probes beside the load: one-token requests at a low rate of their own, which tell what the load does to
others. A worker process of their own sends them, on connections of its own and outside any limit of requests
in flight; they are in no figure of the load.

They come at random times (Poisson), so that they see what the server is like on average and not how it
stands at every tenth step of the load (Wolff, Poisson arrivals see time averages, Operations Research 30,
1982).
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter_ns

import orjson

from rvtop.contract import run_files
from rvtop.contract.snapshot import Probes
from rvtop.load.fleet.fleet import WorkerFleet
from rvtop.load.fleet.workers import Workers
from rvtop.load.plan.schedule import PhasePlan, PlanEvent
from rvtop.load.worker.messages import AddTarget, Delta, WorkerSpec
from rvtop.results.append import RunFolderError
from rvtop.session.live import LiveState, dist, fold, merged
from rvtop.session.load_parts import Parts
from rvtop.session.player import LEAD_NS

#: The phase that they are of, in their own file.
PHASE = "probe"
#: So many prompts that differ from their first word on, so that a prefix cache knows none of them at first.
_PROMPTS = 256
#: Fields of the user's that would make other answers of them.
_LENGTHS = ("max_tokens", "max_completion_tokens", "min_tokens", "n", "best_of", "stream_options")


class ProbeRun:
    """The probes of a run at ``rate`` a second, sent as the load of ``spec`` is."""

    def __init__(self, parts: Parts, spec: WorkerSpec, rate: float) -> None:
        self._parts = parts
        self._rate = rate
        self._targets = 1
        self._lost = False
        self.live = LiveState(spec.t0_ns)
        folder = parts.request.out
        kind = "prompt" if spec.address.path.endswith("/v1/completions") else "messages"
        path = folder / run_files.PROBE_PROMPTS
        try:
            path.write_bytes(b"".join(_row(number, kind) for number in range(_PROMPTS)))
        except OSError as error:
            raise RunFolderError(f"{path}: can't be written: {error.strerror}") from error
        extra = {key: value for key, value in spec.extra.items() if key not in _LENGTHS}
        if spec.extra.get("max_completion_tokens") is not None:  # its server refuses max_tokens
            extra |= {"max_completion_tokens": 1}
        own = replace(
            spec,
            name="rvtop-probe",
            prompts=str(path.resolve()),
            body={"temperature": 0},
            extra=extra,
            phases=(PhasePlan(PHASE, rate, rate, arrivals="poisson"),),
            slo_ns={},
            most_in_flight=None,
            traces="",
        )
        guarded = parts.ending.guarded
        self._fleet = WorkerFleet(
            Workers(1), own, guarded(self._on_delta), guarded(self._on_lost), None, parts.ending.stderr_fd
        )

    async def start(self) -> None:
        """Starts their worker and waits until it stands by. Raises PoolError."""
        await self._fleet.start()

    def begin(self) -> None:
        """They are sent from now on."""
        self._fleet.send(PlanEvent(perf_counter_ns() + LEAD_NS, "phase", 0))

    def hold(self) -> None:
        """None is sent until `go_on`: the server that they go to is to end."""
        self._fleet.send(PlanEvent(perf_counter_ns() + LEAD_NS, "pause"))

    def go_on(self) -> None:
        """They are sent again."""
        self._fleet.send(PlanEvent(perf_counter_ns() + LEAD_NS, "resume"))

    def go_over(self, target: AddTarget, at_ns: int) -> None:
        """From ``at_ns`` on they go to a further target, as the load does."""
        self._fleet.send(target)
        self._fleet.send(PlanEvent(at_ns, "target", self._targets))
        self._targets += 1

    async def drain(self) -> None:
        """Sends no more; what is in flight is cut."""
        self._fleet.send(PlanEvent(perf_counter_ns(), "stop"))
        await self._fleet.drain()

    async def stop(self) -> None:
        """Ends their worker."""
        await self._fleet.stop()

    def kill(self) -> None:
        """Ends it at once."""
        self._fleet.kill()

    def shown(self, now_ns: int) -> Probes:
        """What there is to show of them."""
        live = self.live
        recent, last = live.recent(now_ns), live.last_full(now_ns)
        return Probes(
            rate_rps=self._rate,
            ttft=dist(last.ttft if last else None, merged([s.ttft for s in recent]), live.phase_ttft),
            sent=live.sent,
            ok=live.ok,
            in_flight=live.in_flight,
            errors=tuple(live.errors.most_common()),
        )

    def _on_delta(self, delta: Delta) -> None:
        self._parts.recorder.write(lambda log: log.probes(delta.lines))
        fold(self.live, delta)

    def _on_lost(self, index: int, why: str) -> None:
        """The load is sound without them."""
        self.live.lose(index)
        if not self._lost:
            self._lost = True
            self._parts.feed.say(f"the worker of the probes died ({why}); there are none from now on", "warn")


def _row(number: int, kind: str) -> bytes:
    text = f"{number} is a number. Say one word."
    said = {"prompt": text} if kind == "prompt" else {"messages": [{"role": "user", "content": text}]}
    return orjson.dumps({"id": number, **said, "max_tokens": 1}, option=orjson.OPT_APPEND_NEWLINE)
