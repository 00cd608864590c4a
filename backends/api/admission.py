"""Admission: which engine answers a request, and how many may wait for one.

One queue for all engines of a model, in order of arrival, and an engine is chosen when a slot is free: the
one with the fewest requests in flight, in turn among equals. What does not fit is refused at once (429).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from backends.engines.protocol import Engine
from backends.errors import ApiError, queue_full, unavailable


class Slot:
    """A place on an engine, held from admission to the end of the generation."""

    def __init__(self, admission: Admission, seat: EngineSlot) -> None:
        self._admission = admission
        self._seat: EngineSlot | None = seat
        self._life = seat.life
        self.engine = seat.engine

    def lost(self) -> None:
        """The engine is gone: it gets nothing more, or it would swallow the whole queue, until it is set up
        again. (To be said before :meth:`release`; after it came back it is not believed.)"""
        if self._seat is not None and self._seat.life == self._life:
            self._admission.set_up(self.engine.info.engine, False)

    def release(self) -> None:
        """Gives the place to who waits. A second call does nothing."""
        if self._seat is not None:
            seat, self._seat = self._seat, None
            self._admission._leave(seat)


class EngineSlot:
    """One engine as the queue sees it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.up = True
        self.life = 0  # counts how often it was set up
        self.in_flight = 0

    @property
    def idle(self) -> bool:
        """Whether the next request would be computed at once."""
        return self.up and self.in_flight < self.engine.info.concurrency

    @property
    def takes(self) -> bool:
        """Whether the next request may be handed over."""
        return self.idle or (self.up and self.engine.info.own_queue)


class Admission:
    """The queue in front of the engines of one model. Belongs to one event loop; nothing here blocks.

    ``max_queue`` None means unlimited. Engines with a queue of their own get everything at once; what is in
    flight on them above their ``concurrency`` counts as waiting.
    """

    def __init__(self, engines: Iterable[Engine] = (), max_queue: int | None = 1024) -> None:
        self._seats: list[EngineSlot] = [EngineSlot(engine) for engine in engines]
        self._max_queue = max_queue
        self._waiters: OrderedDict[asyncio.Future[Slot], None] = OrderedDict()
        self._turn = 0
        self._closed = False

    # -- engines come and go ---------------------------------------------------------------------------

    @property
    def engines(self) -> list[Engine]:
        return [seat.engine for seat in self._seats]

    @property
    def ready(self) -> bool:
        """Whether some engine can answer."""
        return not self._closed and any(seat.up for seat in self._seats)

    def add(self, engine: Engine) -> None:
        self._seats.append(EngineSlot(engine))
        self._serve_waiters()

    def remove(self, engine_id: str) -> None:
        """Forgets an engine; what is in flight on it goes on or fails by itself."""
        for seat in self._named(engine_id):
            seat.up = False
            self._seats.remove(seat)
        self._fail_waiters_if_down()

    def set_up(self, engine_id: str, up: bool) -> None:
        """Marks an engine as able (or, while it restarts, unable) to take requests."""
        for seat in self._named(engine_id):
            seat.up = up
            seat.life += up
        self._serve_waiters()
        self._fail_waiters_if_down()

    def close(self) -> None:
        """Nobody is admitted any more; those who wait get 503."""
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
        return self.queued + sum(
            max(0, seat.in_flight - seat.engine.info.concurrency) for seat in self._seats
        )

    def restarts(self, engine_id: str) -> int:
        """How often an engine came back."""
        return sum(seat.life for seat in self._named(engine_id))

    def in_flight(self, engine_id: str) -> int:
        return sum(seat.in_flight for seat in self._named(engine_id))

    def check(self) -> None:
        """Raises ApiError now if :meth:`acquire` would: 503 without an engine, 429 with a full queue."""
        if not self.ready:
            raise self._down()
        would_wait = bool(self._waiters) or not any(seat.idle for seat in self._seats)
        if would_wait and self._max_queue is not None and self.waiting >= self._max_queue:
            raise queue_full(self.waiting)

    async def acquire(self) -> Slot:
        """A slot, at once or after those who came before. Raises ApiError: 429 when ``max_queue`` requests
        wait already, 503 when no engine is up (also while waiting)."""
        self.check()
        seat = None if self._waiters else self._pick()
        if seat is not None:
            return self._take(seat)
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
        return [seat for seat in self._seats if seat.engine.info.engine == engine_id]

    def _pick(self) -> EngineSlot | None:
        takers = [seat for seat in self._seats if seat.takes]
        if not takers:
            return None
        least = min(seat.in_flight for seat in takers)
        equals = [seat for seat in takers if seat.in_flight == least]
        self._turn += 1
        return equals[self._turn % len(equals)]

    def _take(self, seat: EngineSlot) -> Slot:
        seat.in_flight += 1
        return Slot(self, seat)

    def _leave(self, seat: EngineSlot) -> None:
        seat.in_flight -= 1
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        """Hands free slots straight to those who wait, so that no newcomer overtakes them."""
        while self._waiters:
            seat = self._pick()
            if seat is None:
                return
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(self._take(seat))

    def _fail_waiters_if_down(self) -> None:
        if self.ready:
            return
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(self._down())

    def _down(self) -> ApiError:
        return unavailable("The server is stopping." if self._closed else "No engine of this model is ready.")
