"""What the client reports of each endpoint against what the server logged: `python -m tests.bench.endpoints`.

One worker at 200 requests a second against the mock with further endpoints; answers of tokens have 8 of them.
The mean latency is from the intended time to the last byte of an answer, as the summary has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.mock.process import EndpointsMock

_RVTOP = str(Path(sys.executable).with_name("rvtop"))
_TOKENS = 8
#: (endpoint, whether it is streamed)
KINDS = (
    ("chat", True),
    ("messages", True),
    ("responses", True),
    ("responses", False),
    ("messages", False),
    ("embeddings", False),
    ("rerank", False),
)
LIMIT_MS = 1.0


@dataclass(frozen=True)
class Row:
    """One endpoint. Times are ms; ``cpu_us`` is the worker's CPU time a request, µs."""

    requests: int
    mean: float
    true_mean: float
    ttft: float | None
    true_ttft: float
    lag: float  # mean lateness of the sends, part of the mean
    cpu_us: float


def measure(endpoint: str, stream: bool, rate: float, seconds: int) -> Row:
    """Drives the mock (30 ms to the first token, 5 ms steps) and compares."""
    scenario = {
        "workload": {"kind": "synthetic", "prompt_tokens": 50, "output_tokens": _TOKENS},
        "endpoint": endpoint,
        "phases": [{"name": "hold", "rate": rate, "duration": f"{seconds}s", "arrivals": "constant"}],
    }
    if not stream and endpoint in ("responses", "messages"):
        scenario["stream"] = False
    with tempfile.TemporaryDirectory() as made:
        file, folder = Path(made, "endpoint.yaml"), Path(made, "run")
        file.write_text(json.dumps(scenario))  # which is YAML too
        with EndpointsMock(ttft_ms=30, step_ms=5, tokens=_TOKENS) as mock:
            command = [_RVTOP, "run", str(file), "--target", mock.url, "--ui", "none", "--out", str(folder)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            log = mock.stop()
        summary = json.loads((folder / "summary.json").read_bytes())
        last = (folder / "timeline.jsonl").read_bytes().splitlines()[-1]
    ours = log.done & np.array([name.startswith("rvtop-") for name in log.id])
    assert summary["requests"]["ok"] == int(ours.sum()) == summary["requests"]["planned"]
    return Row(
        requests=int(ours.sum()),
        mean=summary["e2e_ms"]["mean"],
        true_mean=float((log.last_ns - log.arrival_ns)[ours].mean()) / 1e6,
        ttft=summary["ttft_ms"]["mean"],
        true_ttft=float((log.first_ns - log.arrival_ns)[ours].mean()) / 1e6,
        lag=summary["schedule_lag_ms"]["mean"],
        cpu_us=1e6 * json.loads(last)["worker_cpu_s"] / int(ours.sum()),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row an endpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args(arguments)
    print(
        f"endpoints: one worker, {options.rate:g} rps, {options.seconds} s each; times in ms; "
        f"error of the mean ≤ {LIMIT_MS:g} ms"
    )
    print(
        f"  {'endpoint':<22} {'requests':>8} {'mean':>8} {'(server)':>9} {'error':>7} {'TTFT':>7}"
        f" {'(server)':>9} {'late sends':>11} {'CPU µs':>7}"
    )
    for endpoint, stream in KINDS:
        row = measure(endpoint, stream, options.rate, options.seconds)
        error = row.mean - row.true_mean
        ttft = "--" if row.ttft is None else f"{row.ttft:.2f}"
        true_ttft = "--" if row.ttft is None else f"{row.true_ttft:.2f}"
        print(
            f"  {endpoint + ('' if stream else ', in one piece'):<22} {row.requests:>8} {row.mean:>8.2f}"
            f" {row.true_mean:>9.2f} {error:>7.2f} {ttft:>7} {true_ttft:>9} {row.lag:>11.2f}"
            f" {row.cpu_us:>7.0f}{'' if abs(error) <= LIMIT_MS else '  MISSED'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
