"""What a Ray cluster keeps on its head's disk, and the one thing of it that ends with the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from rvtop.telemetry.ray_local import DISCOVERY_FILE

SESSION = "session_2026-11-28_01-52-17_123456_4242"


def session(
    temp: Path, name: str = SESSION, *, targets: Sequence[str] | None = ("127.0.0.1:1",), latest: bool = True
) -> Path:
    """A session's folder in ``temp/ray``, as it is during a cluster's life and after it. ``targets`` None: of
    a node without a dashboard."""
    folder = temp / "ray" / name
    (folder / "sockets").mkdir(parents=True)
    if targets is not None:
        groups = [{"labels": {"job": "ray"}, "targets": list(targets)}]
        (folder / DISCOVERY_FILE).write_text(json.dumps(groups))
    if latest:
        link(temp / "ray" / "session_latest", folder)
        link(temp / "ray" / DISCOVERY_FILE, folder / DISCOVERY_FILE)
    return folder


def link(path: Path, to: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


@contextlib.contextmanager
def raylet(session: Path, name: str = "raylet") -> Iterator[None]:
    """Listens as the session's raylet does. Its socket's file stays, as when a raylet is killed."""
    folder = os.open(session.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            # The path of a unix socket has at most 107 characters, which tmp_path may exceed.
            listener.bind(f"/proc/self/fd/{folder}/{session.name}/sockets/{name}")
            listener.listen()
            yield
    finally:
        os.close(folder)
