"""KV events off the wire: no token is kept, no lost batch goes unseen."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

pytest.importorskip("zmq")

from kv_publisher import CLEARED, SECRET, Publisher, batch, removed, stored

from rvtop.errors import UserError
from rvtop.stats.kv_map import EngineMap
from rvtop.telemetry import kv_events
from rvtop.telemetry.kv_decode import BadBatch, BlockStored, decode
from rvtop.telemetry.kv_events import KvEvents, KvSource, source_of
from rvtop.telemetry.kv_stream import KvStream

# -- the decoder --------------------------------------------------------------------------------


def test_no_token_of_a_prompt_leaves_the_decoder() -> None:
    payload = batch(stored("a b"), removed("a"), stored("c", "b"))
    assert msgspec.msgpack.encode(SECRET) in payload
    stream = KvStream("e", can_replay=False)
    stream.live(0, payload)
    (first, _, _) = decode(payload).events
    assert isinstance(first, BlockStored)
    assert set(first.__struct_fields__) == {
        *("block_hashes", "block_size", "parent_block_hash", "medium", "group_idx")
    }
    picture = stream.picture(2.0)
    told = repr((first, picture, dataclasses.asdict(picture), stream.map.__dict__, stream.__dict__))
    assert str(SECRET) not in told


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        batch()[:-2],
        msgspec.msgpack.encode({"ts": 1.0}),
        batch({"type": "BlockMoved"}),
        batch({"type": "BlockStored", "block_hashes": f"{SECRET}", "block_size": 16}),
    ],
)
def test_bytes_that_are_no_batch_are_a_lost_batch(payload: bytes) -> None:
    with pytest.raises(BadBatch) as told:
        decode(payload)
    assert str(SECRET) not in str(told.value)
    stream = KvStream("e", can_replay=False)
    stream.live(0, payload)
    assert (stream.lost, stream.bad, stream.complete) == (1, 1, False)


def test_older_releases_and_other_media() -> None:
    """Hashes may be numbers, fields may be missing; what is offloaded is not in the engine's cache."""
    old = {
        "type": "BlockStored",
        "block_hashes": [7],
        "parent_block_hash": None,
        "token_ids": [1],
        "block_size": 16,
    }
    stream = KvStream("e", can_replay=False)
    stream.live(0, batch({**old, "lora_id": None}, stored("a", medium="CPU"), stored("a", group=1)))
    assert stream.map.copies() == {7: 1, (b"a", 1): 1}


# -- the order of batches -----------------------------------------------------------------------


def test_a_lost_batch_is_shown_until_the_cache_is_reset() -> None:
    stream = KvStream("e", can_replay=False)
    stream.live(0, batch(stored("a")))
    assert stream.complete
    stream.live(3, batch(stored("b", "a")))
    made = stream.picture(2.0)
    assert (made.lost, made.complete) == (2, False)
    assert made.why == "2 batches lost: incomplete until the cache is reset"
    stream.live(4, batch(CLEARED, stored("z")))
    made = stream.picture(3.0)
    assert (made.cached, made.complete, made.why, made.lost) == (1, True, "", 2)


def test_what_was_before_the_first_batch_is_lost_without_a_replay() -> None:
    stream = KvStream("e", can_replay=False)
    assert not stream.complete
    assert stream.why().startswith("no event yet")
    stream.live(40, batch(stored("b", "a")))
    assert (stream.lost, stream.complete) == (40, False)


def test_a_gap_is_asked_for_and_what_comes_meanwhile_waits() -> None:
    stream = KvStream("e", can_replay=True)
    assert stream.ask_from == 0
    stream.asked()
    stream.replay_over()
    stream.live(0, batch(stored("a")))
    stream.live(2, batch(removed("b")))
    assert stream.ask_from == 1
    stream.asked()
    stream.live(3, batch(stored("c")))
    assert not stream.complete
    for seq, payload in ((1, batch(stored("b"))), (2, batch(removed("b")))):
        stream.again(seq, payload)
    stream.replay_over()
    stream.live(4, batch(stored("d")))
    made = stream.picture(2.0)
    assert set(stream.map.copies()) == {b"a", b"c", b"d"}
    assert (made.complete, made.lost, made.replayed) == (True, 0, 2)


def test_a_replay_that_no_longer_has_it_all() -> None:
    stream = KvStream("e", can_replay=True)
    stream.asked()
    stream.again(5, batch(stored("f")))
    stream.replay_over()
    assert (stream.lost, stream.complete) == (5, False)


def test_an_engine_that_is_started_again_begins_from_nothing() -> None:
    stream = KvStream("e", can_replay=False)
    for seq in range(3):
        stream.live(seq, batch(stored(f"k{seq}")))
    stream.live(0, batch(stored("new")))
    assert (set(stream.map.copies()), stream.restarts, stream.complete) == ({b"new"}, 1, True)
    stream.reconnected()
    stream.live(
        5, batch(stored("other"))
    )  # no batch of the one before: another engine, of which 5 are missing
    assert (set(stream.map.copies()), stream.restarts, stream.lost) == ({b"other"}, 2, 5)


