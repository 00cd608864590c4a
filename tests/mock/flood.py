"""What the C mock can carry on this machine: ``python -m tests.mock.flood [--streams 1000] [--seconds 5] …``

A C client (flood.c) keeps so many streams open and throws the bytes away. Printed: token events a second,
the server's CPU time for each, and how late its writes were. Where it is late at a rate, no client can be
judged at that rate on this machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import numpy as np

from tests.mock.fast import FastMock, build


def cpu_seconds(pid: int) -> float:
    """User and system CPU time of a running process, seconds (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flood(streams: int, tokens: int, seconds: float, step_ms: float, merge: int = 1) -> str:
    """One run; one line of figures. Only tokens written are counted, by the server's own log."""
    with FastMock(ttft_ms=step_ms, step_ms=step_ms, merge=merge) as mock:
        command = [str(build("flood.c")), str(mock.port), str(streams), str(tokens), str(seconds)]
        subprocess.run(command, check=True, capture_output=True)
        busy = cpu_seconds(mock.pid)
        log = mock.stop()
    events = int(log.tokens.sum())
    span = (int(log.last_ns.max()) - int(log.arrival_ns.min())) / 1e9
    late = log.late_sum_ns / np.maximum(log.tokens, 1) / 1e6
    return (
        f"{streams} streams x {1000 / step_ms:g}/s: {events / span:,.0f} of {streams * 1000 / step_ms:,.0f} "
        f"token events/s, {busy / events * 1e6:.2f} us of CPU each ({busy / span:.0%} of a core), late by "
        f"{log.late_mean_ms:.2f} ms mean, {np.percentile(late, 99):.2f} ms p99 of a request's mean, "
        f"{log.late_max_ns.max() / 1e6:.1f} ms at most, {int(log.blocked.sum())} writes held up by the client"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--step-ms", type=float, default=10)
    parser.add_argument("--merge", type=int, default=1)
    options = parser.parse_args()
    for streams in options.streams:
        print(flood(streams, options.tokens, options.seconds, options.step_ms, options.merge), flush=True)


if __name__ == "__main__":
    main()
