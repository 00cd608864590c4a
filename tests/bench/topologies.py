"""The servers that people choose between, with the same engine arguments: vLLM's own with one and with two
API servers, RVC, Ray Serve LLM as it ships and without its batcher.

``python -m tests.bench.topologies [--repeats 5] [--few 3] [--tokens 32] [--model tiny] [--json OUT]``

Each server starts once, alone on both cores; then its engine keeps one core, and what stands in front of it
runs on the other one, as the client does. Servers that are compared are up at the same time and take turns,
the order of which alternates; of Ray Serve LLM's two only one is up, beside vLLM's own, for the daemons of
two Ray clusters would share the front's core. A turn is one ``rvtop run``: 1, then 8, then 32 requests at
once. Figures are medians over the turns.

- start: from the start of the process to the first answer.
- memory: of all processes that are not the engine's, the most after a turn (PSS; HAProxy and rvtop's parent
  process, which all of them have, count too).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from rvtop.lifecycle import footprint
from tests.backends.backend_process import BackendProcess
from tests.bench.gpu import run

VLLM, TWO, RVC, RSV, OFF = "vllm", "vllm, 2 API servers", "rvc", "rsv", "rsv, batcher off"
#: How each is started.
SERVERS: Mapping[str, tuple[str, ...]] = {
    VLLM: ("vllm",),
    TWO: ("vllm", "--api-server-count", "2"),
    RVC: ("rvc",),
    RSV: ("rsv",),
    OFF: ("rsv", "--stream-batching-ms", "0"),
}
#: Requests at once, and how many of each.
LEVELS = {1: 16, 8: 40, 32: 96}
#: What is demanded, ms and as a ratio.
_ALONE_MS, _RATIO, _BATCHER_MS = 2.0, 1.10, 5.0
_SCENARIO = """\
name: topologies
seed: 5
workload: {{kind: prompts, file: {prompts}, max_tokens: {tokens}, ignore_eos: true}}
phases:
  - {{name: warm, concurrency: 8, requests: 16, warmup: true}}
"""
_HEAD = (
    f"{'':22}{'c':>3}  {'TTFT p50':>9}{'p99':>9}  {'ITL p50':>9}{'p99':>9}  {'tok/s':>8}  "
    f"{'turns':>5}  {'memory':>9}  {'start':>7}"
)


@dataclass
class Server:
    """One that is up, and what was measured of it: the figures of each turn by requests at once."""

    name: str
    process: BackendProcess
    url: str
    start_s: float
    memory_bytes: int | None = None
    turns: dict[int, list[dict[str, float | None]]] = field(default_factory=dict)

    def figure(self, level: int, key: str) -> float | None:
        """The median over the turns, ms or tokens/s; None where a turn did not tell it."""
        values = [turn[key] for turn in self.turns.get(level, ())]
        known = [value for value in values if value is not None]
        return median(known) if known and len(known) == len(values) else None


@contextlib.contextmanager
def up(name: str, model: str, folder: Path) -> Iterator[Server]:
    """Starts one and waits for its first answer."""
    topology, *more = SERVERS[name]
    engine = ("--model", f"m={model}", "--threads", "1", "--dtype", "float32")
    began = time.perf_counter()
    process = BackendProcess(topology, "--lease", *engine, *more, log=folder / f"{name}.log")
    try:
        url = process.url
        body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
        httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False).raise_for_status()
        server = Server(name, process, url, time.perf_counter() - began)
        print(f"  {name}: first answer after {server.start_s:.0f} s", flush=True)
        keep_apart(process.pid)
        yield server
    finally:
        process.end_lease()
        process.wait()


def keep_apart(pid: int) -> None:
    """Engines below ``pid`` to the last core, everything else to the first."""
    cores = os.sched_getaffinity(0)
    for part in footprint.below(pid):
        core = max(cores) if part.is_engine else min(cores)
        for thread in Path(f"/proc/{part.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {core})


def take_turn(server: Server, scenario: Path, out: Path) -> None:
    """One run against it, and what its memory is afterwards."""
    summary = run(server.url, out, str(scenario), "--ui", "none")
    if summary["requests"]["errors"]:
        print(f"  {server.name}: failed: {summary['requests']['errors']}", flush=True)
    for phase in summary["phases"]:
        if not phase["warmup"]:
            server.turns.setdefault(int(phase["name"][1:]), []).append(figures(phase))
    found = footprint.overhead(footprint.below(server.process.pid))
    if found is not None:
        server.memory_bytes = max(found[0], server.memory_bytes or 0)


def figures(phase: Mapping[str, Any]) -> dict[str, float | None]:
    """What the table tells of one phase of a summary."""
    told = {
        f"{key}_{point}": (phase[f"{key}_ms"] or {}).get(point)
        for key in ("ttft", "itl")
        for point in ("p50", "p99")
    }
    return {**told, "tps": phase["kpm"]["tps"]}


def alternate(servers: Sequence[Server], repeats: int, scenario: Path, folder: Path) -> None:
    """Each takes ``repeats`` turns, every second round in the reverse order."""
    for number in range(repeats):
        for server in servers if number % 2 == 0 else reversed(servers):
            taken = sum(1 for _ in folder.glob(f"{server.name}-*"))
            take_turn(server, scenario, folder / f"{server.name}-{taken}")


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Server], dict[str, Server]]:
    """All of them; and VLLM once more for each of Serve's, as it was beside that one."""
    prompts = Path(__file__).parents[2] / "scenarios" / "smoke.prompts.jsonl"
    scenario = folder / "topologies.yaml"
    levels = "".join(f"  - {{name: c{c}, concurrency: {c}, requests: {n}}}\n" for c, n in LEVELS.items())
    scenario.write_text(_SCENARIO.format(prompts=prompts, tokens=options.tokens) + levels)
    with contextlib.ExitStack() as stack:
        cores = os.sched_getaffinity(0)
        stack.callback(os.sched_setaffinity, 0, cores)
        vllm = stack.enter_context(up(VLLM, options.model, folder))
        with contextlib.ExitStack() as first:
            two, rvc = (first.enter_context(up(name, options.model, folder)) for name in (TWO, RVC))
            on_first(cores)
            alternate([vllm, two, rvc], options.few, scenario, folder)
            alternate([vllm, rvc], options.repeats - options.few, scenario, folder)
        served, beside = [], {}
        for name in (RSV, OFF):
            os.sched_setaffinity(0, cores)
            with up(name, options.model, folder) as server:
                on_first(cores)
                beside[name] = Server(VLLM, vllm.process, vllm.url, vllm.start_s)
                alternate([beside[name], server], options.few, scenario, folder)
                served.append(server)
        return [vllm, two, rvc, *served], beside


