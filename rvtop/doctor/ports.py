"""The well-known ports: who has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rvtop.doctor.check import Check, ok, warn
from rvtop.lifecycle import state

_LISTEN = "0A"


@dataclass(frozen=True)
class Port:
    """A port that something uses by default. ``ours``: programs that are expected to have it."""

    number: int
    use: str
    ours: tuple[str, ...]
    fix: str


PORTS = (
    Port(6379, "Ray's head", ("gcs_server",), "start Ray's head elsewhere: ray start --head --port 6380"),
    Port(
        8265, "Ray's dashboard", ("dashboard", "ray::"), "give Ray another: ray start --dashboard-port 8266"
    ),
    Port(8000, "servers by default", ("ray::", "haproxy"), "serve elsewhere: rvtop up … --port 8001"),
)


@dataclass(frozen=True)
class Holder:
    """Who listens; ``pid`` None: /proc does not say (another user's)."""

    pid: int | None
    name: str


def checks(proc: Path = Path("/proc")) -> list[Check]:
    """One line a port."""
    return [check(port, holder(port.number, proc)) for port in PORTS]


def check(port: Port, found: Holder | None) -> Check:
    """What it means that ``found`` has the port."""
    name = f"port {port.number}"
    if found is None:
        return ok(name, f"free ({port.use})")
    who = found.name if found.pid is None else f"{found.name} (pid {found.pid})"
    if (deployment := _deployment(port.number)) is not None:
        return ok(name, f"rvtop's own deployment {deployment} has it")
    if found.name.startswith(port.ours):
        return ok(name, f"{who} has it, as expected ({port.use})")
    return warn(name, f"in use by {who}; {port.use} would use it", port.fix)


def holder(number: int, proc: Path = Path("/proc")) -> Holder | None:
    """Who listens on a TCP port of this machine; None if nobody."""
    sockets = set(_listening(number, proc))
    if not sockets:
        return None
    for pid in proc.iterdir():
        if pid.name.isdecimal() and sockets & set(_sockets(pid)):
            return Holder(int(pid.name), _program(pid))
    return Holder(None, "another user's process")


def _deployment(number: int) -> str | None:
    return next((d.name for d in state.running() if (d.url or "").endswith(f":{number}")), None)


def _listening(number: int, proc: Path) -> Iterator[str]:
    """Inodes of sockets that listen on a port."""
    for name in ("tcp", "tcp6"):
        try:
            rows = (proc / "net" / name).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == number:
                yield fields[9]


def _sockets(pid: Path) -> Iterator[str]:
    try:
        for link in (pid / "fd").iterdir():
            target = os.readlink(link)
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:  # gone, or another user's
        return


def _program(pid: Path) -> str:
    """Its name, never its arguments, which may hold secrets; of a Python script or module that one's name."""
    try:
        comm = (pid / "comm").read_text().strip()
        arguments = (pid / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "a process that has just ended"
    if comm.startswith("python") and len(arguments) > 1:
        script = next((word for word in arguments[1:] if word.endswith(".py")), "")
        return Path(script).stem or comm
    return comm
