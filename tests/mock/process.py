"""Starts a mock server as a process of its own, and takes it down with its log."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.mock.log import Log, parse_log

ROOT = Path(__file__).parents[2]  # where `python -m tests.…` works
# Far beyond what either takes, on a busy machine too.
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 120.0


class MockError(RuntimeError):
    """A mock did not start, or ended on its own; the message carries what it said."""


class MockProcess:
    """A mock server in its own process; a context manager, plain or async.

    The child holds the read end of a pipe as its stdin and ends when that closes, so nothing is left
    running even when this process is killed. Its log comes back over its stdout: no file is left either.

    ttft_ms, step_ms: milliseconds from a request's last byte to its first token, and between tokens.
    tokens: of an answer to a request that names no max_tokens. merge: events to one write. join: tokens
    to one event. tick_ms: write only at multiples of this (0: each stream at its own times).
    """

    def __init__(
        self,
        ttft_ms: float = 50,
        step_ms: float = 10,
        tokens: int = 64,
        *,
        models: Sequence[str] = ("mock",),
        merge: int = 1,
        join: int = 1,
        tick_ms: float = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.models = tuple(models)
        self._host = host
        self._options = [f"--ttft-ms={ttft_ms}", f"--step-ms={step_ms}", f"--tokens={tokens}"]
        self._options += [f"--merge={merge}", f"--join={join}", f"--tick-ms={tick_ms}"]
        self._options += [f"--host={host}", f"--port={port}", "--log=-"]
        self._options += [f"--model={name}" for name in models]
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._log: Log | None = None
        self.port = 0

    def command(self) -> list[str]:
        """The program and its first arguments; each kind of mock has its own."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The base URL, without a path. Raises MockError before start()."""
        if not self.port:
            raise MockError("the mock is not running: call start(), or use it in a with block")
        return (
            f"http://[{self._host}]:{self.port}" if ":" in self._host else f"http://{self._host}:{self.port}"
        )

    @property
    def pid(self) -> int:
        """The server's process id. Raises MockError before start()."""
        if self._process is None:
            raise MockError("the mock is not running")
        return self._process.pid

    def start(self) -> Self:
        """Starts the server and waits until it listens. Raises MockError with what it said instead."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        self._process = subprocess.Popen(
            [*self.command(), *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=ROOT,
        )
        try:
            self.port = int(self._first_line())
        except ValueError:
            said = self._end()
            raise MockError(f"{self.command()[-1]} did not start: {said or 'it said nothing'}") from None
        except BaseException:
            self._end()
            raise
        return self

    def _first_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        line = b""
        until = time.monotonic() + START_TIMEOUT_S
        while not line.endswith(b"\n"):
            if not select.select([out], [], [], max(0.0, until - time.monotonic()))[0]:
                return b""
            byte = os.read(out, 1)
            if not byte:
                return b""
            line += byte
        return line

    def _end(self) -> str:
        """Kills what may be left and returns what it wrote to stderr."""
        assert self._process is not None
        assert self._stderr is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        self._stderr.close()
        return said

    def log(self) -> Log:
        """The log so far (requests that ended), from the running server."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=STOP_TIMEOUT_S) as answer:
            return parse_log(answer.read().decode())

    def stop(self) -> Log:
        """Ends the server and returns its log, with requests under way as "open". Idempotent.

        Raises MockError when the server had died before.
        """
        if self._log is not None:
            return self._log
        if self._process is None:
            raise MockError("the mock was never started")
        try:
            out, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)  # closes its stdin: it ends
        except subprocess.TimeoutExpired:
            out = b""
        code = self._process.poll()
        said = self._end()
        self.port = 0
        if code != 0:
            why = "it did not end" if code is None else f"it had ended with {code}"
            raise MockError(f"{self.command()[-1]}: {why}: {said or 'it said nothing'}")
        self._log = parse_log(out.decode())
        return self._log

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        elif self._log is None and self._process is not None:
            self._end()  # the block's own error matters more than the log
            self.port = 0

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)


class QueueingMock(MockProcess):
    """A mock that computes on ``slots`` requests at once and has the others wait, the first that came first:
    it answers ``capacity`` requests of ``tokens`` tokens a second, and no more."""

    def __init__(self, slots: int, ttft_ms: float = 50, step_ms: float = 10, tokens: int = 16) -> None:
        super().__init__(ttft_ms, step_ms, tokens)
        self._options.append(f"--slots={slots}")
        self.capacity = 1e3 * slots / (ttft_ms + (tokens - 1) * step_ms)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.mock.queueing"]


class EndpointsMock(MockProcess):
    """The mock in plain Python with the endpoints of tests/mock/endpoints.py besides chat and completions."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.mock.endpoints"]


class PythonMock(MockProcess):
    """The mock in plain Python (tests/mock/server.py): no compiler, a few hundred requests a second."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.mock.server"]


class GrpcMock(MockProcess):
    """The mock that speaks gRPC (tests/mock/grpc_server.py)."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.mock.grpc_server"]

    @property
    def url(self) -> str:
        return super().url.replace("http://", "grpc://")
