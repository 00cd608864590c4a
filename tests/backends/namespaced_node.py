"""A worker node of Ray in namespaces of its own on this machine: its network can be cut, its disk is a small
one, its clock can be set. Needs root (or the right to make namespaces), and a C compiler for the clock.

The node's processes have a network of their own (a veth pair to the head's side), and a mount namespace in
which the cluster's folder is a small tmpfs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HEAD_IP, NODE_IP = "10.213.77.1", "10.213.77.2"
DISK_MIB = 64
_NAME = f"rvtop{os.getpid() % 10000}"
_SHIM = Path(__file__).with_name("clock_shim.c")
_END_LIMIT_S = 30.0


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs network namespaces: ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def network() -> Iterator[None]:
    """The two ends of a cable: HEAD_IP here, NODE_IP in a network namespace."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip (Debian: apt install iproute2)")
    _ip("netns", "add", _NAME)
    try:
        _ip("link", "add", f"{_NAME}a", "type", "veth", "peer", "name", f"{_NAME}b", "netns", _NAME)
        _ip("addr", "add", f"{HEAD_IP}/24", "dev", f"{_NAME}a")
        _ip("link", "set", f"{_NAME}a", "up")
        _ip("-n", _NAME, "addr", "add", f"{NODE_IP}/24", "dev", f"{_NAME}b")
        _ip("-n", _NAME, "link", "set", f"{_NAME}b", "up")
        _ip("-n", _NAME, "link", "set", "lo", "up")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", _NAME], check=False)
        subprocess.run(["ip", "link", "del", f"{_NAME}a"], check=False, capture_output=True)


@dataclass
class NamespacedNode:
    """A node that runs. ``folder`` is Ray's, as the node sees it; ``clock`` sets its time."""

    process: subprocess.Popen[bytes]
    folder: Path
    clock: Path

    def cut(self) -> None:
        """Nothing gets through the cable any more."""
        _ip("link", "set", f"{_NAME}a", "down")

    def mend(self) -> None:
        _ip("link", "set", f"{_NAME}a", "up")

    def fill_disk(self) -> None:
        """Takes all that is free where Ray keeps its files on the node."""
        with contextlib.suppress(OSError), self._inside.joinpath("fill").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    def make_room(self) -> None:
        self._inside.joinpath("fill").unlink()

    def set_clock(self, seconds: int) -> None:
        """So many seconds on from the true time."""
        with self.clock.open("r+b", buffering=0) as file:
            file.write(struct.pack("d", seconds))

    @property
    def _inside(self) -> Path:
        return Path(f"/proc/{self.process.pid}/root{self.folder}")


def _shim(scratch: Path) -> Path:
    built = scratch / "clock_shim.so"
    compiler = shutil.which("cc") or pytest.skip("needs a C compiler")
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", str(_SHIM), "-o", str(built), "-ldl", "-lm"], check=True
    )
    return built


@contextmanager
def node(address: str, folder: Path, scratch: Path, env: Mapping[str, str]) -> Iterator[NamespacedNode]:
    """A worker node of the cluster at ``address``, whose folder is ``folder``; inside of :func:`network`."""
    clock = scratch / "clock"
    clock.write_bytes(struct.pack("d", 0))
    faked = {"LD_PRELOAD": str(_shim(scratch)), "CLOCK_SHIM": str(clock)}
    mounted = f"mount -t tmpfs -o size={DISK_MIB}m tmpfs {folder}"
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", address, "--num-cpus", "2"]
    ray += ["--node-ip-address", NODE_IP, "--object-store-memory", str(80 << 20), "--block"]
    inside = ["env", *(f"{name}={value}" for name, value in faked.items()), *ray]
    command = ["ip", "netns", "exec", _NAME, "unshare", "-m", "sh", "-c", f'{mounted} && exec "$@"', "sh"]
    with (scratch / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *inside],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        yield NamespacedNode(process, folder, clock)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends all that runs in the network namespace: the node's processes leave their group."""
    until = time.monotonic() + _END_LIMIT_S
    while time.monotonic() < until:
        listed = subprocess.run(["ip", "netns", "pids", _NAME], capture_output=True, text=True, check=False)
        pids = [int(pid) for pid in listed.stdout.split()]
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
