"""A million requests at 2000 a second: does anything grow? ``python -m tests.bench.soak`` (9 minutes).

Samples the memory of the session's process and of its load worker from ``/proc`` while `rvtop run` drives the
C mock with answers of a few tokens. Exit code 1 when either grows by more than the limit after the first
requests, summing up included, which for so many requests is done by a process of its own (told apart).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.tree import descendants
from tests.mock.fast import FastMock

_SAMPLE_S = 1.0
_LINE_S = 10.0
_MB = 1e6


@dataclass(frozen=True)
class Memory:
    """Bytes. ``private``: what no other process has mapped."""

    rss: int
    pss: int
    private: int


@dataclass
class Track:
    """The memory of one process: at the end of the first requests, and the most and last after that."""

    name: str
    base: Memory | None = None
    most: Memory | None = None
    last: Memory | None = None
    samples: int = field(default=0)

    def add(self, now: Memory) -> None:
        self.last = now
        if self.base is None:
            self.base = now
        if self.most is None or now.rss > self.most.rss:
            self.most = now
        self.samples += 1

    @property
    def growth(self) -> float | None:
        """The most resident memory above that at the base, MB; None without samples."""
        return None if self.base is None or self.most is None else (self.most.rss - self.base.rss) / _MB


def memory(pid: int) -> Memory | None:
    """A process's memory now; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    kib: dict[str, int] = {}
    for row in text.splitlines()[1:]:
        name, _, rest = row.partition(":")
        kib[name] = int(rest.split()[0])
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return Memory(1024 * kib["Rss"], 1024 * kib["Pss"], 1024 * private)


def worker_of(session: int) -> int | None:
    """The process id of the session's load worker; None while there is none."""
    for pid in descendants(session):
        with contextlib.suppress(OSError):
            if b"rvtop.load.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def last_row(timeline: Path) -> dict[str, float]:
    """The newest whole line of a timeline; an empty one before there is any."""
    try:
        with open(timeline, "rb") as file:
            file.seek(max(0, timeline.stat().st_size - 16384))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return {}
    found: dict[str, float] = json.loads(lines[-1]) if lines else {}
    return found


def files_of(pid: int | None) -> int:
    """Open descriptors of a process, its connections among them; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def _mb(value: int | None) -> str:
    return "--" if value is None else f"{value / _MB:.1f}"


def _shown(memory: Memory | None) -> str:
    if memory is None:
        return f"{'gone':>28}"
    return f"{_mb(memory.rss):>6} MB ({_mb(memory.private):>6} private)"


def watch(
    process: subprocess.Popen[bytes], run: Path, settle: int, requests: int
) -> tuple[Track, Track, float]:
    """Samples until the process ends: the session's track to its end, the worker's under load, and the most
    that the session's processes held together while it summed up (MB)."""
    session, worker = Track("session"), Track("worker")
    summing = 0.0
    began = told = time.monotonic()
    pid: int | None = None
    while process.poll() is None:
        time.sleep(_SAMPLE_S if not summing else _SAMPLE_S / 10)
        pid = pid or worker_of(process.pid)
        now, held = memory(process.pid), memory(pid) if pid else None
        row = last_row(run / "timeline.jsonl")
        ended = int(row.get("ok", 0))
        if held is None or ended >= requests:  # the load is over
            below = [memory(one) for one in descendants(process.pid) if one != process.pid]
            together = [one.pss / _MB for one in (now, *below) if one is not None]
            summing = max(summing, sum(together) if ended else 0.0)
            if now is not None and session.base is not None:
                session.add(now)
        elif now is not None and ended >= settle:
            session.add(now)
            worker.add(held)
        if time.monotonic() - told >= _LINE_S:
            told += _LINE_S
            size = (run / "requests.jsonl").stat().st_size if row else 0
            print(
                f"  {told - began:5.0f} s  {ended:>8} ok  {row.get('completed_rps') or 0:7.0f} rps"
                f"   session {_shown(now)}   worker {_shown(held)}, {files_of(pid)} files open"
                f"   requests.jsonl {size / _MB:.0f} MB",
                flush=True,
            )
    return session, worker, summing


def main(arguments: list[str] | None = None) -> int:
    """Prints a line each 10 seconds and the growth at the end; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--tokens", type=int, default=2, help="of an answer")
    parser.add_argument("--settle", type=int, default=50_000, help="requests before growth counts")
    parser.add_argument("--limit-mb", type=float, default=30, help="growth that is too much")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp())
    run = folder / "run"
    seconds = options.requests / options.rate
    print(
        f"soak: {options.requests} requests of {options.tokens} tokens at {options.rate:g} rps, one worker:"
        f" {seconds:.0f} s; growth counts after the first {options.settle}",
        flush=True,
    )
    try:
        with FastMock(ttft_ms=20, step_ms=10, tick_ms=10, tokens=options.tokens) as mock:
            command = [
                sys.executable,
                "-m",
                "rvtop.cli",
                "run",
                "--target",
                mock.url,
                "--rate",
                f"{options.rate:g}",
            ]
            command += [
                "--duration",
                f"{round(1000 * seconds)}ms",
                "--arrivals",
                "constant",
                "--workers",
                "1",
            ]
            command += ["--prompt-tokens", "20", "--output-tokens", str(options.tokens), "--ui", "none"]
            process = subprocess.Popen([*command, "--out", str(run)])
            try:
                session, worker, summing = watch(process, run, options.settle, options.requests)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(60)
            log = mock.stop()
        if process.returncode:
            print(f"soak: rvtop ended with exit code {process.returncode}")
            return 1
        summary = json.loads((run / "summary.json").read_bytes())
        size = (run / "requests.jsonl").stat().st_size
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _verdict(options, summary, int(log.done.sum()), size, (session, worker), summing)


def _verdict(
    options: argparse.Namespace,
    summary: dict[str, object],
    answered: int,
    size: int,
    tracks: tuple[Track, Track],
    summing: float,
) -> int:
    print(
        f"  the mock answered {answered} of {options.requests}; summary: {summary['requests']};"
        f" requests.jsonl {size / _MB:.0f} MB ({size / max(1, answered):.0f} bytes a request)"
    )
    print(f"  while it summed up, all its processes held at most {summing:.0f} MB")
    code = 0 if answered == options.requests else 1
    for track in tracks:
        if track.growth is None or track.base is None or track.most is None or track.last is None:
            print(f"  {track.name}: not one sample after the first {options.settle} requests")
            code = 1
            continue
        kept = track.growth < options.limit_mb
        code = code if kept else 1
        private, proportional = (
            (getattr(track.last, kind) - getattr(track.base, kind)) / _MB for kind in ("private", "pss")
        )
        print(
            f"  {track.name}: resident {_mb(track.base.rss)} MB after {options.settle} requests, then at most"
            f" {_mb(track.most.rss)}, at the end {_mb(track.last.rss)}: grew by {track.growth:.1f} MB"
            f" (proportional {proportional:+.1f}, private {private:+.1f});"
            f" {'under' if kept else 'OVER'} {options.limit_mb:g} MB"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
