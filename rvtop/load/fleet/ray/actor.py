"""The supervisor of a load worker on a node of a Ray cluster.

The worker itself is the same process as on this machine (``python -m rvtop.load.worker``), a child of
the actor: so Ray's threads share neither its loop nor its interpreter, and it ends with the actor's end of
its stdin, however the actor ends. What it reads lies in files without a name, so none can be left behind.

Only the standard library is imported here: a node that lacks what a worker needs must be able to say so.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: What the worker's process imports besides the standard library.
NEEDS = ("httptools", "numpy", "orjson", "uvloop")

#: Seconds without a message from the head after which the worker ends: a head that is cut off can't end it.
LEASE_S = 10.0


class LoadActor:
    """Supervises one worker. Its methods run in threads of their own, several at once."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._last_message_s = 0.0

    def hello(self) -> dict[str, Any]:
        """Describes this node: ``missing`` names the packages that a worker needs and this node lacks; two
        processes with the same ``network`` reach each other on the loopback address."""
        missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
        return {"missing": missing, "network": network(), "pid": os.getpid()}

    def clock(self) -> int:
        """This node's clock, ns."""
        return time.perf_counter_ns()

    def start(
        self, spec: bytes, prompts: bytes, files: Mapping[str, bytes], secrets: Mapping[str, str]
    ) -> None:
        """Starts the worker: ``spec`` is its first frame, with paths of the head's; ``prompts`` and ``files``
        (by field of the address) hold what is in those paths, ``secrets`` goes into its environment."""
        from dataclasses import replace

        from rvtop.ipc.child import module_command
        from rvtop.ipc.frames import Unpacker, pack
        from rvtop.load.fleet.workers import WORKER_ENV

        (asked,) = Unpacker().feed(spec)
        kept = {name: _nameless(data) for name, data in files.items()}
        text = _nameless(prompts)
        address = replace(asked.address, **{name: _path(file) for name, file in kept.items()})
        here = replace(asked, prompts=_path(text), address=address)
        everything = [text, *kept.values()]
        package = str(Path(__file__).parents[4])  # the folder that holds rvtop
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._child = subprocess.Popen(
            module_command("rvtop.load.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[file.fileno() for file in everything],
            env={**WORKER_ENV, **os.environ, **secrets, "PYTHONPATH": os.pathsep.join(paths)},
        )
        for file in everything:
            file.close()
        self.send(pack(here))
        threading.Thread(target=self._watch, daemon=True).start()

    def send(self, data: bytes) -> None:
        """Hands ``data`` on to the worker; also a sign of life when it is empty."""
        self._last_message_s = time.monotonic()
        if self._child is None or self._child.stdin is None:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._child.stdin.write(view) or 0 :]
        except OSError:
            return  # it has ended, which its output shows

    def output(self) -> Iterator[bytes | int]:
        """What the worker writes, as it comes; at last its exit code."""
        assert self._child is not None and self._child.stdout is not None
        while data := os.read(self._child.stdout.fileno(), 1 << 20):
            yield data
        yield self._child.wait()

    def _watch(self) -> None:
        while time.monotonic() - self._last_message_s < LEASE_S:
            time.sleep(0.5)
        os._exit(1)  # the worker's stdin ends with us


def network() -> str:
    """Names this network namespace of this boot of this machine; "" where the system doesn't say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/net')}"
    except OSError:
        return ""


def _nameless(data: bytes) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed once the worker has inherited it
    file.write(data)
    file.flush()
    file.seek(0)
    return file


def _path(file: Any) -> str:
    return f"/dev/fd/{file.fileno()}"
