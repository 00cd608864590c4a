"""Snapshots for one reader: history and events go once, and the reader has the same pictures."""

from __future__ import annotations

from collections import deque
from dataclasses import fields, replace

from rvtop.contract.codec import CodecError
from rvtop.contract.messages import CODEC
from rvtop.contract.snapshot import Event, Series, Snapshot
from rvtop.contract.stream import EVENTS, SERIES_POINTS, Point, SnapshotReader, SnapshotWriter
from tests.ui import made


def series_of(rows: deque[float]) -> Series:
    return Series(**{f.name: tuple(rows) for f in fields(Series)})


def sent(writer: SnapshotWriter, snapshot: Snapshot) -> list[object]:
    return [CODEC.decode(CODEC.encode(message)) for message in writer.messages(snapshot)]


def test_a_reader_sees_each_snapshot_as_it_was_for_longer_than_history_and_events_last() -> None:
    writer, reader = SnapshotWriter(), SnapshotReader()
    rows: deque[float] = deque(maxlen=SERIES_POINTS)
    events: deque[Event] = deque(maxlen=EVENTS)
    base, kinds = made.live(), []
    for second in range(SERIES_POINTS + 50):
        rows.append(float(second))
        events.append(Event(float(second), f"event {second}"))
        picture = replace(base, seq=second, series=series_of(rows), events=tuple(events))
        messages = sent(writer, picture)
        kinds.append([type(message) for message in messages])
        *none, last = [reader.take(message) for message in messages]
        assert none == [None] * (len(messages) - 1)
        if second % 97 == 0 or second > SERIES_POINTS:
            assert last == picture
    assert kinds[0] == [Series, Event, Snapshot]
    assert {tuple(kind) for kind in kinds[1:]} == {(Point, Event, Snapshot)}


def test_a_reader_that_was_skipped_for_a_while_still_catches_up() -> None:
    writer, reader = SnapshotWriter(), SnapshotReader()
    rows: deque[float] = deque(maxlen=SERIES_POINTS)
    events: deque[Event] = deque(maxlen=EVENTS)
    for step in (1, 5, 1, SERIES_POINTS - 20, 30, SERIES_POINTS + 1, EVENTS, 0):
        for _ in range(step):
            rows.append(rows[-1] + 1.0 if rows else 0.0)
            events.append(Event(rows[-1], "x"))
        picture = replace(made.live(), series=series_of(rows), events=tuple(events))
        assert [reader.take(message) for message in sent(writer, picture)][-1] == picture


def test_history_that_begins_anew_goes_as_a_whole() -> None:
    writer, reader = SnapshotWriter(), SnapshotReader()
    for rows in ([0.0, 1.0, 2.0], [0.5], [], [0.5, 1.5]):
        picture = replace(made.live(), series=series_of(deque(rows)), events=())
        assert [reader.take(message) for message in sent(writer, picture)][-1] == picture


def test_history_of_another_version_is_made_sound() -> None:
    reader = SnapshotReader()
    reader.take(Series(t_s=(0.0, 1.0, 2.0), running=(1.0,), waiting=(1.0, 2.0, 3.0, 4.0)))
    reader.take(Point({"t_s": 3.0, "running": 7.0, "mood": 1.0}))
    reader.take(Point({"running": 7.0}))  # no time, no place
    reader.take(CodecError("something else"))
    picture = reader.take(made.live())
    assert picture is not None
    assert picture.series.t_s == (0.0, 1.0, 2.0, 3.0)
    assert picture.series.running == (1.0, None, None, 7.0)
    assert picture.series.waiting == (1.0, 2.0, 3.0, None)
    assert {len(getattr(picture.series, f.name)) for f in fields(Series)} == {4}
