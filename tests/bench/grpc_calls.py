"""gRPC beside HTTP: what the client reports against what the mocks logged, and the worker's CPU-seconds a
million messages. One worker; the gRPC mock speaks HTTP/2 by hand (tests/mock/grpc_server.py), the HTTP one is
in C. ``python -m tests.bench.grpc_calls``."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mock.fast import FastMock
from tests.mock.process import GrpcMock, MockProcess

_RVTOP = str(Path(sys.executable).with_name("rvtop"))
_TOKENS = 64
LIMIT_MS = 5.0


@dataclass(frozen=True)
class Row:
    """One rate by one way. Times are ms; ``cpu_s`` is for a million messages."""

    answered: int
    mean: float
    true_mean: float
    server_late: float
    cpu_s: float
    limited: bool


def measure(mock: MockProcess, rate: float, seconds: int) -> Row:
    """Drives a mock (50 ms to the first token, 10 ms steps) and compares."""
    folder = Path(tempfile.mkdtemp()) / "run"
    try:
        with mock:
            command = [_RVTOP, "run", "--target", mock.url, "--rate", str(rate), "--duration", f"{seconds}s"]
            command += ["--arrivals", "constant", "--prompt-tokens", "50", "--output-tokens", str(_TOKENS)]
            ended = subprocess.run(
                [*command, "--ui", "none", "--out", str(folder)], check=True, capture_output=True, text=True
            )
            log = mock.stop()
        summary = json.loads((folder / "summary.json").read_bytes())
        last = json.loads((folder / "timeline.jsonl").read_bytes().splitlines()[-1])
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)
    return Row(
        answered=int(log.done.sum()),
        mean=summary["ttft_ms"]["mean"],
        true_mean=float(log.ttft_ns.mean()) / 1e6,
        server_late=log.late_mean_ms,
        cpu_s=1e6 * last["worker_cpu_s"] / int(log.tokens.sum()),
        limited="CLIENT-LIMITED" in ended.stderr,
    )


def main(arguments: list[str] | None = None) -> None:
    """Prints a row a rate and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="100,200,400,800")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args(arguments)
    print(f"gRPC and HTTP: one worker, {_TOKENS} tokens a request, {options.seconds} s a rate; times in ms")
    print(
        f"  {'rps':>5} {'by':>5} {'answered':>9} {'mean TTFT':>10} {'(server)':>9} {'error':>7}"
        f" {'mock late':>10} {'CPU s/million':>14}"
    )
    for rate in options.rates.split(","):
        for way, kind in (("grpc", GrpcMock), ("http", FastMock)):
            row = measure(kind(ttft_ms=50, step_ms=10, tokens=_TOKENS), float(rate), options.seconds)
            error = row.mean - row.true_mean
            said = "CLIENT-LIMITED" if row.limited else "" if error <= LIMIT_MS else "over the limit, UNSAID"
            print(
                f"  {float(rate):>5g} {way:>5} {row.answered:>9} {row.mean:>10.2f} {row.true_mean:>9.2f}"
                f" {error:>+7.2f} {row.server_late:>10.2f} {row.cpu_s:>14.1f}  {said}",
                flush=True,
            )


if __name__ == "__main__":
    main()
