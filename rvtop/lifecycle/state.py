"""What is known of each deployment: one folder a name, with ``state.json`` and the log.

Only the supervisor writes ``state.json``, whole and at once, so a reader never sees half of it and a crash
leaves the last one. Whether it is still true is seen by the supervisor's pid and start time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rvtop.errors import UserError
from rvtop.lifecycle.processes import Process, alive
from rvtop.text import printable, printable_names

STATE_FILE = "state.json"
LOG_FILE = "log"
LOCK_FILE = "lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Of a living supervisor: starting, ready, unhealthy, restarting, stopping. "failed": it gave up.
#: "gone": its supervisor crashed or was killed. "unreadable": the file is broken.
STATES = ("starting", "ready", "unhealthy", "restarting", "stopping", "failed", "gone", "unreadable")


@dataclass(frozen=True)
class Deployment:
    """One entry. ``mark`` is in the environment of all its processes; times are Unix seconds. ``restarts``
    counts backends and engines inside of them that were started anew."""

    name: str
    topology: str
    state: str
    mark: str = ""
    url: str | None = None
    models: tuple[str, ...] = ()
    supervisor: Process | None = None
    backend: Process | None = None
    started_at: float | None = None
    restarts: int = 0
    message: str = ""  # one line: why it is not ready
    version: str = ""  # rvtop's

    @property
    def running(self) -> bool:
        """Whether its supervisor lives."""
        return alive(self.supervisor)

    @property
    def log(self) -> Path:
        """Its log file: the backend's lines and the supervisor's."""
        return log_of(self.name)


def home() -> Path:
    """Where the folders of deployments are."""
    base = os.environ.get("XDG_STATE_HOME") or ""
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "rvtop" / "deployments"


def folder_of(name: str) -> Path:
    """The folder of a name. Raises UserError for what can't be one."""
    if _NAME.fullmatch(name) is None:
        raise UserError(f"--name {name}: use letters, digits, '.', '_' and '-', at most 64")
    return home() / name


def make_folder(name: str) -> Path:
    """The folder of a name, made if need be; only its owner can look into it."""
    folder = folder_of(name)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.strerror}); set XDG_STATE_HOME") from error
    return folder


def write(folder: Path, deployment: Deployment) -> None:
    """Replaces the entry, whole and at once."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".state-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"schema": 1, **asdict(deployment)}, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, folder / STATE_FILE)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def kept_log(name: str) -> Path:
    """Where the log of a deployment that is over is kept, until the next of its name is over."""
    return home().parent / "logs" / f"{name}.log"


def log_of(name: str) -> Path:
    """The log of a name: of the deployment that is there, or else the kept one of the last that was."""
    here = folder_of(name) / LOG_FILE
    return here if here.exists() else kept_log(name)


def forget(folder: Path, *, keep_log: bool = True) -> None:
    """Removes a deployment's folder; nothing of it may run any more. Its log moves to :func:`kept_log`."""
    log = folder / LOG_FILE
    if keep_log:
        kept = kept_log(folder.name)
        with contextlib.suppress(OSError):  # then it stays where it is
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            log.replace(kept)
    else:
        log.unlink(missing_ok=True)
    (folder / STATE_FILE).unlink(missing_ok=True)  # last: who follows the log sees by it that it was moved
    with contextlib.suppress(OSError):  # who starts another of this name has put something in again
        log.with_name(f"{LOG_FILE}.1").unlink(missing_ok=True)
        if not log.exists():
            (folder / LOCK_FILE).unlink(missing_ok=True)
            folder.rmdir()


def lock(name: str) -> int:
    """Makes the folder of a name and locks it until this process ends, however it ends; the descriptor that
    holds the lock. Raises UserError when another process holds it, or the folder can't be made."""
    while True:
        path = make_folder(name) / LOCK_FILE
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # who held it has just removed the folder
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise UserError(f"{name} is being started or stopped by another rvtop") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), os.stat(path)):
                return held
        os.close(held)  # as above: what we locked is no longer there


def entry(name: str) -> Deployment | None:
    """What is known of a name now; None if nothing. A dead supervisor's entry says so."""
    path = folder_of(name) / STATE_FILE
    try:
        data = json.loads(path.read_text("utf-8"))
        found = _from_json(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return Deployment(name, "?", "unreadable", message=f"{path}: {error}; rvtop down {name} removes it")
    if found.state != "failed" and not found.running:
        ending = ", its backend is ending" if alive(found.backend) else ""
        message = f"its supervisor crashed or was killed{ending}; rvtop down {name} removes the entry"
        found = replace(found, state="gone", message=message)
    return found


def deployments() -> list[Deployment]:
    """All entries, by name."""
    return [found for name in sorted(_names()) if (found := entry(name)) is not None]


def running() -> list[Deployment]:
    """The deployments whose supervisor lives, whoever started them: to be attached to or taken down."""
    return [found for found in deployments() if found.running]


def _names() -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in home().iterdir():
            if _NAME.fullmatch(path.name) is not None and path.is_dir():
                yield path.name


def _from_json(data: dict[str, Any]) -> Deployment:
    known = {field.name for field in fields(Deployment)}
    values = {name: value for name, value in data.items() if name in known}
    values |= {name: printable(value) for name, value in values.items() if isinstance(value, str)}
    values["models"] = printable_names(values.get("models") or ())
    for name in ("supervisor", "backend"):
        held = values.get(name)
        values[name] = None if held is None else Process(**held)
    return Deployment(**values)
