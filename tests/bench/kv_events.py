"""What reading KV events costs: ``python -m tests.bench.kv_events [--rate 10000] [--seconds 10]``.

vLLM's own block pool runs 1 000 prompts with evictions (``tests.backends.kv_pool``), once with many requests
side by side, so that batches have some eight events, and once with few. What it published is sent again and
again over a Unix socket by another process, at so many events a second, and rvtop's reader makes its map of
it once a second. Told is CPU time, of the reader's thread and of its whole process (ZeroMQ's thread
included), so that it holds on a busy machine too."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rvtop.telemetry.kv_decode import decode
from rvtop.telemetry.kv_events import KvEvents, KvSource
from tests.backends import kv_pool

#: Blocks of a pool, and requests side by side: the more of these, the more events in a batch.
POOLS = {"large": (2000, 40), "small": (400, 8)}


def read(file: Path) -> list[bytes]:
    raw, begin, found = file.read_bytes(), 0, []
    while begin < len(raw):
        (size,) = struct.unpack_from(">I", raw, begin)
        found.append(raw[begin + 4 : begin + 4 + size])
        begin += 4 + size
    return found


def publish(url: str, file: Path, rate: float, seconds: float) -> None:
    """Sends the batches at ``rate`` events a second."""
    import zmq

    payloads = [(payload, len(decode(payload).events)) for payload in read(file)]
    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.bind(url)
    socket.recv()  # the reader is there
    began, sent, seq = time.monotonic(), 0, 0
    while time.monotonic() - began < seconds:
        if sent > rate * (time.monotonic() - began):
            time.sleep(0.001)
            continue
        payload, events = payloads[seq % len(payloads)]
        socket.send_multipart([b"", seq.to_bytes(8, "big"), payload])
        sent, seq = sent + events, seq + 1
    time.sleep(1.0)


def made(folder: Path, blocks: int, at_once: int) -> Path:
    """What a pool of ``blocks`` publishes with ``at_once`` requests side by side, as a file."""
    folder.mkdir()
    context = multiprocessing.get_context("spawn")  # vLLM changes the process that imports it
    pool = context.Process(target=kv_pool.main, args=(folder, blocks, at_once))
    pool.start()
    pool.join()
    return folder / "batches.bin"


def measured(file: Path, url: str, rate: float, seconds: float) -> dict[str, float]:
    """The cost of reading what is in ``file``, at ``rate`` events a second."""
    publisher = multiprocessing.get_context("spawn").Process(target=publish, args=(url, file, rate, seconds))
    sizes = [len(decode(payload).events) for payload in read(file)]
    events = KvEvents([KvSource("e", url)])
    events.start()
    time.sleep(2.0)  # what it imports is no cost of reading
    before_s, reader_s = time.process_time(), events.cpu_s
    publisher.start()
    publisher.join()
    events.stop()
    process_s = time.process_time() - before_s
    (stream,) = events.streams
    count = sum(sizes[number % len(sizes)] for number in range(stream.batches))
    return {
        "events": count,
        "events_a_batch": sum(sizes) / len(sizes),
        "lost_batches": stream.lost,
        "reader_us_an_event": 1e6 * (events.cpu_s - reader_s) / count,
        "process_us_an_event": 1e6 * process_s / count,
        "process_share_of_a_core": process_s / seconds,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=10_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="kv", dir="/tmp") as folder:
        for name, (blocks, at_once) in POOLS.items():
            file = made(Path(folder) / name, blocks, at_once)
            told = measured(file, f"ipc://{folder}/{name}.sock", args.rate, args.seconds)
            print(json.dumps({"pool": name, **told}, indent=2))


if __name__ == "__main__":
    main()
