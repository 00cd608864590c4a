"""What each command does to a running session, whoever sent it, and what takes it back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

from rvtop.contract.command import (
    COMMANDS,
    NAMES,
    Command,
    CommandError,
    Mark,
    NextPhase,
    Pause,
    Record,
    Resume,
    SetConcurrency,
    SetRate,
    Stop,
    Undo,
)
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.load_run import LoadRun
from rvtop.session.played import Played
from rvtop.session.rate_control import Done
from rvtop.session.recorder import Recorder
from rvtop.text import printable

_NOTE_LIMIT = 500
#: So many changes of the load can be taken back.
_MOST = 20
#: What these change lasts until the phase ends, so that there is nothing to take back behind it.
_OF_A_PHASE = (SetRate, SetConcurrency, Pause, Resume)

#: What these do is in the phases of a recording; all else becomes a mark in it.
_PLAYED = (SetRate, SetConcurrency, Pause, Resume, NextPhase, Record, Stop)

_Change = tuple[int, Command, Command]  # in which phase, what, and what takes it back

#: Follows a command of ``by``, and says what came of it. Raises CommandError.
Handler = Callable[[Any, str], Done]


class Commands:
    """``load`` returns the load that runs. A further command is one entry more in ``handlers``: what is not
    there is not available in this session, and not announced. A handler writes what it changes to the command
    log, with who wanted it, and gives the command that takes it back as ``Done.inverse``."""

    def __init__(
        self,
        load: Callable[[], LoadRun],
        feed: EventFeed,
        recorder: Recorder,
        ending: Ending,
        played: Played,
    ) -> None:
        self._load = load
        self._feed = feed
        self._recorder = recorder
        self._ending = ending
        self._played = played
        self._under_way: set[asyncio.Future[Done]] = set()
        self._changes: deque[_Change] = deque(maxlen=_MOST)
        self.handlers: dict[type, Handler] = {
            SetRate: self._to_load,
            Pause: self._to_load,
            Resume: self._to_load,
            NextPhase: self._to_load,
            Mark: self._mark,
            Undo: self._undo,
            Stop: self._stop,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The commands that this session can follow, as the protocol names them."""
        return tuple(name for name, kind in COMMANDS.items() if kind in self.handlers)

    def follow(self, command: Command, by: str) -> Done:
        """Follows a command. ``by`` is who sent it: keyboard, control, signal, …. Raises CommandError."""
        handler = self.handlers.get(type(command))
        if handler is None:
            raise CommandError(f"not available in this session: {NAMES[type(command)]}")
        done = handler(command, by)
        self._done(command, done)
        return done

    def note(self, question: str, by: str) -> None:
        """Writes to the command log what somebody who said his name asked, though it changes nothing."""
        self._recorder.note({"cmd": question, "by": by})

    async def close(self) -> None:
        """Ends what takes its time still."""
        under_way = list(self._under_way)
        for later in under_way:
            later.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _done(self, command: Command, done: Done) -> None:
        """Notes what takes a command back, now or when it is done."""
        if done.later is not None:
            self._under_way.add(done.later)
            done.later.add_done_callback(partial(self._done_later, command))
            return
        if not isinstance(command, _PLAYED):
            note = command.note if isinstance(command, Mark) else done.text
            self._played.mark(done.at_ns or perf_counter_ns(), printable(note, _NOTE_LIMIT))
        if done.inverse is not None:
            self._changes.append((self._load().player.index, command, done.inverse))

    def _done_later(self, command: Command, later: asyncio.Future[Done]) -> None:
        """A command that took its time is done or failed: its sender may look elsewhere by now."""
        self._under_way.discard(later)
        if later.cancelled():
            return
        error = later.exception()
        if error is None:
            self._done(command, later.result())
        elif isinstance(error, CommandError):
            self._feed.say(str(error), "warn", "command")
        elif isinstance(error, Exception):
            self._ending.fail("client_failed", str(self._ending.crashed(error)))

    def _to_load(self, command: Command, by: str) -> Done:
        return self._load().command(command, by)

    def _mark(self, mark: Mark, by: str) -> Done:
        if not mark.note.strip():
            raise CommandError("mark: needs a note, such as: mark 'cache cleared'")
        note = printable(mark.note, _NOTE_LIMIT)
        self._feed.say(note, kind="mark")
        self._recorder.note({"cmd": "mark", "note": note, "by": by})
        return Done("marked")

    def _undo(self, undo: Undo, by: str) -> Done:
        phase = self._load().player.index
        while self._changes:
            index, command, inverse = self._changes.pop()
            if index == phase or not isinstance(inverse, _OF_A_PHASE):
                break
        else:
            raise CommandError("nothing to undo: no command has changed the load of this phase")
        change = (index, command, inverse)
        try:
            done = self.handlers[type(inverse)](inverse, by)
        except CommandError:
            self._changes.append(change)
            raise
        if done.later is not None:
            later = asyncio.ensure_future(self._undo_later(change, done.later, by))
            return Done(f"undoing {NAMES[type(command)]}: {done.text}", later=later)
        return self._undone(change, done, by)

    async def _undo_later(self, change: _Change, later: asyncio.Future[Done], by: str) -> Done:
        try:
            return self._undone(change, await later, by)
        except CommandError:
            self._changes.append(change)
            raise

    def _undone(self, change: _Change, done: Done, by: str) -> Done:
        name = NAMES[type(change[1])]
        self._recorder.note({"cmd": "undo", "of": name, "by": by})
        return Done(f"undone: {name}: {done.text}", done.at_ns)

    def _stop(self, stop: Stop, by: str) -> Done:
        self._ending.stop_by(stop, by)
        return Done("stopping: the results are written")
