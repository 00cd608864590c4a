"""rvtop beside `vllm bench serve` in Python and in Rust, AIPerf and GuideLLM, each in turn against one mock
whose log is the truth.

``python -m tests.bench.peers [--clients rvtop,vllm-rs,vllm,aiperf,guidellm] [--rates 100,…,highest]
[--json OUT]``

The mock writes at each 10 ms only, to every stream, as vLLM's engine steps do.

- delivered: requests that reached the mock within the asked span (and were answered), of those asked.
- error: what the client reports as mean and p99 TTFT, less what the mock's log says of the same requests.
- CPU: user and system seconds of the client's whole process tree, from the first request's arrival at the
  mock to the client's end, per million token events. So start-up (imports, tokenizer, making prompts, worker
  processes) is left out, and summing up is not. The tree is sampled each 0.1 s until the first arrival.
- whole: CPU seconds of that tree from its start to its end.
- highest: the highest of the steps above 1600 at which rvtop, with one worker, still keeps its bar.

A client that is not done after 6 times the span and a minute is cut; what the mock saw of it still counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.models.tiny.tiny import ensure_model
from tests.bench import peers_env
from tests.bench.peers_clients import CLIENTS, Client, Load, Told
from tests.mock.fast import FastMock
from tests.mock.log import Log

TREE = str(Path(__file__).with_name("tree.py"))
TOKENS = 64
TTFT_MS = 50.0
STEP_MS = 10.0
#: A request counts as delivered this long after the asked span, seconds: the last one's way to the server.
_SLACK_S = 0.05
_DELIVERED_PCT = 99.5
_ERROR_MS = 5.0
#: At rates from the first on, rvtop's whole processes are to cost less than the Rust client's; its mean is to
#: be truer at every rate, or both are this true, ms.
_WHOLE_FROM_RPS = 400
_BOTH_TRUE_MS = 0.2
_FEWER = {"vllm": 5.0, "aiperf": 15.0, "guidellm": 15.0}
_STEPS = (1800, 2000, 2200, 2400, 2800, 3200, 3600, 4000, 4800, 5600, 6400)


@dataclass(frozen=True)
class Row:
    """One client at one rate; times in ms, None where there is nothing to say."""

    client: str
    rate: float
    asked: int
    arrived: int  # requests that the mock saw, whenever
    delivered_pct: float
    told_mean: float | None
    told_p99: float | None
    true_mean: float | None
    true_p99: float | None
    mock_late: float | None  # mean lateness of the mock's own writes
    events: int
    cpu_s: float  # of the whole tree, start-up included
    start_up_cpu_s: float  # until the first request arrived
    cpu_per_million: float | None  # less start-up, seconds per million token events
    wall_s: float
    note: str = ""

    @property
    def mean_error(self) -> float | None:
        return None if self.told_mean is None or self.true_mean is None else self.told_mean - self.true_mean

    @property
    def p99_error(self) -> float | None:
        return None if self.told_p99 is None or self.true_p99 is None else self.told_p99 - self.true_p99

    @property
    def keeps_bar(self) -> bool:
        """Delivered and mean error within what rvtop promises."""
        error = self.mean_error
        return self.delivered_pct >= _DELIVERED_PCT and error is not None and abs(error) <= _ERROR_MS


def _environment() -> dict[str, str]:
    """Nothing of ours in the way; and not offline, or AIPerf takes no local folder for a tokenizer."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("RVTOP_API", "PYTHON"))}
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        env.pop(name, None)
    return env | {"NO_COLOR": "1", "COLUMNS": "200"}


def delivered(log: Log, asked: int, rate: float) -> int:
    """How many answered requests of ``log`` arrived within the span of ``asked`` requests at ``rate``."""
    if not len(log):
        return 0
    within = log.arrival_ns - log.arrival_ns.min() <= (asked / rate + _SLACK_S) * 1e9
    return int((within & log.done).sum())


