"""``rvtop replay`` of run folders that are cut, damaged, foreign, huge, or go away; keys at every moment."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import Done, ended, folder, mock, ran, rvtop
from tests.faults.attempts.terminals import Terminal

SCREEN = "screen.jsonl.gz"
_KEYS = "? help"


def stored(seconds: int = 3) -> Path:
    """The folder of a run that has ended well."""
    with mock() as server:
        return ran(server.url, "--rate", 20, "--duration", f"{seconds}s").run


def copy_of(run: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a run folder, its screen log changed."""
    made = folder() / "run"
    shutil.copytree(run, made)
    (made / SCREEN).write_bytes(change((run / SCREEN).read_bytes()))
    return made


def refused(run: Path, says: str = "") -> None:
    """One line, exit 2."""
    terminal = Terminal("replay", run)
    done = terminal.end()
    lines = [line for line in done.out.replace("\r", "\n").split("\n") if line.strip(" ●")]
    assert done.code == 2 and len(lines) == 1 and lines[0].startswith("rvtop: "), (done.code, done.out)
    assert says in done.out, done.out


def played(run: Path, keys: str = "", says: str = "") -> Done:
    """It opens, takes ``keys`` and is left by ``q``, exit 0; what it says then."""
    terminal = Terminal("replay", run)
    terminal.until(_KEYS)
    for key in keys:
        terminal.keys(key)
        time.sleep(0.05)
    terminal.keys("q")
    done = terminal.end(run)
    assert done.code == 0, (done.code, done.err)
    assert says in done.err and len(done.err.splitlines()) <= 1, done.err
    return done


@attempt("folders that hold no recording: one line each, exit 2", limit_s=200)
def replay_nothing() -> None:
    base = folder()
    refused(base / "none", "no such folder")
    refused(base, SCREEN)
    (base / "file").write_text("x")
    refused(base / "file")
    contents = (
        b"",
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(b"\n" * 1000),
        gzip.compress(b'{"type":"weather"}\n'),
        gzip.compress(b'{"type":"snapshot","t_s":"x"}\n'),
        gzip.compress(b"[" * 100_000),
        gzip.compress(b"x" * (100 << 20), 9),
    )
    for number, content in enumerate(contents):
        run = base / str(number)
        run.mkdir()
        (run / SCREEN).write_bytes(content)
        refused(run, SCREEN)


@attempt("a screen log that is a folder, a FIFO, a loop of links, a device; a run folder without a terminal")
def replay_no_file() -> None:
    makes: tuple[Callable[[Path], object], ...] = (
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/proc/self/mem"),
    )
    for make in makes:
        run = folder()
        make(run / SCREEN)
        refused(run, SCREEN)
    done = ended(rvtop("replay", folder()), folder())
    assert done.code == 2 and "needs a terminal" in done.err, done.err


@attempt("a log that is cut anywhere: it is played as far as it goes, and nothing is said", limit_s=300)
def replay_cut() -> None:
    run = stored()
    size = (run / SCREEN).stat().st_size
    for share in (0.5, 0.8, 0.95, 0.999):
        played(copy_of(run, lambda data, end=int(size * share): data[:end]))  # type: ignore[misc]


