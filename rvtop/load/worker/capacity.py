"""How many requests can be in flight at once: each takes a connection, which takes a descriptor, a local port
and memory."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from rvtop.load.fleet.workers import Workers, cores
from rvtop.load.plan.limits import worker_files

#: Bytes that a request in flight may cost its worker: connection, buffers, record, and room to spare (one
#: that held 4 032 of them took 104 MB in all).
REQUEST_BYTES = 16 * 1024
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class Capacity:
    """``most`` requests in flight, over all load workers; ``why`` no more, and what would allow more."""

    most: int
    why: str
    fix: str


def capacity(workers: Workers, free_bytes: float, *, unix_socket: bool = False) -> Capacity | None:
    """What this machine can hold, given ``free_bytes`` of memory; None for workers on other machines, whose
    limits are known there only."""
    if workers.ray:
        return None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = cores() if workers.auto else workers.count
    found = [
        Capacity(
            count * worker_files(hard),
            f"{hard:,} open files to a load worker",
            "raise the hard limit (ulimit -Hn, limits.conf, LimitNOFILE) or add workers (--workers N)",
        ),
        Capacity(
            max(1, int(free_bytes / 2 / REQUEST_BYTES)),
            f"half of the {free_bytes / 2**30:.1f} GiB of free memory",
            "free memory, or use workers on other machines (--workers ray:N)",
        ),
    ]
    ports = None if unix_socket else local_ports()
    if ports is not None:
        fix = "widen net.ipv4.ip_local_port_range, or use workers on other machines (--workers ray:N)"
        found.append(Capacity(ports, f"{ports:,} local ports", fix))
    return min(found, key=lambda each: each.most)


def local_ports(path: Path = _PORTS) -> int | None:
    """Local ports, which bound the connections to one address of a server; None where the system does not
    tell."""
    try:
        low, high = map(int, path.read_text().split())
    except (OSError, ValueError):
        return None
    return max(1, high - low + 1)
