"""The screen log: a snapshot a second, readable up to wherever it was cut, and small."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from rvtop.contract.snapshot import Event, Snapshot
from rvtop.results.runlog import RunLog
from rvtop.results.screen_log import ScreenCompressor, read_screen
from tests.ui import made

TEN_MINUTES = 600
#: How zlib ends what it flushes.
SECOND_END = b"\x00\x00\xff\xff"
EVENTS = [Event(made.START + s, f"rate {s % 48} → {(s + 9) % 48} rps") for s in range(0, TEN_MINUTES, 10)]


def second(t: int) -> Snapshot:
    """A run under load at ``t`` seconds; something happens every ten."""
    base = made.live(float(t), seq=t)
    return replace(
        base, events=tuple(EVENTS[: t // 10 + 1]), engines=made.engines(t, 8), gpus=made.gpus(t, 8)
    )


def test_ten_minutes_are_below_5_mb_and_come_back_as_they_were(tmp_path: Path) -> None:
    packed, path = ScreenCompressor(), tmp_path / "screen.jsonl.gz"
    with path.open("wb") as file:
        for t in range(TEN_MINUTES):
            file.write(packed.add(second(t)))
        file.write(packed.end())
    assert path.stat().st_size < 5_000_000
    notes: list[str] = []
    count = 0
    for t, snapshot in enumerate(read_screen(path, notes)):
        count += 1
        if t % 89 == 0 or t == TEN_MINUTES - 1:
            assert snapshot == second(t)
    assert (count, notes) == (TEN_MINUTES, [])
    assert json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])["type"] == "series"


def test_each_second_can_be_read_at_once_and_a_cut_costs_no_more_than_its_second(tmp_path: Path) -> None:
    log, path = RunLog(tmp_path, "", {}), tmp_path / "screen.jsonl.gz"
    ends = []
    for t in range(5):
        log.screen(second(t))
        assert [s.seq for s in read_screen(path, [])] == list(range(t + 1))  # nobody has closed it
        ends.append(path.stat().st_size)
    log.screen(second(5), last=True)
    log.close()
    whole = path.read_bytes()
    for cut in (*range(0, len(whole), 97), *ends, *(end - 1 for end in ends), len(whole)):
        path.write_bytes(whole[:cut])
        notes: list[str] = []
        got = [s.seq for s in read_screen(path, notes)]
        least = sum(end <= cut for end in ends)
        assert got[:least] == list(range(least))
        assert len(got) <= least + 1
        assert notes == []


@pytest.mark.parametrize("ended", [True, False])
def test_what_is_damaged_is_left_out_and_told(tmp_path: Path, ended: bool) -> None:
    """Wherever the damage is, also in the log of a run that was killed, whose end no checksum stands at."""
    packed, path = ScreenCompressor(), tmp_path / "screen.jsonl.gz"
    written = [second(t) for t in range(8)]
    data = b"".join(map(packed.add, written)) + (packed.end() if ended else b"")
    draw = Random(7)
    for number in range(60):
        spoilt, at = bytearray(data), draw.randrange(10, len(data))
        if number % 3:
            spoilt[at] ^= 1 << draw.randrange(8)
        else:
            spoilt[at : at + 40] = b"\xff" * len(spoilt[at : at + 40])
        path.write_bytes(spoilt)
        notes: list[str] = []
        got = list(read_screen(path, notes))
        assert [s.seq for s in got] == sorted({s.seq for s in got})
        for snapshot in got:
            as_written = written[snapshot.seq]
            assert replace(snapshot, series=as_written.series, events=as_written.events) == as_written
            if not notes:
                assert snapshot == as_written
        if at < data.rindex(SECOND_END, 0, data.rindex(SECOND_END)):  # what is behind looks like a cut
            if not notes:  # some bits only fill a byte up: nothing is damaged then
                assert got == written, (number, at)
                continue
            assert len(notes) == 1, (number, at)
            assert notes[0].startswith("screen.jsonl.gz: ")


def test_a_second_whose_check_is_damaged_is_left_out(tmp_path: Path) -> None:
    """Damage goes over several lines: nothing vouches for what stands before a check that can't be read."""
    packed, path = ScreenCompressor(), tmp_path / "screen.jsonl.gz"
    lines = gzip.decompress(b"".join(packed.add(second(t)) for t in range(4)) + packed.end()).splitlines()
    checks = [place for place, line in enumerate(lines) if b'"check"' in line]
    for number, place in enumerate(checks[:-1]):
        for spoilt in (b"{", lines[place].replace(b"check", b"chuck"), None):
            kept = [*lines[:place], *([] if spoilt is None else [spoilt]), *lines[place + 1 :]]
            path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in kept)))
            notes: list[str] = []
            got = [s.seq for s in read_screen(path, notes)]
            left_out = {number}
            if number == 0:
                # Without its first check the log begins as one that has none; where that is spoilt, the next
                # one tells, of both seconds.
                left_out = set() if spoilt is None else {0, 1}
            assert got == [seq for seq in range(4) if seq not in left_out], (number, spoilt)
            assert len(notes) == bool(left_out)


def test_seconds_that_damage_makes_of_another_are_left_out_and_told(tmp_path: Path) -> None:
    """Damage can unpack to lines that came before, again and again, with no check among them."""
    packed, path = ScreenCompressor(), tmp_path / "screen.jsonl.gz"
    lines = gzip.decompress(b"".join(packed.add(second(t)) for t in range(3)) + packed.end()).splitlines(True)
    snapshot = next(line for line in reversed(lines) if b'"snapshot"' in line)
    path.write_bytes(gzip.compress(b"".join(lines) + snapshot * 10))
    notes: list[str] = []
    assert list(read_screen(path, notes)) == [second(t) for t in range(3)]
    assert len(notes) == 1


def test_a_log_without_checks_is_read(tmp_path: Path) -> None:
    """As rvtop wrote them first."""
    packed, path = ScreenCompressor(), tmp_path / "screen.jsonl.gz"
    lines = gzip.decompress(b"".join(packed.add(second(t)) for t in range(3)) + packed.end()).splitlines()
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines if b'"check"' not in line)))
    notes: list[str] = []
    assert list(read_screen(path, notes)) == [second(t) for t in range(3)]
    assert notes == []


def test_lines_that_are_no_messages_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "screen.jsonl.gz"
    packed = ScreenCompressor()
    unzipped = gzip.decompress(packed.add(second(1)) + packed.end())
    told = [line for line in unzipped.splitlines() if b'"check"' not in line]
    lines = [b"{", b'{"type":"weather"}', *told, b'{"type":"snapshot"}']
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    notes: list[str] = []
    assert [s.seq for s in read_screen(path, notes)] == [1]
    assert len(notes) == 1
    assert "2 lines of" in notes[0]


def test_a_small_file_that_unpacks_to_a_huge_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "screen.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * (64 << 20), 9))
    notes: list[str] = []
    assert list(read_screen(path, notes)) == []
    assert "a line is longer than" in notes[0]