def run_client(
    client: Client, rate: float, count: int, limit_s: float
) -> tuple[Log, dict[str, Any], Told | None, str]:
    """One run against a mock of its own: the mock's log, the tree's usage, what the client told, last words.

    Raises PeerError when the client can't be had.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        out = folder / "out"
        out.mkdir()
        with FastMock(ttft_ms=TTFT_MS, step_ms=STEP_MS, tick_ms=STEP_MS, tokens=TOKENS) as mock:
            load = Load(mock.url, rate, count, TOKENS, ensure_model(), out)
            report = folder / "usage.json"
            command = [sys.executable, TREE, "--limit", str(limit_s)]
            command += ["--report", str(report), "--watch", mock.url, "--", *client.command(load)]
            with open(folder / "said", "wb") as said:
                subprocess.run(
                    command, check=True, stdout=said, stderr=subprocess.STDOUT, cwd=folder, env=_environment()
                )
            log = mock.stop()
        usage: dict[str, Any] = json.loads(report.read_bytes())
        words = (folder / "said").read_bytes().decode(errors="replace").strip()[-400:]
        try:
            told = client.read(load) if usage["code"] is not None else None
        except (OSError, KeyError, TypeError, ValueError):
            told = None
        return log, usage, told, " ".join(words.split())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_up_s(samples: Sequence[Sequence[float]], arrival_ns: float) -> float:
    """CPU seconds that the tree had spent by ``arrival_ns``, between (perf_counter_ns, CPU s) samples."""
    times, spent = zip(*samples, strict=True)
    return float(np.interp(arrival_ns, times, spent))


def measure(client: Client, rate: float, seconds: float) -> Row:
    """One client at one rate."""
    asked = round(rate * seconds)
    log, usage, told, words = run_client(client, rate, asked, 6 * seconds + 60)
    note = ""
    if usage["code"] is None:
        note = f"cut after {usage['wall_s']:.0f} s"
    elif usage["code"] != 0:
        note = f"exit code {usage['code']}: {words[-120:]}"
    elif told is None:
        note = f"no report: {words[-120:]}"
    truth = log.ttft_ns / 1e6
    events = int(log.tokens.sum())
    before = start_up_s(usage["samples"], float(log.arrival_ns.min())) if len(log) else usage["cpu_s"]
    return Row(
        client=client.name,
        rate=rate,
        asked=asked,
        arrived=len(log),
        delivered_pct=100 * delivered(log, asked, rate) / asked,
        told_mean=told.mean_ms if told else None,
        told_p99=told.p99_ms if told else None,
        true_mean=float(truth.mean()) if len(truth) else None,
        true_p99=float(np.percentile(truth, 99)) if len(truth) else None,
        mock_late=log.late_mean_ms if events else None,
        events=events,
        cpu_s=usage["cpu_s"],
        start_up_cpu_s=before,
        cpu_per_million=1e6 * (usage["cpu_s"] - before) / events if events else None,
        wall_s=usage["wall_s"],
        note=note,
    )


_HEAD = (
    f"  {'client':<19} {'rps':>5} {'delivered':>10} {'mean TTFT':>10} {'truth':>8} {'error':>8}"
    f" {'p99':>8} {'truth':>8} {'error':>8} {'mock late':>10} {'CPU s/M tokens':>15} {'x rvtop':>8}"
    f" {'whole':>6}"
)


def _figure(value: float | None, form: str) -> str:
    return "--" if value is None else format(value, form)


def line(row: Row, own: Row | None) -> str:
    """A row of the table; ``own`` is rvtop's at the same rate, for the ratio."""
    ratio = None
    if own is not None and own.cpu_per_million and row.cpu_per_million is not None:
        ratio = row.cpu_per_million / own.cpu_per_million
    note = f"   {row.note}" if row.note else ""
    return (
        f"  {CLIENTS[row.client].title:<19} {row.rate:>5g} {row.delivered_pct:>8.2f} %"
        f" {_figure(row.told_mean, '.2f'):>10} {_figure(row.true_mean, '.2f'):>8}"
        f" {_figure(row.mean_error, '+.2f'):>8} {_figure(row.told_p99, '.1f'):>8}"
        f" {_figure(row.true_p99, '.1f'):>8} {_figure(row.p99_error, '+.1f'):>8}"
        f" {_figure(row.mock_late, '.2f'):>10} {_figure(row.cpu_per_million, '.2f'):>15}"
        f" {_figure(ratio, '.1f'):>8} {row.cpu_s:>6.2f}{note}"
    )


def highest(seconds: float) -> Row | None:
    """rvtop's row at the highest step that it still keeps; None when it does not keep the first."""
    best: Row | None = None
    for rate in _STEPS:
        row = measure(CLIENTS["rvtop"], float(rate), seconds)
        kept = "kept" if row.keeps_bar else "not kept"
        print(
            f"  rvtop, looking for the highest: {rate} rps: delivered {row.delivered_pct:.2f} %, mean error"
            f" {_figure(row.mean_error, '+.2f')} ms, mock late {_figure(row.mock_late, '.2f')} ms: {kept}",
            flush=True,
        )
        if not row.keeps_bar:
            break
        best = row
    return best


def _ready(names: Sequence[str]) -> list[str]:
    """The clients that can be had; a line for each that can't."""
    ready: list[str] = []
    for name in names:
        try:
            if name in peers_env.RECIPES:
                peers_env.program(name)
            ready.append(name)
        except peers_env.PeerError as error:
            print(f"  {CLIENTS[name].title}: left out: {error}", flush=True)
    return ready