@attempt("a log that is damaged, of a run that ended and of one that was killed: it is said", limit_s=300)
def replay_damaged() -> None:
    run = stored(4)
    draw = random.Random(3)

    def spoilt(data: bytes) -> bytes:
        at = draw.randrange(len(data) // 2, len(data) * 3 // 4)
        return data[:at] + bytes(byte ^ 0x5A for byte in data[at : at + 20]) + data[at + 20 :]

    for _ in range(2):
        played(copy_of(run, spoilt), says=f"{SCREEN}: ")
        played(copy_of(run, lambda data: spoilt(data[:-30])), says=f"{SCREEN}: ")


@attempt("a log with bytes of another file behind it, one of two members, one that was packed again")
def replay_packed_otherwise() -> None:
    run = stored()
    played(copy_of(run, lambda data: data + b"more"))
    played(copy_of(run, lambda data: gzip.compress(gzip.decompress(data), 1)))


@attempt("a log of a newer rvtop: unknown messages, unknown fields, fields of another kind", limit_s=200)
def replay_newer() -> None:
    run = stored()

    def newer(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            yield {"type": "weather", "rain": [1, 2]}
            yield {**row, "new_field": {"a": [None]}}

    played(copy_of(run, lambda data: changed(data, newer)))

    def other(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows):
            yield {**row, "t_s": "soon"} if number % 5 == 4 else row

    played(copy_of(run, lambda data: changed(data, other)), says="can't be read")


@attempt("times that go backwards, stand, jump to 10^15, below 0; no figures at all; escapes", limit_s=300)
def replay_odd_times() -> None:
    run = stored(4)
    keys = "  ..,,]]][[nN'\x1b[D\x1b[C\x1b[1;2D\x1b[1;2CBbx"
    for times in ([3, 2, 1, 5], [1, 1, 1, 1], [0, 1e15, 2e15, 3e15], [-5, -4, 0, 1]):

        def odd(rows: Iterator[dict[str, Any]], times: list[float] = times) -> Iterator[dict[str, Any]]:
            number = 0
            for row in rows:
                if row["type"] == "snapshot":
                    row = {**row, "t_s": times[number % len(times)]}
                    number += 1
                yield row

        played(copy_of(run, lambda data, odd=odd: changed(data, odd)), keys)  # type: ignore[misc]

    def bare(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        kept = ("type", "seq", "t_s", "unix_s", "state", "name", "target", "load")
        for row in rows:
            if row["type"] == "snapshot":
                few = {key: row[key] for key in kept if key in row}
                yield {**few, "message": "\x1b[2J\x1b]0;x\x07", "out_dir": "\x1b[31m"}

    done = played(copy_of(run, lambda data: changed(data, bare)), keys)
    assert "\x1b]0;x" not in done.out


def changed(data: bytes, change: Callable[[Iterator[dict[str, Any]]], Iterator[dict[str, Any]]]) -> bytes:
    """A log whose rows are others, without checksums of its seconds."""
    rows = map(json.loads, zlib.decompressobj(31).decompress(data).splitlines())
    told = change(row for row in rows if row["type"] != "check")
    return gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in told))


@attempt("the folder goes away while it is played; S can't write its picture, and says so")
def replay_folder_goes() -> None:
    run = stored()
    terminal = Terminal("replay", run)
    terminal.until(_KEYS)
    (run / "pictures").write_text("not a folder")
    since = len(terminal.text)
    terminal.keys("S")
    terminal.until("pictures", since=since)
    shutil.rmtree(run)
    terminal.keys(" .,n3 1 2q")
    assert terminal.end().code == 0


@attempt("a run of three hours: it opens, jumps to its end, and needs less than a gigabyte", limit_s=400)
def replay_long() -> None:
    run = stored()
    log = zlib.decompressobj(31).decompress((run / SCREEN).read_bytes()).splitlines()
    last = json.loads(next(line for line in reversed(log) if line.startswith(b'{"type":"snapshot"')))
    with gzip.open(run / SCREEN, "wb", 1) as file:
        for t in range(10_800):
            point = {"type": "point", "values": {"t_s": t, "target_rps": t % 50}}
            for row in (point, {**last, "t_s": float(t), "seq": t}):
                file.write(json.dumps(row).encode() + b"\n")
    terminal = Terminal("replay", run)
    terminal.until(_KEYS, 300)
    since = len(terminal.text)
    terminal.keys("g")
    terminal.until("go to", since=since)
    terminal.keys("2:59:00\r")
    time.sleep(5)  # what comes before the box has gone is typed into it
    terminal.keys(",,..]]")
    peak = Path(f"/proc/{terminal.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) < 1_000_000, f"{peak} kB"
    terminal.keys("q")
    assert terminal.end().code == 0


@attempt("Ctrl-C, SIGTERM, a closed terminal and kill -9 in a replay, and keys typed before it is there")
def replay_left() -> None:
    run = stored()
    for how, code in (("\x03", 130), ("15", 130), ("9", -9)):
        terminal = Terminal("replay", run)
        terminal.until(_KEYS)
        if how == "\x03":
            terminal.keys(how)
        else:
            os.kill(terminal.process.pid, int(how))
        assert terminal.process.wait(60) == code, how
    terminal = Terminal("replay", run)
    terminal.keys("q")
    assert terminal.end().code == 0
    assert sorted(path.name for path in run.iterdir() if path.name == "pictures") == []
    assert subprocess.run(["gzip", "-t", str(run / SCREEN)], check=False).returncode == 0
