"""Real pairs of two servers whose TTFT has a deviation of 15 ms: how often A against A calls a winner, and
after how many pairs a planted difference of 5 ms is found. `python -m tests.bench.pairs [RUNS]`.

Of the variance half is the prompt's, which both servers share; the rest is each request's own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rvtop.contract.pairs import PairOptions
from rvtop.session.pair_plan import with_pairs
from rvtop.session.request import SessionRequest
from rvtop.session.session import Session
from tests.faults.sessions import request

_RUNS = 20
_PAIRS = 299  # "fewer than 300"
_RATE = 60
_BASE_MS, _DEVIATION_MS, _SHARED = 80.0, 15.0, 0.5
_BY_MS = 5.0
_WORKLOAD = {"kind": "synthetic", "prompt_tokens": 20, "output_tokens": 2, "count": 400}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def serve(by_ms: float) -> None:
    """Two servers, of which the second answers ``by_ms`` later; prints their ports. They share a process:
    what else runs on this machine is then no difference between them."""
    for late_ms in (0.0, by_ms):
        server = await asyncio.start_server(partial(_answer, random.Random(), late_ms), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # ends with whoever started it


async def _answer(
    own: random.Random, late_ms: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answers each request after its prompt's time, its own and ``late_ms``."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            if not body:
                _reply(writer, head)
                continue
            spread = [_DEVIATION_MS * math.sqrt(share) for share in (_SHARED, 1 - _SHARED)]
            seed = hashlib.blake2b(json.dumps(json.loads(body)["messages"]).encode()).digest()
            noise = random.Random(seed).gauss(0, spread[0]) + own.gauss(0, spread[1])
            await asyncio.sleep(max(1.0, _BASE_MS + late_ms + noise) / 1e3)
            writer.write(_HEAD)
            for event in ('{"choices":[{"index":0,"delta":{"content":"a"}}]}', "[DONE]"):
                text = f"data: {event}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
            writer.write(b"0\r\n\r\n")
    writer.close()


def _reply(writer: asyncio.StreamWriter, head: bytes) -> None:
    models = head.startswith(b"GET /v1/models ")
    text = b'{"object":"list","data":[{"id":"m"}]}' if models else b"{}"
    status = b"200 OK" if models or head.startswith(b"GET /health ") else b"404 Not Found"
    writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))


@contextlib.contextmanager
def servers(by_ms: float) -> Iterator[tuple[str, str]]:
    """The URLs of both, in a process of their own."""
    command = [sys.executable, "-m", "tests.bench.pairs", "--serve", str(by_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            first, second = (f"http://127.0.0.1:{int(process.stdout.readline())}" for _ in range(2))
            yield first, second
        finally:
            process.stdin.close()


def asked(a: str, b: str, folder: Path, seed: int) -> SessionRequest:
    """A session of so many pairs."""
    options = PairOptions(b, pairs=_PAIRS, same=0)
    phases = (
        {"name": "w", "rate": 20, "duration": 0.5, "warmup": True},
        {"name": "p", "rate": _RATE, "duration": (_PAIRS + 30) / _RATE, "arrivals": "poisson"},
    )
    made = request(a, folder, *phases, workload=_WORKLOAD, pair=options)
    assert made.scenario is not None
    scenario = with_pairs(made.scenario, options).model_copy(update={"seed": seed})
    return replace(made, scenario=scenario)


async def called(runs: int, by_ms: float, folder: Path) -> tuple[list[int | None], list[float], list[float]]:
    """Of each run: after how many of its first pairs TTFT was called; the difference it found and the
    deviation that A's TTFT really had, ms."""
    found: list[int | None] = []
    differences: list[float] = []
    deviations: list[float] = []
    with servers(by_ms) as (a, other):
        for number in range(runs):
            b = other if by_ms else a
            out = folder / f"{by_ms:g}-{number}"
            outcome = await Session(asked(a, b, out, number)).run()
            assert outcome.summary is not None, outcome.message
            row = outcome.summary["pairs"]["rows"]["ttft"]
            at = row["called"]
            found.append(at if at is not None and at <= _PAIRS else None)
            differences.append(row["difference"])
            lines = (out / "pairs.jsonl").read_bytes().splitlines()
            pairs = [pair for pair in map(json.loads, lines) if pair["stage"] == "both"]
            deviations.append(statistics.stdev(pair["a"]["ttft"] for pair in pairs if "ttft" in pair["a"]))
    return found, differences, deviations


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for A against A and one for the planted difference."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--serve"]:
        asyncio.run(serve(float(given[1])))
        return
    runs = int(given[0]) if given else _RUNS
    for by_ms, name in ((0.0, "A against A"), (_BY_MS, f"B {_BY_MS:g} ms later")):
        with tempfile.TemporaryDirectory() as folder:
            found, differences, deviations = asyncio.run(called(runs, by_ms, Path(folder)))
        told = [at for at in found if at is not None]
        after = f", after {statistics.median(told):.0f} (most {max(told)}) of" if told else " in"
        print(
            f"pairs, {name}: a winner in {len(told)} of {runs} runs{after} {_PAIRS} pairs; "
            f"mean difference {statistics.fmean(differences):+.2f} ms, TTFT's deviation "
            f"{statistics.median(deviations):.1f} ms (most {max(deviations):.1f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