def on_first(cores: set[int]) -> None:
    """This process, and what it starts from now on, runs on the core that no engine has."""
    os.sched_setaffinity(0, {min(cores)})


def table(servers: Sequence[Server]) -> list[str]:
    """A line for each and each number of requests at once."""
    lines = [_HEAD]
    for server in servers:
        for level in LEVELS:
            ttft = f"{_ms(server, level, 'ttft_p50')}{_ms(server, level, 'ttft_p99')}"
            itl = f"{_ms(server, level, 'itl_p50')}{_ms(server, level, 'itl_p99')}"
            tps = server.figure(level, "tps")
            line = f"{server.name:22}{level:>3}  {ttft}  {itl}  {'--' if tps is None else f'{tps:.0f}':>8}"
            line += f"  {len(server.turns.get(level, ())):>5}"
            if level == min(LEVELS):
                memory = "--" if server.memory_bytes is None else f"{server.memory_bytes / 2**20:.0f} MiB"
                line += f"  {memory:>9}  {server.start_s:>5.0f} s"
            lines.append(line)
    return lines


def demands(servers: Sequence[Server], beside: Mapping[str, Server]) -> list[str]:
    """What is demanded, each with what was found. ``beside``: VLLM's turns beside each of Serve's."""
    of = {server.name: server for server in servers}
    lines = []
    for level in LEVELS:
        ours, theirs = of[RVC].figure(level, "ttft_p50"), of[VLLM].figure(level, "ttft_p50")
        what = f"rvc's TTFT p50 against vllm's at c = {level}"
        if ours is None or theirs is None:
            lines.append(f"{what}: --")
        elif level == 1:
            held = _held(ours - theirs <= _ALONE_MS)
            lines.append(f"{what}: {ours - theirs:+.2f} ms (demand: at most {_ALONE_MS:+g} ms): {held}")
        else:
            held = _held(ours / theirs <= _RATIO)
            lines.append(f"{what}: x {ours / theirs:.3f} (demand: at most {_RATIO:.2f}): {held}")
    gaps = [_gap(of[name], beside[name]) for name in (RSV, OFF)]
    shipped, rest = gaps
    if shipped is None or rest is None:
        return [*lines, "rsv's TTFT p50 against vllm's at c = 1: --"]
    return [
        *lines,
        f"rsv's TTFT p50 against vllm's at c = 1: {shipped:+.2f} ms, of which the batcher "
        f"{shipped - rest:+.2f} ms; left {rest:+.2f} ms (demand: ± {_BATCHER_MS:g} ms): "
        f"{_held(abs(rest) <= _BATCHER_MS)}",
    ]


def _gap(server: Server, beside: Server) -> float | None:
    """What a request alone waits longer for its first token than beside it at VLLM, ms."""
    of, alone = server.figure(1, "ttft_p50"), beside.figure(1, "ttft_p50")
    return None if of is None or alone is None else of - alone


def _held(held: bool) -> str:
    return "held" if held else "MISSED"


def _ms(server: Server, level: int, key: str) -> str:
    value = server.figure(level, key)
    return f"{'--' if value is None else f'{value:.2f}':>9}"


def main(arguments: list[str] | None = None) -> None:
    """Prints the table and what is demanded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of vllm and rvc")
    parser.add_argument("--few", type=int, default=3, help="turns of the others, and of vllm beside them")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path, help="where the figures of each turn are written")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    try:
        print(f"topologies: one core for the engines, {options.tokens} tokens, model {options.model}")
        servers, beside = measure(options, folder)
        lines = [*table(servers), *demands(servers, beside), f"took {time.perf_counter() - began:.0f} s"]
        print(*(f"  {line}" for line in lines), sep="\n", flush=True)
        if options.json is not None:
            told = {one.name: one.turns for one in servers}
            told |= {f"{VLLM} beside {name}": one.turns for name, one in beside.items()}
            options.json.write_text(json.dumps(told, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
