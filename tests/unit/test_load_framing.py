"""Frames between our processes: whole messages out of bytes that are split anywhere."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.contract.command import Pause, SetRate, Stop
from rvtop.ipc.frames import Unpacker, pack
from rvtop.load.plan.schedule import PlanEvent
from rvtop.load.worker.messages import Delta, Ready
from rvtop.stats.histogram import Histogram

messages = st.lists(
    st.one_of(
        st.builds(SetRate, st.floats(0, 1e6)),
        st.just(Pause()),
        st.builds(Stop, st.text(max_size=20)),
        st.builds(PlanEvent, st.integers(0, 2**62), st.sampled_from(["rate", "cut"]), st.floats(0, 10)),
        st.builds(Ready, st.integers(0, 9), st.integers(1, 99999)),
        st.binary(max_size=2000),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(messages, st.lists(st.integers(0, 5000), max_size=20))
def test_any_splitting_gives_the_messages_back(sent: list[object], at: list[int]) -> None:
    stream = b"".join(map(pack, sent))
    unpacker, got = Unpacker(), []
    cuts = sorted({cut for cut in at if cut < len(stream)})
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += unpacker.feed(stream[a:b])
    assert got == sent


def test_byte_by_byte_and_half_a_frame_waits() -> None:
    stream = pack("first") + pack("second")
    unpacker, got = Unpacker(), []
    for byte in stream[:-1]:
        got += unpacker.feed(bytes([byte]))
    assert got == ["first"]
    assert unpacker.feed(b"") == []
    assert unpacker.feed(stream[-1:]) == ["second"]


def test_a_delta_travels_whole() -> None:
    delta = Delta(
        worker=1,
        t_ns=5,
        phase=0,
        intended=9,
        sent=8,
        done=7,
        in_flight=1,
        in_flight_by_model=(1, 0),
        lag_ns=np.arange(1000, dtype=np.int64),
        ttft_ns=np.array([], dtype=np.int64),
        e2e_ns=np.array([7], dtype=np.int64),
        gaps=Histogram.of([1_000_000, 2_000_000]),
        chunks=2,
        ok=1,
        counted_tokens=3,
        counted_chunks=3,
        tokens=3,
        errors={"reset": 1},
        lines=b'{"id":1}\n',
        loop_lag_ns=np.array([4, 0], dtype=np.int64),
        cpu_s=0.5,
    )
    (back,) = Unpacker().feed(pack(delta))
    for name, value in asdict(delta).items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(getattr(back, name), value)
            assert getattr(back, name).flags.writeable
        elif name != "gaps":
            assert getattr(back, name) == value
    assert back.gaps == delta.gaps
