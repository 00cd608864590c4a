"""What each command does to a running session, whoever sent it, and what takes it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rvtop.contract.command import (
    COMMANDS,
    NAMES,
    Command,
    CommandError,
    Mark,
    NextPhase,
    Pause,
    Resume,
    SetRate,
    Stop,
    Undo,
)
from rvtop.session.ending import Ending
from rvtop.session.events import EventFeed
from rvtop.session.load_run import LoadRun
from rvtop.session.rate_control import Done
from rvtop.session.recorder import Recorder
from rvtop.text import printable

_NOTE_LIMIT = 500
#: So many changes of the load can be taken back.
_MOST = 20
#: What these change lasts until the phase ends, so that there is nothing to take back behind it.
_OF_A_PHASE = (SetRate, Pause, Resume)

#: Follows a command of ``by``, and says what came of it. Raises CommandError.
Handler = Callable[[Any, str], Done]


class Commands:
    """``load`` returns the load that runs. A further command is one entry more in ``handlers``: what is not
    there is not available in this session, and not announced. A handler writes what it changes to the command
    log, with who wanted it, and gives the command that takes it back as ``Done.inverse``."""

    def __init__(
        self, load: Callable[[], LoadRun], feed: EventFeed, recorder: Recorder, ending: Ending
    ) -> None:
        self._load = load
        self._feed = feed
        self._recorder = recorder
        self._ending = ending
        self._changes: deque[tuple[int, Command, Command]] = deque(maxlen=_MOST)
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
        if done.inverse is not None:
            self._changes.append((self._load().player.index, command, done.inverse))
        return done

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
        name = NAMES[type(command)]
        try:
            done = self.handlers[type(inverse)](inverse, by)
        except CommandError:
            self._changes.append((index, command, inverse))
            raise
        self._recorder.note({"cmd": "undo", "of": name, "by": by})
        return Done(f"undone: {name}: {done.text}", done.at_ns)

    def _stop(self, stop: Stop, by: str) -> Done:
        self._ending.stop_by(stop, by)
        return Done("stopping: the results are written")
