"""What ``--otlp`` costs: CPU of all of rvtop's processes, with it and without in turn, at a mock and a
collector on this machine; ``python -m tests.bench.spans [RATE]``.

A run of one second has the fixed part, a longer one also what each request costs.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from tests.bench.startup import run_cpu_s
from tests.mock.fast import any_mock
from tests.unit.collector import collector

_TURNS = 5
_RATE = 200.0
_SHORT_S, _LONG_S = 1, 21


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the medians of the turns, and their least and most."""
    given = sys.argv[1:] if arguments is None else arguments
    rate = float(given[0]) if given else _RATE
    load = ("--arrivals", "constant", "--prompt-tokens", "50", "--output-tokens", "16")
    fixed_s, each_us, without_us = [], [], []
    with any_mock(ttft_ms=40, step_ms=5, tokens=16) as mock, collector() as at:
        for _ in range(_TURNS):
            spans = [*load, "--otlp", at.url]
            plain = [run_cpu_s(mock.url, rate, seconds, *load) for seconds in (_SHORT_S, _LONG_S)]
            traced = [run_cpu_s(mock.url, rate, seconds, *spans) for seconds in (_SHORT_S, _LONG_S)]
            requests = rate * (_LONG_S - _SHORT_S)
            fixed_s.append(traced[0] - plain[0])
            without_us.append(1e6 * (plain[1] - plain[0]) / requests)
            each_us.append(1e6 * (traced[1] - traced[0]) / requests - without_us[-1])
            at.got.clear()
    print(f"--otlp at {rate:g} rps, 16 tokens an answer, {_TURNS} turns: median (least, most)")
    for name, values, unit, digits in (
        ("a request without it", without_us, "us", 0),
        ("a span more", each_us, "us", 0),
        ("once a run", fixed_s, "s", 2),
    ):
        least, most = min(values), max(values)
        middle = statistics.median(values)
        print(f"  {name:<22} {middle:.{digits}f} {unit} ({least:.{digits}f}, {most:.{digits}f})", flush=True)


if __name__ == "__main__":
    main()
