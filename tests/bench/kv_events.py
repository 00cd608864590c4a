"""What reading KV events costs: ``python -m tests.bench.kv_events [--rate 10000] [--seconds 10]``.

vLLM's own block pool runs 1 000 prompts with evictions (``tests.backends.kv_pool``); what it published is
sent again and again over a Unix socket by another process, at so many events a second, and rvtop's reader
makes its map of it once a second. Told is CPU time, of the reader's thread and of its whole process
(ZeroMQ's thread included), so that it holds on a busy machine too."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import struct
import tempfile
import time
from pathlib import Path

from rvtop.telemetry.kv_decode import decode
from rvtop.telemetry.kv_events import KvEvents, KvSource
from tests.backends import kv_pool


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=10_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--folder", type=Path, help="of an earlier run of tests.backends.kv_pool")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kv", dir="/tmp") as made:
        folder = args.folder or Path(made)
        if args.folder is None:
            context = multiprocessing.get_context("spawn")  # vLLM changes the process that imports it
            pool = context.Process(target=kv_pool.main, args=(folder, 2000, 40))
            pool.start()
            pool.join()
        url, file = f"ipc://{made}/pub", folder / "batches.bin"
        publisher = multiprocessing.get_context("spawn").Process(
            target=publish, args=(url, file, args.rate, args.seconds)
        )
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
    told = {
        "events": count,
        "events_a_batch": sum(sizes) / len(sizes),
        "lost_batches": stream.lost,
        "reader_us_an_event": 1e6 * (events.cpu_s - reader_s) / count,
        "process_us_an_event": 1e6 * process_s / count,
        "process_share_of_a_core": process_s / args.seconds,
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
