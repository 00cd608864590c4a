"""Runs a command and reports the CPU time of its whole process tree, as JSON:
``python -m tests.bench.tree --limit 60 --report FILE -- COMMAND …`` (Linux).

Descendants that lose their parent become ours (PR_SET_CHILD_SUBREAPER), so that every process is reaped by
somebody who counts it. What outlives the command or its limit is killed. With ``--watch URL`` of a mock, the
tree's CPU time is also sampled from the start until the mock has seen a request: what start-up cost.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 5.0
_SAMPLE_S = 0.1
_ARRIVED = re.compile(rb"^vllm:prompt_tokens_total\{[^}]*\} [1-9]", re.MULTILINE)


def descendants(pid: int) -> list[int]:
    """All living processes below ``pid``."""
    found: list[int] = []
    queue = [pid]
    while queue:
        for task in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(text) for text in task.read_text().split()]
                found += children
                queue += children
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds so far of all below ``pid``: of the living, and of the dead that were reaped."""
    ticks = 0
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[13:15] if one == pid else fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _arrived(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        return _ARRIVED.search(answer.read()) is not None
    return False


def _wait(child: subprocess.Popen[bytes], url: str | None, until: float) -> list[tuple[int, float]]:
    """Waits for the child's end or for ``until``; (perf_counter_ns, CPU seconds) samples up to the load."""
    samples: list[tuple[int, float]] = []
    loaded = url is None
    while not loaded and child.poll() is None and time.monotonic() < until:
        samples.append((time.perf_counter_ns(), cpu_s(os.getpid())))
        loaded = url is not None and _arrived(url)
        if loaded:  # so that two samples have the first arrival between them
            samples.append((time.perf_counter_ns(), cpu_s(os.getpid())))
        else:
            time.sleep(_SAMPLE_S)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=max(0.0, until - time.monotonic()))
    return samples


def _end_all() -> None:
    """Kills and reaps whatever is left below this process."""
    end = time.monotonic() + _GRACE_S
    number = signal.SIGTERM
    while time.monotonic() < end + _GRACE_S:
        left = descendants(os.getpid())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not left:
            return
        if time.monotonic() > end:
            number = signal.SIGKILL
        time.sleep(0.1)


def main() -> None:
    """Exits 0 whatever the command did; the report tells: code (null when it was cut), cpu_s, wall_s,
    samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, required=True, help="seconds")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--watch", help="URL of a mock")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    child = subprocess.Popen(options.command, stdin=subprocess.DEVNULL)
    samples = _wait(child, options.watch, began + options.limit)
    code = child.poll()
    wall_s = time.monotonic() - began
    _end_all()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = {"code": code, "cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall_s, "samples": samples}
    options.report.write_text(json.dumps(report))
    sys.exit(0)


if __name__ == "__main__":
    main()
