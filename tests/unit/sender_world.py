"""A worker's sender in virtual time, for tests: its wire, its pool, a server that answers, and the time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import NEVER, PhasePlan, PlanEvent
from rvtop.load.wire.endpoint import Address, Endpoint
from rvtop.load.wire.record import Record
from rvtop.load.worker.messages import WorkerSpec
from rvtop.load.worker.sender import Sender

MS = 1_000_000
S = 1_000_000_000


class FakeWire:
    """Sends what was scheduled at its time, and wakes the sender at the time that it set."""

    def __init__(self, *, can_schedule: bool) -> None:
        self.can_schedule = can_schedule
        self.due_ns = NEVER
        self.waiting: list[Record] = []
        self.requests: dict[Record, bytes] = {}
        self.delivers_now: list[bool] = []
        self.deliver_now = self.delivers_now.append

    @property
    def scheduled(self) -> int:
        return len(self.waiting)

    def set_due(self, at_ns: int) -> None:
        self.due_ns = at_ns

    def schedule(self, record: Record, request: bytes, intended_ns: int) -> None:
        assert record.intended_ns == intended_ns
        self.waiting.append(record)
        self.requests[record] = request

    def unschedule(self, from_ns: int) -> int | None:
        gone = [record.intended_ns for record in self.waiting if record.intended_ns >= from_ns]
        self.waiting = [record for record in self.waiting if record.intended_ns < from_ns]
        return min(gone, default=None)


class World:
    """A sender, its pool, a server that answers each request after ``answer_ns``, and the time."""

    def __init__(
        self,
        prompts: Path,
        *phases: PhasePlan,
        can_schedule: bool = True,
        answer_ns: int = 300 * MS,
        traces: str = "",
    ) -> None:
        address = Address("http://127.0.0.1:9")
        spec = WorkerSpec(0, 1, 0, 3, address, str(prompts), ("m",), {}, phases, traces=traces)
        self.now_ns = 0
        self.answer_ns = answer_ns
        self.wire = FakeWire(can_schedule=can_schedule)
        self.spec = spec
        self.requests = self.wire.requests
        self.targets: list[tuple[int, Endpoint]] = []  # when the pool went over, and where
        self.busy: dict[Record, None] = {}
        self.most = 0
        self.ends: list[tuple[int, int, Record]] = []
        self.sent: list[Record] = []
        self.dropped: list[Record] = []
        self.drained: list[int] = []
        self.stops: list[int] = []
        self.pending: list[tuple[int, PlanEvent]] = []  # commands, by when they are in the pipe
        self.sender = Sender(
            spec,
            Prompts(prompts, spec.models, spec.body),
            Endpoint(address),
            self,  # type: ignore[arg-type]
            on_dropped=self.dropped.append,
            on_drained=self.drained.append,
            on_stop=lambda: self.stops.append(self.now_ns),
            poll_commands=self._poll_commands,
            clock=lambda: self.now_ns,
        )

    def _poll_commands(self) -> None:
        while self.pending and self.pending[0][0] <= self.now_ns:
            self.sender.command(self.pending.pop(0)[1])

    # -- as a ConnectionPool ------------------------------------------------------------------

    def submit(self, record: Record, request: bytes) -> None:
        record.sent_ns = self.now_ns
        self.requests[record] = request
        self.busy[record] = None
        self.sent.append(record)
        heapq.heappush(self.ends, (self.now_ns + self.answer_ns, record.seq, record))

    def cancel(self, record: Record, kind: str, text: str) -> None:
        if record in self.busy:
            record.fail(kind, text)
            self._end(record)

    def retarget(self, target: Endpoint) -> None:
        self.targets.append((self.now_ns, target))

    def cancel_all(self, kind: str, text: str) -> None:
        self.wire.unschedule(0)
        self.cancel_in_flight(kind, text)

    def cancel_in_flight(self, kind: str, text: str) -> None:
        for record in list(self.busy):
            self.cancel(record, kind, text)

    def register_sent(self) -> None:
        pass

    reap = register_sent

    def _end(self, record: Record) -> None:
        del self.busy[record]
        if self.sender.slots.size or self.sender.talks:
            self.sender.follow_up(record)
        if not (self.busy or self.sender.sending):
            self.sender.check_drained(self.now_ns)

    # -- time ---------------------------------------------------------------------------------

    def run(self, until_ns: int) -> None:
        """Lets everything happen that comes before ``until_ns``."""
        while True:
            self.ends = [end for end in self.ends if end[2] in self.busy]
            heapq.heapify(self.ends)
            steps: list[tuple[int, Callable[[], Any]]] = [(self.wire.due_ns, self.sender.send)]
            if self.wire.waiting:
                first = min(self.wire.waiting, key=lambda record: record.intended_ns)
                steps.append((first.intended_ns, lambda first=first: self._send_scheduled(first)))
            if self.ends:
                steps.append((self.ends[0][0], lambda: self._end(self.ends[0][2])))
            if self.pending:
                steps.append((self.pending[0][0], self._poll_commands))
            at_ns, step = min(steps, key=lambda one: one[0])
            if at_ns >= until_ns:
                self.now_ns = until_ns
                return
            self.now_ns = max(self.now_ns, at_ns)
            if step == self.sender.send:
                self.wire.due_ns = NEVER  # it is called once
            step()

    def _send_scheduled(self, record: Record) -> None:
        self.wire.waiting.remove(record)
        self.submit(record, self.requests[record])
