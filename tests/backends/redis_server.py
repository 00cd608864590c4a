"""A Redis of the test's own, for a GCS that keeps its state there."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_START_LIMIT_S = 30.0


def program() -> str | None:
    """Where Redis is installed; None where it is not."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """HOST:PORT of one that runs while the body does. Skips the test where Redis is not installed."""
    path = program()
    if path is None:
        pytest.skip("needs redis-server (Debian: apt install redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([path, *words], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
