"""A showdown as a handle that the screen holds: it plays the sessions one after another, and its snapshots
are those of the session that runs, with the whole showdown in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from rvtop.contract.command import Command, Mark
from rvtop.contract.handle import SessionHandle
from rvtop.contract.snapshot import Event, Snapshot, Target
from rvtop.errors import UserError
from rvtop.session.request import Outcome, SessionRequest
from rvtop.study.entries import Turn
from rvtop.study.showdown import ENDED, SKIPPED, ShowdownRun

OVER = ("done", "lost", "failed", "crashed")
_POLL_S = 0.1
REFUSED = "not in a showdown: the load is the same for every topology"


class OpenSession(SessionHandle, Protocol):
    """A session that knows how it ended once it is closed."""

    @property
    def outcome(self) -> Outcome | None: ...


Open = Callable[[SessionRequest], Awaitable[OpenSession]]
Check = Callable[[SessionRequest], None]


class LiveShowdown:
    """``open_session`` starts a session; ``check`` raises UserError for what can't start, and may block."""

    def __init__(self, run: ShowdownRun, open_session: Open, check: Check) -> None:
        self.run = run
        self.error: UserError | None = None  # why nothing more could be written
        self._open, self._check = open_session, check
        self._playing: asyncio.Task[None] | None = None
        self._session: OpenSession | None = None
        self._last = _between(None)
        self._end_now = asyncio.Event()  # of the session that runs
        self._leaving = False
        self._seq = 0
        self._key: tuple[object, ...] = ()
        self._shown: Snapshot | None = None
        self._refused: Event | None = None

    def start(self) -> LiveShowdown:
        """Begins with the first topology; needs a loop that runs."""
        self._playing = asyncio.create_task(self._play())
        return self

    # -- for the screen ----------------------------------------------------------------------

    def snapshot(self) -> Snapshot | None:
        """The newest picture."""
        if self._session is not None:
            self._last = self._session.snapshot() or self._last
        last, run = self._last, self.run
        key = (id(last), run.version, int(run.elapsed_s), self._refused)
        if self._shown is None or key != self._key:
            self._seq, self._key = self._seq + 1, key
            picture = run.picture()
            self._shown = replace(last, seq=self._seq, showdown=picture)
            if self._refused is not None:
                self._shown = replace(self._shown, events=(*last.events, self._refused))
            if picture.over:
                text = "" if self.error is None else str(self.error)
                self._shown = replace(self._shown, state="done" if not text else "crashed", message=text)
        return self._shown

    def send(self, command: Command) -> None:
        """Hands a mark to the session that runs; refuses what would change its load."""
        if isinstance(command, Mark) and self._session is not None:
            self._session.send(command)
        else:
            self._refused = Event(time.time(), REFUSED, "warn", "command")

    def skip(self) -> bool:
        """Ends the topology that runs and goes on with the next; False where none runs."""
        if self.run.turn is None or self._end_now.is_set():
            return False
        self._end_now.set()
        return True

    def next_reference(self) -> str:
        """The next row with figures becomes the reference; its name, or "" where no other has any."""
        names = [score.name for score in self.run.picture().scores if score.repeats]
        others = [name for name in names if name != self.run.reference]
        if not others:
            return ""
        order = [entry.name for entry in self.run.plan.entries]
        at = order.index(self.run.reference)
        name = min(others, key=lambda one: (order.index(one) - at) % len(order))
        try:
            self.run.choose_reference(name)
        except UserError as error:
            self.error = error
        return name

    async def close(self) -> None:
        """Ends the session that runs; what is done is kept."""
        self._leaving = True
        self._end_now.set()
        if self._playing is not None:
            await self._playing

    # -- inside ------------------------------------------------------------------------------

    async def _play(self) -> None:
        try:
            for turn in self.run.turns():
                if self._leaving:
                    break
                await self._one(turn)
        except UserError as error:
            self.error = error
        finally:
            self.run.finish()

    async def _one(self, turn: Turn) -> None:
        self._end_now.clear()
        self._refused = None
        request = self.run.begin(turn)
        self._last = _between(request)
        session, outcome = None, Outcome(0)
        try:
            await asyncio.to_thread(self._check, request)
            if not self._leaving:
                session = self._session = await self._open(request)
                outcome = await self._until_over(session)
        except UserError as error:  # what keeps this topology from starting need not keep the next
            outcome = Outcome(4, str(error))
        finally:
            if session is not None:
                self._last = session.snapshot() or self._last
            self._session = None
        by_hand = ENDED if self._leaving else SKIPPED if self._end_now.is_set() else ""
        self.run.end(turn, outcome, by_hand)

    async def _until_over(self, session: OpenSession) -> Outcome:
        """Waits until the session is over, or is to be; then ends what it holds."""
        try:
            while not self._end_now.is_set():
                newest = session.snapshot()
                if session.outcome is not None or (newest is not None and newest.state in OVER):
                    break
                try:
                    await asyncio.wait_for(self._end_now.wait(), _POLL_S)
                except TimeoutError:
                    continue
            by_hand = self._end_now.is_set()
        finally:
            await session.close()
        if not by_hand and not self._leaving:
            self._end_now.clear()  # pressed while it ended: it has ended by itself
        return session.outcome or Outcome(5, "its session ended without a word")


def _between(request: SessionRequest | None) -> Snapshot:
    """What is shown while there is no session yet."""
    backend = request.backend if request is not None else None
    target = Target("", backend.topology if backend is not None else None, (), owned=True)
    return Snapshot(0, 0.0, time.time(), "starting", "", target)
