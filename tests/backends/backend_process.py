"""A real backend process, started the way rvtop starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Far beyond what either takes, on a busy machine too.
START_LIMIT_S = 900.0
STOP_LIMIT_S = 180.0
#: Not a thread of ours: while torch is imported, and holds the interpreter, that could not renew a lease.
#: One process, since other tests count those that come.
RENEW = """
import os, time
owner = os.getppid()
while os.getppid() == owner:
    os.write(1, b"\\n")
    time.sleep(1)
"""


class BackendProcess:
    """``python -P -m backends …`` with its events, log and lease."""

    def __init__(self, *args: str, log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        self.events: list[dict[str, Any]] = []
        self.garbage: list[bytes] = []
        self._news = threading.Condition()
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "backends", *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "RVTOP_API_KEY": "", **(env or {})},
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._renewer: subprocess.Popen[bytes] | None = None
        if "--lease" in args:
            self._renewer = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", RENEW],
                stdin=subprocess.DEVNULL,
                stdout=self.process.stdin,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return str(self.wait_for("ready")["url"])

    def wait_for(self, event: str, limit_s: float = START_LIMIT_S, **fields: Any) -> dict[str, Any]:
        """The first event with these fields; fails with the log if the process ends without it."""
        deadline = time.monotonic() + limit_s
        wanted = {"event": event, **fields}.items()
        with self._news:
            while True:
                for got in self.events:
                    if wanted <= {k: v for k, v in got.items() if not isinstance(v, list)}.items():
                        return got
                if self.events and self.events[-1]["event"] == "end":
                    raise AssertionError(
                        f"ended without {event}: {self.events}\n{self.log.read_text()[-3000:]}"
                    )
                if not self._news.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {event} in {limit_s} s: {self.events}\n{self.log.read_text()}")

    def end_lease(self) -> None:
        assert self.process.stdin is not None
        if self._renewer is not None:
            self._renewer.kill()
            self._renewer.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def wait(self, limit_s: float = STOP_LIMIT_S) -> int:
        """The exit code, once all that it said is in ``events``."""
        code = self.process.wait(limit_s)
        self._listener.join(limit_s)
        return code

    def kill(self) -> None:
        """Ends it and everything it may have started, whatever state it is in."""
        self.end_lease()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT_S)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                self.garbage.append(line)
                continue
            self._tell(event)
        self._tell({"event": "end"})

    def _tell(self, event: dict[str, Any]) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()
