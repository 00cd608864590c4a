"""What https costs the load: the same load over http and over https, through one HAProxy, which ends TLS.

Runs of one worker in pairs, whose order alternates; the medians of the pairs' differences, and the ratio of
the worker's CPU, handshakes and all. ``python -m tests.bench.https``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mock.fast import any_mock
from tests.mock.haproxy import Proxy, proxied

_RVTOP = str(Path(sys.executable).with_name("rvtop"))
_TTFT_MS, _STEP_MS, _TOKENS = 50, 10, 64
#: What https may add to the TTFT, milliseconds, and how many times the CPU it may take.
MEAN_MS, P99_MS, CPU = 1.0, 3.0, 1.5


@dataclass(frozen=True)
class Run:
    """One run: TTFT in ms, the worker's CPU time a token event in µs, failed requests by class."""

    mean: float
    p99: float
    cpu_us: float
    failed: dict[str, int]


def measure(url: str, proxy: Proxy, rate: float, seconds: int) -> Run:
    """One run at ``url`` of ``proxy``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        trust = ["--ca", proxy.ca] if url == proxy.https else []
        command = [_RVTOP, "run", "--target", url, *trust, "--rate", str(rate), "--duration", f"{seconds}s"]
        command += ["--arrivals", "constant", "--prompt-tokens", "50", "--output-tokens", str(_TOKENS)]
        subprocess.run([*command, "--workers", "1", "--ui", "none", "--out", str(out)], check=True)
        ttft = json.loads((out / "summary.json").read_bytes())["ttft_ms"]
        rows = [json.loads(line) for line in (out / "requests.jsonl").read_bytes().splitlines()]
        last = json.loads((out / "timeline.jsonl").read_bytes().splitlines()[-1])
    tokens = sum(row["chunks"] for row in rows)
    failed = Counter(row["error"] for row in rows if row["error"] is not None)
    return Run(ttft["mean"], ttft["p99"], 1e6 * last["worker_cpu_s"] / tokens, dict(failed))


def pairs(count: int, rate: float, seconds: int) -> list[tuple[Run, Run]]:
    """(http, https) of each pair."""
    made = []
    with (
        tempfile.TemporaryDirectory() as folder,
        any_mock(_TTFT_MS, _STEP_MS, _TOKENS) as mock,
        proxied(mock.url, Path(folder), "option http-no-delay", tls=True) as proxy,
    ):
        for number in range(count):
            order = (proxy.url, proxy.https) if number % 2 == 0 else (proxy.https, proxy.url)
            runs = {url: measure(url, proxy, rate, seconds) for url in order}
            made.append((runs[proxy.url], runs[proxy.https]))
    return made


def _told(name: str, value: str, limit: str, *, held: bool) -> None:
    print(f"  {name}: {value}, limit {limit}: {'held' if held else 'MISSED'}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints each pair, and what lies between the two ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args(arguments)
    print(f"https: {options.rate:g} rps of {_TOKENS} tokens, {options.pairs} pairs of {options.seconds} s")
    found = pairs(options.pairs, options.rate, options.seconds)
    for plain, secure in found:
        for name, run in (("http", plain), ("https", secure)):
            print(
                f"  {name:>5}: mean TTFT {run.mean:.2f} ms, p99 {run.p99:.1f} ms, "
                f"{run.cpu_us:.1f} µs of CPU a token, failed: {run.failed or 'none'}"
            )
    mean = statistics.median(secure.mean - plain.mean for plain, secure in found)
    p99 = statistics.median(secure.p99 - plain.p99 for plain, secure in found)
    cpu = sum(secure.cpu_us for _, secure in found) / sum(plain.cpu_us for plain, _ in found)
    _told("mean TTFT", f"{mean:+.2f} ms", f"{MEAN_MS:g} ms", held=mean <= MEAN_MS)
    _told("p99 of TTFT", f"{p99:+.1f} ms", f"{P99_MS:g} ms", held=p99 <= P99_MS)
    _told("CPU of the worker", f"x {cpu:.2f}", f"x {CPU:g}", held=cpu <= CPU)


if __name__ == "__main__":
    main(sys.argv[1:])
