"""Admission: which engine answers a request, and how many may wait for one.

One queue for all engines of a model, in order of arrival, and an engine is chosen when a slot is free: the
one with the fewest requests in flight, in turn among equals. What does not fit is refused at once (429).
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterable

from backends.engines.protocol import Engine
from backends.errors import ApiError, bad_request, queue_full, unavailable


class Slot:
    """A place on an engine, held from admission to the end of the generation."""

    def __init__(self, admission: Admission, slot: EngineSlot) -> None:
        self._admission = admission
        self._slot: EngineSlot | None = slot  # None once released
        self._life = slot.life
        self.engine = slot.engine

    def mark_down(self) -> None:
        """The engine died: it gets no more requests until it is set up again, or it would fail the whole
        queue. (Call it before :meth:`release`; ignored when the engine has come back since.)"""
        if self._slot is not None and self._slot.life == self._life:
            self._admission.set_up(self.engine.info.engine, False)

    def release(self) -> None:
        """Gives the place to the next waiting request. A second call does nothing."""
        if self._slot is not None:
            slot, self._slot = self._slot, None
            self._admission._leave(slot)


class EngineSlot:
    """One engine as the queue sees it."""

    def __init__(self, engine: Engine, queues: int = 1) -> None:
        self.engine = engine
        self._queues = queues
        self.up = True
        self.life = 0  # counts how often it was set up
        self.in_flight = 0

    @property
    def concurrency(self) -> int:
        """How many the engine computes at once, of those that come through this queue."""
        return math.ceil(self.engine.info.concurrency / self._queues)

    @property
    def idle(self) -> bool:
        """Whether the next request would be computed at once."""
        return self.up and self.in_flight < self.concurrency

    @property
    def takes(self) -> bool:
        """Whether the next request may be handed over."""
        return self.idle or (self.up and self.engine.info.own_queue)


class Admission:
    """The queue in front of the engines of one model. Belongs to one event loop; nothing here blocks.

    ``max_queue`` None means unlimited. Engines with a queue of their own get everything at once; what is in
    flight on them above their ``concurrency`` counts as waiting. Where this is one of several ``queues`` in
    front of the same engines, which get equal parts of the requests, it counts on its part of their
    ``concurrency``.
    """

    def __init__(
        self, engines: Iterable[Engine] = (), max_queue: int | None = 1024, *, queues: int = 1
    ) -> None:
        self._slots: list[EngineSlot] = [EngineSlot(engine, queues) for engine in engines]
        self._queues = queues
        self._max_queue = max_queue
        self._waiters: OrderedDict[asyncio.Future[Slot], None] = OrderedDict()
        self._turn = 0
        self._closed = False

    # -- engines come and go ---------------------------------------------------------------------------

    @property
    def engines(self) -> list[Engine]:
        return [slot.engine for slot in self._slots]

    @property
    def ready(self) -> bool:
        """Whether some engine can answer."""
        return not self._closed and any(slot.up for slot in self._slots)

    def add(self, engine: Engine) -> None:
        self._slots.append(EngineSlot(engine, self._queues))
        self._serve_waiters()

    def remove(self, engine_id: str) -> None:
        """Takes an engine out; requests in flight on it go on or fail by themselves."""
        for slot in self._named(engine_id):
            slot.up = False
            self._slots.remove(slot)
        self._fail_waiters_if_down()

    def set_up(self, engine_id: str, up: bool) -> None:
        """Marks an engine as able (or, while it restarts, unable) to take requests."""
        for slot in self._named(engine_id):
            slot.up = up
            slot.life += up
        self._serve_waiters()
        self._fail_waiters_if_down()

    def close(self) -> None:
        """Admits no more requests; waiting ones get 503."""
        self._closed = True
        self._fail_waiters_if_down()

    # -- requests --------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Requests in this queue."""
        return len(self._waiters)

    @property
    def waiting(self) -> int:
        """Requests that no engine computes yet: in this queue, or beyond ``concurrency`` in an engine's
        own."""
        return self.queued + sum(max(0, slot.in_flight - slot.concurrency) for slot in self._slots)

    def restarts(self, engine_id: str) -> int:
        """How often an engine came back."""
        return sum(slot.life for slot in self._named(engine_id))

    def in_flight(self, engine_id: str) -> int:
        return sum(slot.in_flight for slot in self._named(engine_id))

    def check(self, count: int = 1) -> None:
        """Raises ApiError now if ``count`` calls of :meth:`acquire` would: 503 without an engine, 429 with a
        full queue, 400 when so many never fit."""
        if not self.ready:
            raise self._down()
        if self._max_queue is None:
            return
        most = self._max_queue + sum(slot.concurrency for slot in self._slots)
        if count > most:
            raise bad_request(
                f"This request asks for {count} answers (prompts × n); this server runs and queues at most "
                f"{most} at a time."
            )
        free = sum(max(0, slot.concurrency - slot.in_flight) for slot in self._slots if slot.up)
        would_wait = count - (0 if self._waiters else free)
        if would_wait > 0 and self.waiting + would_wait > self._max_queue:
            raise queue_full(self.waiting)

    async def acquire(self) -> Slot:
        """A slot, at once or after the requests that came before. Raises ApiError: 429 when ``max_queue``
        requests wait already, 503 when no engine is up (also while waiting)."""
        self.check()
        slot = None if self._waiters else self._pick()
        if slot is not None:
            return self._take(slot)
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()  # the slot came in the same moment as the cancellation
            else:
                self._waiters.pop(waiter, None)
            raise

    # -- inside ----------------------------------------------------------------------------------------

    def _named(self, engine_id: str) -> list[EngineSlot]:
        return [slot for slot in self._slots if slot.engine.info.engine == engine_id]

    def _pick(self) -> EngineSlot | None:
        takers = [slot for slot in self._slots if slot.takes]
        if not takers:
            return None
        least = min(slot.in_flight for slot in takers)
        equals = [slot for slot in takers if slot.in_flight == least]
        self._turn += 1
        return equals[self._turn % len(equals)]

    def _take(self, slot: EngineSlot) -> Slot:
        slot.in_flight += 1
        return Slot(self, slot)

    def _leave(self, slot: EngineSlot) -> None:
        slot.in_flight -= 1
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        """Hands free slots straight to waiting requests, so that no new one overtakes them."""
        while self._waiters:
            slot = self._pick()
            if slot is None:
                return
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(self._take(slot))

    def _fail_waiters_if_down(self) -> None:
        if self.ready:
            return
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(self._down())

    def _down(self) -> ApiError:
        return unavailable("The server is stopping." if self._closed else "No engine of this model is ready.")
