"""Networks and mounts of an attempt's own: the machine's are never touched."""

from __future__ import annotations

import os
import subprocess

from tests.faults.attempts import Skip
from tests.faults.attempts.cli import folder

#: Holds the namespaces that the runner is in, for what it starts in others.
OUTSIDE = "RVTOP_ATTEMPTS_OUTSIDE"
_KINDS = ("net", "mnt")


def namespaces() -> str:
    """Those that this process is in."""
    return " ".join(os.readlink(f"/proc/self/ns/{kind}") for kind in _KINDS)


def own() -> None:
    """Raises AssertionError unless both namespaces are this attempt's own: what follows would change the
    machine's."""
    outside = os.environ.get(OUTSIDE, namespaces()).split()
    assert not set(outside) & set(namespaces().split()), "not in its own namespaces: mark it own_network=True"


def ip(*words: str) -> None:
    """Runs ``ip``. Raises Skip where that is impossible."""
    own()
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Skip("there is no ip program") from error
    if done.returncode:
        raise Skip(f"ip {' '.join(words)}: {done.stderr.strip()}")


def mount(*words: str) -> None:
    """Runs ``mount``. Raises Skip where that is impossible."""
    own()
    if subprocess.run(["mount", *words], capture_output=True).returncode:
        raise Skip(f"mount {' '.join(words)} is not possible")


def network(hosts: str = "") -> None:
    """The loopback of our namespaces is up; ``hosts`` are the names that we know."""
    own()
    ip("link", "set", "lo", "up")
    if hosts:
        place = folder() / "hosts"
        place.write_text(hosts)
        mount("--bind", str(place), "/etc/hosts")


def set_ports(first: int, last: int) -> None:
    """The ports that connections may leave from."""
    own()
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
            file.write(f"{first} {last}")
    except OSError as error:
        raise Skip(f"ports can't be limited here: {error}") from error
