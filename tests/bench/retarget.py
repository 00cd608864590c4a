"""How soon the load reaches another server: from the command to its effective time, and from there to the
first request that is sent there. Two mocks on this machine; `python -m tests.bench.retarget`."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

from rvtop.contract.command import Retarget, Stop
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock

_SWITCHES = 10
_BETWEEN_S = 0.4
_RATES = (50, 400)
_TTFT_MS = 40
_STEP_MS = 5


async def switches(rate: float, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds from each command to its effective time, and from that to the first send there."""
    phase = {"name": "a", "rate": rate, "duration": "10m", "arrivals": "poisson"}
    waits: list[float] = []
    with any_mock(_TTFT_MS, _STEP_MS) as first, any_mock(_TTFT_MS, _STEP_MS) as second:
        watched = Watched(request(first.url, folder, phase))
        await watched.until(lambda s: s.load.ok, "the load")
        for number in range(_SWITCHES):
            given_ns = perf_counter_ns()
            done = watched.session.commands.follow(Retarget((second, first)[number % 2].url), "control")
            assert done.later is not None
            at_ns = (await done.later).at_ns
            assert at_ns is not None
            waits.append((at_ns - given_ns) / 1e6)
            await asyncio.sleep(_BETWEEN_S)
        watched.send(Stop())
        await watched.end()
    times = [row["at_ns"] for row in watched.rows("commands.jsonl") if row["cmd"] == "target"]
    sent: dict[int, int] = {}
    for row in watched.rows():
        number = row.get("target", 0)
        if number and row["sent_ns"] is not None:
            sent[number] = min(row["sent_ns"], sent.get(number, row["sent_ns"]))
    return waits, [(sent[number] - at) / 1e6 for number, at in enumerate(times, 1) if number in sent]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a row for each rate, or for those that are given."""
    rates = [float(text) for text in (sys.argv[1:] if arguments is None else arguments)] or _RATES
    for rate in rates:
        with tempfile.TemporaryDirectory() as folder:
            waits, firsts = asyncio.run(switches(rate, Path(folder) / "run"))
        print(
            f"retarget at {rate:g} rps, {len(firsts)} switches, TTFT {_TTFT_MS} ms: "
            f"command to effective time {statistics.median(waits):.0f} ms (most {max(waits):.0f}), "
            f"effective time to first send {statistics.median(firsts):.1f} ms (most {max(firsts):.1f})"
        )


if __name__ == "__main__":
    main()