# -- sockets ------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="kv", dir="/tmp") as made:  # a socket's path has to be short
        yield Path(made)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def engine(events: KvEvents, number: int = 0) -> EngineMap:
    return events.picture.engines[number]


def test_what_was_published_before_is_replayed_and_a_loss_is_made_good(folder: Path) -> None:
    publisher = Publisher(folder)
    publisher.publish(stored("a b"))  # nobody subscribes yet
    events = KvEvents([KvSource("e", publisher.url, publisher.replay)], look_s=0.05)
    events.start()
    try:
        publisher.until_joined()
        until(lambda: engine(events).cached == 2)
        publisher.skip(removed("b"))
        publisher.publish(stored("c", "a"))
        until(lambda: engine(events).cached == 2 and engine(events).replayed == 3)
        assert engine(events).complete
        assert engine(events).lost == 0
    finally:
        events.stop()
        publisher.close()


def test_without_a_replay_endpoint_a_loss_is_told(folder: Path) -> None:
    publisher = Publisher(folder)
    events = KvEvents([KvSource("e", publisher.url)], look_s=0.05)
    events.start()
    try:
        publisher.until_joined()
        publisher.publish(stored("a"))
        publisher.skip(stored("b"))
        publisher.publish(stored("c"))
        until(lambda: engine(events).cached == 2)
        assert (engine(events).lost, engine(events).complete) == (1, False)
        publisher.publish(CLEARED)
        until(lambda: engine(events).complete)
        publisher.close()
        until(lambda: engine(events).why.startswith("publisher gone"))
        again = Publisher(folder)
        again.until_joined()
        again.publish(stored("x"))
        until(lambda: engine(events).cached == 1 and engine(events).restarts == 1)
        assert engine(events).complete
        again.close()
    finally:
        events.stop()


def test_messages_of_other_parts_are_left_out(folder: Path) -> None:
    """What follows one is read from where it begins."""
    publisher = Publisher(folder)
    events = KvEvents([KvSource("e", publisher.url)], look_s=0.05)
    events.start()
    try:
        publisher.until_joined()
        number, payload = (7).to_bytes(8, "big"), batch(stored("x y z"))
        publisher.say(b"", number, payload, b"more")
        publisher.publish(stored("a"))
        publisher.publish(stored("b"))
        publisher.say(b"topic", b"short", payload)
        publisher.publish(stored("c"))
        until(lambda: engine(events).cached == 3)
        assert (engine(events).lost, engine(events).complete) == (0, True)
    finally:
        events.stop()
        publisher.close()


def test_engines_of_one_model_are_compared(folder: Path) -> None:
    publishers = [Publisher(folder, f"pub{n}") for n in range(2)]
    events = KvEvents(
        [KvSource(f"e{n}", p.url, p.replay, "m") for n, p in enumerate(publishers)], look_s=0.05
    )
    events.start()
    try:
        for publisher in publishers:
            publisher.until_joined()
        publishers[0].publish(stored("s a"))
        until(lambda: engine(events, 0).cached == 2)
        publishers[1].publish(stored("s b"))
        until(lambda: engine(events, 1).cached == 2)
        locality = events.picture.locality
        assert locality is not None
        assert (locality.offered, locality.taken, locality.share) == (1, 0, 0.0)
    finally:
        events.stop()
        for publisher in publishers:
            publisher.close()


def test_a_socket_that_is_not_here_and_packages_that_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = KvEvents([KvSource("e", f"ipc://{folder}/none")])
    events.start()
    until(lambda: engine(events).why.startswith("its socket is not here"))
    events.stop()
    monkeypatch.setattr(kv_events, "find_spec", lambda name: None)
    events = KvEvents([KvSource("e", f"ipc://{folder}/none")])
    events.start()
    events.stop()
    assert events.picture.note == "pyzmq and msgspec not installed; pip install 'rvtop[kv]'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://h:1", "must look like tcp://host:5557"),
        ("tcp://h", "must look like"),
        ("tcp://h:0", "must look like"),
        ("tcp://*:5557", "give the engine's host in place of *"),
        ("ipc://kv", "needs an absolute path"),
        (f"ipc:///{'x' * 108}", "at most 107 bytes"),
        ("tcp://h:1,", "must look like"),
    ],
)
def test_addresses_that_cant_be(text: str, said: str) -> None:
    with pytest.raises(UserError, match="--kv-events-url") as told:
        source_of(text, 0)
    assert said in str(told.value)


def test_addresses() -> None:
    assert source_of("tcp://h:5557", 1) == KvSource("kv1", "tcp://h:5557")
    assert source_of("ipc:///a/b,tcp://[::1]:2", 0) == KvSource("kv0", "ipc:///a/b", "tcp://[::1]:2")
