"""How often comparisons are wrong: 200 made-up pairs of one server under several loads, pairs whose second
run is 10 % slower, and real runs at one mock server; ``python -m tests.bench.compare [PAIRS]``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rvtop.results.compare import ALL, SIGNIFICANT, compare
from rvtop.results.stored import read_summary, side_of
from tests.calibration import JUDGED, called_different, found_slower
from tests.mock.fast import any_mock

_PAIRS, _MOST = 200, 18
_REAL, _MOST_REAL = 10, 2
_LOADS = ((1000, 0.7), (1000, 0.85), (3000, 0.5), (3000, 0.85))
_RATE, _DURATION = 60, "20s"


def real_pairs(pairs: int) -> dict[str, int]:
    """Of so many pairs of runs at one mock, how many differ significantly, by figure."""
    wrong = dict.fromkeys(JUDGED, 0)
    with tempfile.TemporaryDirectory() as folder, any_mock(40, 5) as mock:
        for pair in range(pairs):
            sides = []
            for name in ("a", "b"):
                out = Path(folder, f"{pair}{name}")
                load = ["--rate", str(_RATE), "--duration", _DURATION, "--arrivals", "poisson"]
                load += ["--prompt-tokens", "50", "--output-tokens", "16", "--out", str(out), "--ui", "none"]
                subprocess.run(
                    [sys.executable, "-m", "rvtop.cli", "run", "--target", mock.url, *load],
                    check=True,
                )
                sides.append(side_of(out, read_summary(out)))
            found = compare(*sides)
            for row in found.parts[ALL]:
                if row.figure.key in wrong and row.verdict == SIGNIFICANT:
                    wrong[row.figure.key] += 1
                    print(f"  pair {pair}: {row.figure.name} {row.a} {row.b}: {row.interval}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each."""
    given = sys.argv[1:] if arguments is None else arguments
    for count, load in _LOADS:
        for same in (True, False):
            wrong = called_different(_PAIRS, count, load, same_arrivals=same)
            how = "same arrivals" if same else "other arrivals"
            told = "ok" if max(wrong.values()) <= _MOST else f"MORE THAN {_MOST}"
            print(
                f"compare: {count} requests, load {load:g}, {how}: of {_PAIRS} pairs differ {wrong}: {told}"
            )
    found = found_slower(20, 10_000, 0.5, 1.1, JUDGED[:3])
    print(f"compare: 10 % slower, 10000 requests, load 0.5: of 20 pairs found {found}")
    pairs = int(given[0]) if given else _REAL
    real = real_pairs(pairs)
    told = "ok" if max(real.values()) <= _MOST_REAL * pairs / _REAL else "TOO MANY"
    print(
        f"compare: real runs at one mock, {_RATE} rps for {_DURATION}: of {pairs} pairs differ {real}: {told}"
    )


if __name__ == "__main__":
    main()