def verdict(rows: Sequence[Row]) -> list[str]:
    """What the rows say of the promises of rvtop."""
    own = {row.rate: row for row in rows if row.client == "rvtop"}
    out = []
    if own:
        missed = [f"{row.rate:g}" for row in own.values() if not row.keeps_bar]
        said = "at every rate" if not missed else f"not at {', '.join(missed)} rps"
        out.append(f"rvtop: delivered >= {_DELIVERED_PCT} % and mean within {_ERROR_MS:g} ms: {said}")
    for name, bar in _FEWER.items():
        ratios = [
            (row.cpu_per_million / own[row.rate].cpu_per_million, row.rate)  # type: ignore[operator]
            for row in rows
            if row.client == name
            and row.cpu_per_million
            and row.rate in own
            and own[row.rate].cpu_per_million
        ]
        if ratios:
            low, at = min(ratios)
            said = "" if low >= bar else f", LESS than {bar:g}"
            out.append(
                f"{CLIENTS[name].title}: {low:.1f} to {max(ratios)[0]:.1f} times rvtop's CPU per token event"
                f" (lowest at {at:g} rps; wanted {bar:g}{said})"
            )
    return out + _beside_rust(rows, own)


def _beside_rust(rows: Sequence[Row], own: Mapping[float, Row]) -> list[str]:
    """Where rvtop's mean is less true than the Rust client's, or its whole processes cost more."""
    pairs = [(own[row.rate], row) for row in rows if row.client == "vllm-rs" and row.rate in own]
    if not pairs:
        return []
    falser, dearer = [], []
    for ours, theirs in pairs:
        errors = [abs(row.mean_error) if row.mean_error is not None else math.inf for row in (ours, theirs)]
        if errors[0] > errors[1] and max(errors) > _BOTH_TRUE_MS:
            falser.append(f"{ours.rate:g}")
        if ours.rate >= _WHOLE_FROM_RPS and ours.cpu_s > theirs.cpu_s:
            dearer.append(f"{ours.rate:g}")
    said = "at every rate" if not falser else f"NOT at {', '.join(falser)} rps"
    cost = "at every rate" if not dearer else f"NOT at {', '.join(dearer)} rps"
    return [
        f"{CLIENTS['vllm-rs'].title}: rvtop's mean is truer, or both within {_BOTH_TRUE_MS:g} ms: {said};"
        f" its whole processes cost less from {_WHOLE_FROM_RPS} rps on: {cost}"
    ]


def _wanted(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", default=",".join(CLIENTS), help="comma-separated, in this order")
    parser.add_argument("--rates", default="100,200,400,800,1600,highest", help="requests per second")
    parser.add_argument("--seconds", type=float, default=10, help="of load, per rate")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args(arguments)
    options.clients = options.clients.split(",")
    options.rates = options.rates.split(",")
    unknown = [name for name in options.clients if name not in CLIENTS]
    if unknown:
        parser.error(f"--clients: no client {unknown[0]!r}; there are {', '.join(CLIENTS)}")
    for rate in options.rates:
        try:
            if rate != "highest" and not float(rate) > 0:
                raise ValueError
        except ValueError:
            parser.error(f"--rates: {rate!r} is neither a rate above 0 nor `highest`")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Prints a row per client and rate as they come."""
    options = _wanted(arguments)
    print(
        f"peers: {TOKENS} tokens a request, first after {TTFT_MS:g} ms, then one each {STEP_MS:g} ms,"
        f" to all streams at the same times;"
        f" {options.seconds:g} s a rate; {os.cpu_count()} CPUs shared with the mock; times in ms",
        flush=True,
    )
    ready = _ready(options.clients)
    print(_HEAD)
    rows: list[Row] = []
    for wanted in options.rates:
        own: Row | None = None
        if wanted == "highest":
            own = highest(options.seconds) if "rvtop" in ready else None
            if own is None:
                print("  highest: none above 1600 rps that rvtop keeps", flush=True)
                continue
            rows.append(own)
            print(line(own, own), flush=True)
        rate = own.rate if own is not None else float(wanted)
        for name in ready:
            if name == "rvtop" and own is not None:
                continue
            row = measure(CLIENTS[name], rate, options.seconds)
            own = row if name == "rvtop" else own
            rows.append(row)
            print(line(row, own), flush=True)
    for text in verdict(rows):
        print(f"  {text}", flush=True)
    if options.json is not None:
        write_json(options.json, ready, rows)


def write_json(path: Path, ready: Sequence[str], rows: Sequence[Row]) -> None:
    """Everything measured, with what measured it."""
    recipes = {name: recipe.requirement for name, recipe in peers_env.RECIPES.items() if name in ready}
    table = [asdict(row) | {"mean_error": row.mean_error, "p99_error": row.p99_error} for row in rows]
    machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    data = {"machine": machine, "peers": recipes, "rows": table}
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    print(f"  written: {path}", flush=True)


if __name__ == "__main__":
    main()
