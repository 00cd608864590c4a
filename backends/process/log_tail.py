"""The last lines that an engine's processes print, passed on as they come: why vLLM's engine process did not
start stands nowhere else."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import deque

LOG_LINES = 200
_REASON = re.compile(r"\b[A-Z]\w*(?:Error|Exception)\b: \S")


class LogTail:
    """Reads ``reader`` in a thread until its end, and writes the same to ``out``."""

    def __init__(self, reader: int, out: int) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._thread = threading.Thread(target=self._pump, args=(reader, out), name="log-tail", daemon=True)
        self._thread.start()

    @classmethod
    def of_this_process(cls) -> LogTail:
        """Of what this process and its children print from now on."""
        out = os.dup(2)
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        for fd in (1, 2):
            os.dup2(writer, fd)  # inheritable, unlike the two that it copies
        os.close(writer)
        return cls(reader, out)

    def lines(self) -> list[str]:
        return list(self._lines)

    def reason(self) -> str | None:
        """The newest line that names an exception of vLLM's processes, without what loggers put before it."""
        for line in reversed(self._lines):
            if (match := _REASON.search(line)) and "initialization failed" not in line:
                return f"vLLM: {line[match.start() :].strip()[:600]}"
        return None

    def wait(self, limit_s: float) -> None:
        """Returns when all that the processes printed is here, which is when the last of them has ended."""
        self._thread.join(limit_s)

    def _pump(self, reader: int, out: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            rest = b""
            while data := pipe.read(65536):
                os.write(out, data)
                *whole, rest = (rest + data).split(b"\n")
                self._lines.extend(line.decode("utf-8", "replace") for line in whole)
            if rest:
                self._lines.append(rest.decode("utf-8", "replace"))
