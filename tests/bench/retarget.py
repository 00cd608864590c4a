"""How soon the load reaches another server that is up, and whether each request gets there once:
``python -m tests.bench.retarget [RPS …]``.

A load of constant arrivals goes to and fro between two mocks. For each switch, by the mocks' own logs: from
the command (a key, ``rvtop ctl``) to the first request at the new server, and to that from its third warm-up
answer. Then all requests of the run are looked for in both logs.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rvtop.contract.command import Retarget, Stop
from rvtop.session.warm_up import ROUNDS
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.mock.log import Log

_SWITCHES = 24
_BETWEEN_S = 0.4
_RATES = (50.0, 400.0)
_TTFT_MS = 40
_STEP_MS = 5
_LIMIT_S = 120.0
#: What the first request may take from the command and from the third warm-up answer, milliseconds.
_KEY_MS, _WARM_MS = 1000.0, 100.0
_LAST_WARM_UP = f"rvtop-warm-up-{ROUNDS - 1}"


@dataclass(frozen=True)
class Switch:
    """One that was commanded: when (perf_counter), and which of the two servers it went to."""

    given_ns: int
    to: int


@dataclass(frozen=True)
class Played:
    """A run with its switches: what it and the two servers wrote down."""

    switches: list[Switch]
    requests: list[dict[str, Any]]
    targets: int  # lines of commands.jsonl
    logs: tuple[Log, Log]


async def play(rate: float, folder: Path) -> Played:
    """Switches to and fro under load."""
    phase = {"name": "a", "rate": rate, "duration": "10m", "arrivals": "constant"}
    switches = []
    with any_mock(_TTFT_MS, _STEP_MS) as first, any_mock(_TTFT_MS, _STEP_MS) as second:
        servers = (first, second)
        watched = Watched(request(first.url, folder, phase))
        await watched.until(lambda s: s.load.ok, "the load")
        for number in range(_SWITCHES):
            switches.append(Switch(perf_counter_ns(), (number + 1) % 2))
            command = Retarget(servers[switches[-1].to].url)
            done = watched.session.commands.follow(command, "control")
            assert done.later is not None
            await done.later
            await asyncio.sleep(_BETWEEN_S)
        watched.send(Stop())
        await watched.end(_LIMIT_S)
        logs = (first.stop(), second.stop())
    targets = sum(row["cmd"] == "target" for row in watched.rows("commands.jsonl"))
    return Played(switches, watched.rows(), targets, logs)


def waits_ms(played: Played) -> tuple[list[float], list[float]]:
    """Of each switch, to its first request at the new server: from the command, and from the third warm-up
    answer there."""
    from_key, from_warm = [], []
    for number, switch in enumerate(played.switches):
        log = played.logs[switch.to]
        until = [later.given_ns for later in played.switches[number + 1 :]]
        end = min(until, default=perf_counter_ns())
        rows = [
            (int(arrival), int(last), name)
            for name, arrival, last in zip(log.id, log.arrival_ns, log.last_ns, strict=True)
            if switch.given_ns < arrival < end
        ]
        warm = max(last for _, last, name in rows if name == _LAST_WARM_UP)
        first = min(arrival for arrival, _, name in rows if not name.startswith("rvtop-warm-up"))
        from_key.append((first - switch.given_ns) / 1e6)
        from_warm.append((first - warm) / 1e6)
    return from_key, from_warm


def lost_and_double(played: Played) -> tuple[int, int]:
    """Requests of the run that no server saw, and those that were seen more than once."""
    seen = Counter(name.rpartition("-")[2] for log in played.logs for name in _measured(log))
    sent = [str(row["id"]) for row in played.requests if row["sent_ns"] is not None]
    return sum(not seen[name] for name in sent), sum(count > 1 for count in seen.values())


def _measured(log: Log) -> list[str]:
    return [name for name in log.id if not name.startswith("rvtop-warm-up")]


def _tell(what: str, found: list[float], limit: float) -> None:
    kept = "within" if max(found) <= limit else "MORE than"
    median = statistics.median(found)
    print(
        f"  {what}: median {median:.0f} ms, most {max(found):.0f} ms: {kept} {limit:g} ms",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints three lines for each rate, or for those that are given."""
    rates = [float(text) for text in (sys.argv[1:] if arguments is None else arguments)] or _RATES
    for rate in rates:
        with tempfile.TemporaryDirectory() as folder:
            played = asyncio.run(play(rate, Path(folder) / "run"))
        print(
            f"retarget at {rate:g} rps, TTFT {_TTFT_MS} ms: {len(played.switches)} switches of two mocks, "
            f"{played.targets} in commands.jsonl",
            flush=True,
        )
        from_key, from_warm = waits_ms(played)
        _tell("command to the first request there", from_key, _KEY_MS)
        _tell("third warm-up answer to the first request", from_warm, _WARM_MS)
        lost, double = lost_and_double(played)
        print(f"  of {len(played.requests)} requests {lost} lost, {double} double", flush=True)


if __name__ == "__main__":
    main()
