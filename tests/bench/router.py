"""What RVC's router costs: the same load through it, and straight to the engine's own port.

Rounds of requests at once on one running backend, the two ways in turn; ratios of the means over the pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from backends.router.haproxy_config import TOKEN_ENV
from rvtop.target.probe import KEY_ENV
from tests.backends import processes
from tests.backends.backend_process import BackendProcess
from tests.bench.shape import drive, on_core

_ENGINE = ("--model", "large=tiny:large", "--threads", "1", "--dtype", "float32", "--max-queue", "unlimited")


def run_token(backend: BackendProcess) -> str:
    """The bearer that the router adds, from its environment, which is ours to read."""
    (router,) = processes.named(backend.pid, "haproxy")
    for line in Path(f"/proc/{router.pid}/environ").read_bytes().split(b"\0"):
        name, _, value = line.partition(b"=")
        if name == TOKEN_ENV.encode():
            return value.decode()
    raise AssertionError(f"{TOKEN_ENV} is not in the router's environment")


@contextlib.contextmanager
def key(value: str) -> Iterator[None]:
    """``rvtop`` sends this key to its target."""
    before = os.environ.get(KEY_ENV)
    os.environ[KEY_ENV] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[KEY_ENV]
        else:
            os.environ[KEY_ENV] = before


def engine_alone(backend: BackendProcess, engine_pid: int) -> None:
    """The engine keeps its core; the router, the head and Ray's own processes go to the load's: what is asked
    for is the router's cost, not that of a shared core, nor of Ray's metrics (read on one way only)."""
    cores = os.sched_getaffinity(0) | os.sched_getaffinity(engine_pid)
    engine = {process.pid for process in processes.family(engine_pid)}
    for process in processes.family(backend.pid):
        core = max(cores) if process.pid in engine else min(cores)
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {core})


def measure(pairs: int, size: int, repeat: int, tokens: int) -> tuple[list[Any], list[Any]]:
    """KPM through the router and without it, one of each per pair; the order alternates."""
    folder = Path(tempfile.mkdtemp())
    cores = os.sched_getaffinity(0)
    routed, direct = [], []
    try:
        on_core(max(cores))
        backend = BackendProcess("rvc", "--lease", *_ENGINE, log=folder / "backend.log")
        try:
            on_core(min(cores))
            with httpx.Client(trust_env=False) as client:
                (engine,) = client.get(f"{backend.url}/rvtop/topology").json()["engines"]
            engine_alone(backend, engine["pid"])
            with key(run_token(backend)):
                for number in range(pairs):
                    ways = [(backend.url, routed), (engine["url"], direct)]
                    for url, into in ways if number % 2 == 0 else reversed(ways):
                        out = folder / f"{number}-{len(routed)}-{len(direct)}"
                        out.mkdir()
                        into.append(drive(url, out, size, repeat, tokens)["kpm"])
        finally:
            backend.end_lease()
            backend.wait()
    finally:
        os.sched_setaffinity(0, cores)
        shutil.rmtree(folder, ignore_errors=True)
    return routed, direct


def main(arguments: list[str] | None = None) -> None:
    """Prints tokens/s and mean TTFT of both ways, and what lies between them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--size", type=int, default=12, help="requests at once")
    parser.add_argument("--repeat", type=int, default=2, help="rounds that count")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args(arguments)
    # The first pair warms the engine up and does not count.
    runs = measure(options.pairs + 1, options.size, options.repeat, options.tokens)
    routed, direct = (way[1:] for way in runs)
    means = {}
    print(
        f"the router's cost: {options.pairs} pairs of runs, rounds of {options.size}, {options.tokens} tokens"
    )
    for name, runs in (("router", routed), ("direct", direct)):
        tps, ttft = ([run[figure] for run in runs] for figure in ("tps", "ttft_ms"))
        means[name] = statistics.mean(tps), statistics.mean(ttft)
        print(f"  {name}: {means[name][0]:.1f} tok/s, mean TTFT {means[name][1]:.2f} ms   (runs: {tps})")
    (tps, ttft), (own_tps, own_ttft) = means["router"], means["direct"]
    print(
        f"  through the router: tokens/s x {tps / own_tps:.3f}, mean TTFT {ttft - own_ttft:+.2f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
