"""What the client reports against what the server logged, over rising rates, one worker."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.mock.fast import FastMock

_RVTOP = str(Path(sys.executable).with_name("rvtop"))
_ON_TIME_MS = 5.0


@dataclass(frozen=True)
class Row:
    """One rate. Times are ms; ``cpu_us`` is the worker's CPU time per token event, µs."""

    rate: float
    delivered_pct: float  # requests the server saw, of those asked
    on_time_pct: float  # sent within 5 ms of their intended time, of those asked
    mean: float
    true_mean: float
    p99: float
    true_p99: float
    server_late: float
    cpu_us: float


def measure(rate: float, seconds: int, tokens: int = 64) -> Row:
    """Drives the C mock (50 ms to the first token, 10 ms steps) and compares."""
    folder = Path(tempfile.mkdtemp()) / "run"
    try:
        with FastMock(ttft_ms=50, step_ms=10, tokens=tokens) as mock:
            command = [_RVTOP, "run", "--target", mock.url, "--rate", str(rate), "--duration", f"{seconds}s"]
            command += ["--arrivals", "constant", "--prompt-tokens", "50", "--output-tokens", str(tokens)]
            subprocess.run([*command, "--ui", "none", "--out", str(folder)], check=True)
            log = mock.stop()
        summary = json.loads((folder / "summary.json").read_bytes())
        lags = []
        with open(folder / "requests.jsonl", "rb") as lines:
            for line in lines:
                row = json.loads(line)
                if row["sent_ns"] is not None:
                    lags.append((row["sent_ns"] - row["intended_ns"]) / 1e6)
        last = (folder / "timeline.jsonl").read_bytes().splitlines()[-1]
        cpu_s = json.loads(last)["worker_cpu_s"]
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)
    asked = rate * seconds
    truth = log.ttft_ns / 1e6
    ttft = summary["ttft_ms"]
    return Row(
        rate=rate,
        delivered_pct=100 * len(log) / asked,
        on_time_pct=100 * float((np.array(lags) <= _ON_TIME_MS).sum()) / asked,
        mean=ttft["mean"],
        true_mean=float(truth.mean()),
        p99=ttft["p99"],
        true_p99=float(np.percentile(truth, 99)),
        server_late=log.late_mean_ms,
        cpu_us=1e6 * cpu_s / (len(log) * tokens),
    )


def main(arguments: list[str] | None = None) -> None:
    """Prints a row a rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="100,200,400,800,1600")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args(arguments)
    print(f"truth: one worker, 64 tokens a request, {options.seconds} s a rate; times in ms")
    print(
        f"  {'rps':>6} {'delivered':>10} {'on time':>8} {'mean TTFT':>10} {'(server)':>9}"
        f" {'p99':>7} {'(server)':>9} {'mock late':>10} {'CPU µs/token':>13}"
    )
    for rate in options.rates.split(","):
        row = measure(float(rate), options.seconds)
        print(
            f"  {row.rate:>6g} {row.delivered_pct:>8.2f} % {row.on_time_pct:>6.2f} % {row.mean:>10.2f}"
            f" {row.true_mean:>9.2f} {row.p99:>7.1f} {row.true_p99:>9.1f} {row.server_late:>10.2f}"
            f" {row.cpu_us:>13.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
