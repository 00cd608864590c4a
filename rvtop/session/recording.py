"""The recording of a session: a scenario file that does again what scenario and hands did.

While it goes on it stands in FILE.partial, so that a session that is killed does not take it along.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from time import perf_counter_ns

from rvtop.contract.command import CommandError, Record
from rvtop.errors import UserError
from rvtop.scenario.schema import Scenario
from rvtop.session.events import EventFeed
from rvtop.session.played import Played
from rvtop.session.rate_control import Done
from rvtop.session.recorder import Recorder
from rvtop.system.files import check_new, partial_of, replace_text, yaml_path
from rvtop.text import printable

NAME = "recording.yaml"  # in the run folder, of a recording that was given no name
_STILL_NS = 5_000_000_000  # while no command comes, the file is written so often


class Recording:
    """Of a session of ``scenario`` whose run folder is ``folder``. ``models`` are those that it sends to."""

    def __init__(
        self,
        played: Played,
        scenario: Scenario,
        models: Callable[[], Collection[str]],
        feed: EventFeed,
        recorder: Recorder,
        folder: Path,
    ) -> None:
        self._played = played
        self._scenario = scenario
        self._models = models
        self._feed = feed
        self._recorder = recorder
        self._folder = folder
        self._file: Path | None = None
        self._named = False
        self._from_ns = 0
        self._written = (-1, 0)  # at which state of what was played, and when

    def follow(self, command: Record, by: str) -> Done:
        """Begins or ends a recording. Raises CommandError."""
        if command.on:
            return self.begin(command.file, by, perf_counter_ns())
        return self._finish(command.file, by)

    def begin(self, file: str, by: str, from_ns: int) -> Done:
        """Records from ``from_ns`` on, to ``file`` or, where that is empty, into the run folder. Raises
        CommandError."""
        if self._file is not None:
            raise CommandError(f"record: it is being recorded already, to {self._shown}")
        try:
            path = yaml_path(file) if file else _unused(self._folder)
            check_new(path)
            check_new(partial_of(path))  # of a session that was killed
            replace_text(partial_of(path), "# A recording that has not ended.\n")
        except UserError as error:
            raise CommandError(f"record: {error}") from None
        self._file, self._named, self._from_ns = path, bool(file), from_ns
        self._written = (-1, 0)
        self._recorder.note({"cmd": "record", "on": True, "file": str(path), "by": by})
        self._feed.say(f"recording to {self._shown}", kind="record")
        return Done(f"recording to {self._shown}")

    @property
    def recording_s(self) -> float | None:
        """How long it goes on; None: nothing is recorded."""
        return None if self._file is None else (perf_counter_ns() - self._from_ns) / 1e9

    @property
    def unnamed(self) -> bool:
        """Whether it goes on and was given no name."""
        return self._file is not None and not self._named

    def second(self, now_ns: int) -> None:
        """Brings the file up to date, once a second at most."""
        seq, at_ns = self._written
        if self._file is None or (seq == self._played.seq and now_ns - at_ns < _STILL_NS):
            return
        self._written = (self._played.seq, now_ns)
        text = self._text(self._file, now_ns)
        try:
            if text:
                replace_text(partial_of(self._file), text)
        except UserError as error:
            self._feed.say(f"recording stops: {error}", "error", "record")
            self._file = None

    def close(self) -> None:
        """The session ends: what was recorded is kept."""
        if self._file is None:
            return
        try:
            self._finish("", "session")
        except CommandError as error:
            self._feed.say(str(error), "error", "record")

    @property
    def _shown(self) -> str:
        return printable(str(self._file))

    def _finish(self, file: str, by: str) -> Done:
        if self._file is None:
            raise CommandError("record: nothing is being recorded; record on begins")
        partial = partial_of(self._file)
        try:
            path = yaml_path(file) if file else self._file
            text = self._text(path, perf_counter_ns())
            if text:
                check_new(path)
                replace_text(path, text)
        except UserError as error:
            raise CommandError(f"record: {error}") from None
        with contextlib.suppress(OSError):
            os.unlink(partial)
        self._file = None
        said = "recorded nothing: no phase sent in that time"
        if text:
            said = f"recorded: {printable(str(path))}"
        self._recorder.note({"cmd": "record", "on": False, "file": str(path) if text else None, "by": by})
        self._feed.say(said, "info" if text else "warn", "record")
        return Done(said)

    def _text(self, path: Path, until_ns: int) -> str:
        """The scenario; empty where there was none."""
        phases = self._played.phases(self._from_ns, until_ns)
        if not phases:
            return ""
        more = {"name": printable(path.stem) or "recording", "phases": phases}
        return self._scenario.model_copy(update={**more, "models": self._models()}).to_yaml()


def _unused(folder: Path) -> Path:
    """A name in the run folder that no recording has."""
    path, number = folder / NAME, 2
    while path.exists() or partial_of(path).exists():
        path, number = folder / f"{path.stem.partition('-')[0]}-{number}.yaml", number + 1
    return path.absolute()
