"""How soon a change of the rate is on the wire, by the mock's arrival log: ``python -m tests.bench.rates``.

A live session with constant arrivals gets random rates at random times, then pauses and resumes. With
constant arrivals the n-th one after the start lies on a line ``n = rate * (t - offset)`` for each stretch of
one rate. Where the lines before and after a command cross is when the wire switched, to the fraction of a
gap; nothing of the client's own account goes into it. A burst or a gap moves the crossing away, or bends a
line: so it must lie within the limit after the command, and every arrival near its line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from rvtop.contract.command import Command, Pause, Resume, SetRate, Stop
from tests.faults.sessions import Watched, request
from tests.mock.fast import FastMock

LIMIT_MS = 150.0
_RATES = (40.0, 600.0)
_LEAST_CHANGE = 1.3  # between two rates: where lines are nearly parallel, the crossing says little
_PAIR_RATE = 200.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sent:
    """A command, when it was given (seconds on the mock's clock) and the rate from then on."""

    kind: str
    t: float
    rate: float


@dataclass(frozen=True)
class Line:
    """Arrivals ``first … last`` (numbers in the order of arrival) on ``n = rate * (t - offset)``."""

    rate: float
    offset: float
    worst_s: float  # the arrival farthest from the line


async def drive(url: str, out: Path, changes: int, pairs: int, seed: int) -> list[Sent]:
    """Turns the dial of a session; every command with its time, a first entry for the rate at the start."""
    dice = random.Random(seed)
    rate = 100.0
    phase = {"name": "dial", "rate": rate, "duration": "60m", "arrivals": "constant"}
    watched = Watched(request(url, out, phase))
    await watched.until(lambda s: s.load.ok > 20, "load")
    sent: list[Sent] = [Sent("rate", perf_counter_ns() / 1e9, rate)]

    async def give(kind: str, command: Command) -> None:
        sent.append(Sent(kind, perf_counter_ns() / 1e9, rate))
        watched.send(command)
        await asyncio.sleep(LIMIT_MS / 1e3 + max(5 / rate, dice.uniform(0.2, 0.5)))

    for _ in range(changes):
        before = rate
        while max(rate / before, before / rate) < _LEAST_CHANGE:
            rate = round(_RATES[0] * (_RATES[1] / _RATES[0]) ** dice.random(), 1)
        await give("rate", SetRate(rate))
    rate = _PAIR_RATE
    await give("rate", SetRate(rate))
    for _ in range(pairs):
        await give("pause", Pause())
        await give("resume", Resume())
    watched.send(Stop())
    outcome = await watched.end()
    if outcome.exit_code:
        raise RuntimeError(f"the session ended with {outcome.exit_code}: {outcome.message}")
    return sent


def line_between(arrivals: Floats, since: float, until: float, rate: float) -> Line:
    """The line of slope ``rate`` through the arrivals in the span; raises ValueError where there are none."""
    numbers = np.flatnonzero((arrivals >= since) & (arrivals < until))
    if not numbers.size:
        raise ValueError(f"no arrival between {since:.3f} and {until:.3f} s at {rate:g} rps")
    offsets = arrivals[numbers] - numbers / rate
    # A late arrival is the machine's, and can only be late: the median is the line.
    offset = float(np.median(offsets))
    return Line(rate, offset, float(np.abs(offsets - offset).max()))


def crossing(before: Line, after: Line) -> float:
    """When the arrivals went from one line to the other, seconds."""
    return (after.rate * after.offset - before.rate * before.offset) / (after.rate - before.rate)


@dataclass
class Found:
    """Milliseconds, one a command (``silence``: one a pair), and how far arrivals lay from their lines."""

    switch: list[float]  # from a SetRate until the wire had the new rate
    felt: list[float]  # … until the first arrival after that
    last: list[float]  # from a Pause until the last arrival
    first: list[float]  # from a Resume until the first arrival
    silence: list[float]  # what a pause took out of the plan, less the time between its two commands
    off: list[float]  # farthest arrival of each stretch from its line


def examine(arrivals: Floats, sent: list[Sent], end: float) -> Found:
    """Compares the mock's arrivals (seconds, ascending) with what was commanded."""
    found = Found([], [], [], [], [], [])
    settled = LIMIT_MS / 1e3
    lines: dict[int, Line] = {}
    for index, command in enumerate(sent):
        until = sent[index + 1].t if index + 1 < len(sent) else end
        if command.kind != "pause":
            since = command.t + (settled if index else -1e9)
            lines[index] = line_between(arrivals, since, until, command.rate)
            found.off.append(1e3 * lines[index].worst_s)
    for index, command in enumerate(sent[1:], 1):
        after = arrivals[arrivals >= command.t]
        if command.kind == "rate":
            switch = crossing(lines[index - 1], lines[index])
            found.switch.append(1e3 * (switch - command.t))
            found.felt.append(1e3 * (float(arrivals[arrivals >= switch][0]) - command.t))
        elif command.kind == "pause":
            resumed = sent[index + 1].t
            in_pause = after[after < resumed]
            found.last.append(1e3 * (float(in_pause[-1]) - command.t) if in_pause.size else 0.0)
            lost = lines[index + 1].offset - lines[index - 1].offset
            found.silence.append(1e3 * (lost - (resumed - command.t)))
        elif command.kind == "resume":
            found.first.append(1e3 * (float(after[0]) - command.t))
    return found


def planned(commands: Path) -> Floats:
    """The arrivals that the run's own command log asks for, by integrating its rates: seconds from its t0."""
    entries = [json.loads(line) for line in commands.read_text().splitlines()]
    times, rate, level, last, held = [], 0.0, 0.0, 0.0, 0.0
    for entry in entries:
        t = entry["at_ns"] / 1e9
        area = level + held * (t - last)
        first = int(np.ceil(level - 1e-9))
        times += [last + (n - level) / held for n in range(first, int(np.ceil(area - 1e-9))) if held]
        level, last = area, t
        if entry["cmd"] in ("phase", "rate"):
            rate = entry["rate_from"] if entry["cmd"] == "phase" else entry["value"]
        held = 0.0 if entry["cmd"] in ("pause", "stop") else rate
    return np.array(times)


def _show(what: str, values: list[float], limit: float | None = None) -> None:
    if not values:
        return
    over = "" if limit is None else f"   over {limit:g} ms: {sum(v > limit for v in values)}"
    mean = statistics.mean(values)
    print(f"  {what:<58} mean {mean:7.2f}  min {min(values):7.2f}  max {max(values):7.2f}{over}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Prints means and extremes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=10, help="pauses, each with a resume")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp())
    try:
        with FastMock(ttft_ms=30, step_ms=5, tokens=8) as mock:
            sent = asyncio.run(drive(mock.url, folder / "run", options.changes, options.pairs, options.seed))
            log = mock.stop()
        t0_s = _start_s(folder / "run", log.id, log.arrival_ns)
        plan = planned(folder / "run" / "commands.jsonl")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    arrivals = np.sort(log.arrival_ns) / 1e9
    try:
        found = examine(arrivals, sent, float(arrivals[-1]) + 1e-3)
    except ValueError as error:
        print(f"rates: this machine stood still for longer than a stretch of one rate: {error}")
        return
    print(
        f"rates: {options.changes} random changes ({_RATES[0]:g} to {_RATES[1]:g} rps, constant arrivals) and"
        f" {options.pairs} pauses on a live session, {len(arrivals)} arrivals in the mock's log; ms"
    )
    _show("command to the new rate on the wire (lines cross)", found.switch, LIMIT_MS)
    _show("command to the first arrival at the new rate", found.felt, LIMIT_MS)
    _show("pause to the last arrival", found.last, LIMIT_MS)
    _show("resume to the first arrival", found.first, LIMIT_MS)
    _show("pause in the arrivals, less the time between the commands", found.silence)
    _show("farthest arrival from the line of its rate, per stretch", found.off)
    if len(plan) == len(arrivals):
        off = 1e3 * (arrivals - t0_s - plan)
        print(
            f"  against the plan that the command log asks for: {len(plan)} arrivals, none missing or more;"
            f" later by mean {off.mean():.2f}, p99 {np.percentile(off, 99):.2f}, at most {off.max():.2f}"
        )
    else:
        print(f"  the command log asks for {len(plan)} arrivals, the mock saw {len(arrivals)}")


def _start_s(run: Path, ids: list[str], arrival_ns: npt.NDArray[np.int64]) -> float:
    """The run's start on the mock's clock, seconds. requests.jsonl counts from it, and t0 on this clock is
    not written: no request can arrive before it was sent, so the least difference is the start and a send."""
    seen = dict(zip(ids, arrival_ns.tolist(), strict=True))
    differences = []
    for text in (run / "requests.jsonl").read_text().splitlines():
        row = json.loads(text)
        if row["sent_ns"] is not None and f"rvtop-{row['id']}" in seen:
            differences.append(seen[f"rvtop-{row['id']}"] - row["sent_ns"])
    return min(differences) / 1e9


if __name__ == "__main__":
    main()
