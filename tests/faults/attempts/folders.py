"""Run folders on full, read-only, vanishing and shared places."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import check, ended, folder, long_run, mock, rvtop, stopped
from tests.faults.attempts.network import mount, network

LOAD = ("--rate", 20, "--duration", "1s", "--output-tokens", 8, "--ui", "none")


def _mounted(place: Path, options: str) -> None:
    network()
    mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))


@attempt("a tmpfs that fills up during the run: exit 5, one line that names the file", own_network=True)
def folders_fill_up() -> None:
    place = folder()
    _mounted(place, "size=400k")
    with mock() as server:
        run = place / "run"
        process = rvtop(
            "run",
            "--rate",
            400,
            "--duration",
            "1m",
            "--output-tokens",
            8,
            "--target",
            server.url,
            "--out",
            run,
            "--ui",
            "none",
        )
        done = ended(process, run, 50)
    assert done.code == 5, (done.code, done.err)
    assert "No space left" in done.err and str(run) in done.err, done.err


@attempt("a tmpfs that is full from the start: one line", own_network=True)
def folders_full() -> None:
    place = folder()
    _mounted(place, "size=4k")
    (place / "filler").write_bytes(b"x" * 4096)
    with mock() as server:
        done = ended(rvtop("run", *LOAD, "--target", server.url, "--out", place / "run"), place / "run")
    assert done.code in (2, 5) and done.err.count("\n") == 1, (done.code, done.err)


@attempt("a read-only place: one line, exit 2", own_network=True)
def folders_read_only() -> None:
    place = folder()
    _mounted(place, "size=1m,ro")
    with mock() as server:
        for words in (("--out", place / "run"), ()):
            done = ended(rvtop("run", *LOAD, "--target", server.url, *words, cwd=place), place / "run")
            assert done.code == 2 and done.err.count("\n") == 1, (done.code, done.err)


@attempt("a folder that is a link to another place, and one that leads nowhere")
def folders_links() -> None:
    place = folder()
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    (place / "nowhere").symlink_to("gone/deeper")
    with mock() as server:
        done = ended(rvtop("run", *LOAD, "--target", server.url, "--out", place / "link"), place / "link")
        check(done, 0)
        assert (place / "real" / "summary.json").exists()
        done = ended(
            rvtop("run", *LOAD, "--target", server.url, "--out", place / "nowhere"), place / "nowhere"
        )
        assert done.code in (0, 2) and done.err.count("\n") <= 1, (done.code, done.err)


@attempt("two runs into one folder at the same time: one runs, the other is refused in one line")
def folders_two_at_once() -> None:
    place = folder() / "run"
    with mock() as server:
        both = [rvtop("run", *LOAD, "--target", server.url, "--out", place) for _ in range(2)]
        ends = [ended(process, place) for process in both]
    codes = sorted(done.code for done in ends)
    assert codes == [0, 2], [(done.code, done.err) for done in ends]
    check(next(done for done in ends if done.code == 0), 0)


@attempt("a folder moved away, and one deleted, during the run: one line, no traceback")
def folders_vanish() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        run.rename(run.with_name("moved"))
        time.sleep(0.5)
        process.send_signal(2)
        moved = ended(process, run.with_name("moved"))
        assert moved.code in (5, 130, 2) and moved.err.count("\n") <= 3, (moved.code, moved.err)
        process, run = long_run(server.url)
        shutil.rmtree(run)
        time.sleep(0.5)
        process.send_signal(2)
        gone = ended(process, run)
        assert gone.code in (5, 130, 2) and gone.err.count("\n") <= 3, (gone.code, gone.err)


@attempt("names of folders: spaces, Korean, newlines, a dash first, not UTF-8, 250 letters")
def folders_names() -> None:
    place = folder()
    with mock() as server:
        for name in ("a b", "결과", "line\nbreak", "-dash", os.fsdecode(b"\xff\xfe"), "x" * 250, "a/b/c/d"):
            run = place / name
            done = ended(
                rvtop(
                    "run",
                    "--rate",
                    10,
                    "--duration",
                    "300ms",
                    "--output-tokens",
                    4,
                    "--ui",
                    "none",
                    "--target",
                    server.url,
                    "--out",
                    run,
                ),
                run,
            )
            check(done, 0)


@attempt("runs/ is a file; runs/ can't be made: one line")
def folders_runs_is_a_file() -> None:
    place = folder()
    (place / "runs").write_text("x")
    with mock() as server:
        done = ended(rvtop("run", *LOAD, "--target", server.url, cwd=place), place / "runs")
    assert done.code == 2 and done.err.count("\n") == 1 and "runs" in done.err, (done.code, done.err)


@attempt("a log made read-only and a summary that is a folder: the run says so")
def folders_summary_is_a_folder() -> None:
    with mock() as server:
        process, run = long_run(server.url)
        (run / "summary.json.part").mkdir()
        process.send_signal(2)
        done = ended(process, run)
        assert done.code in (2, 5, 130) and "summary.json" in done.err, (done.code, done.err)


@attempt("the working folder is removed under a run")
def folders_working_folder_removed() -> None:
    place = folder()
    with mock() as server:
        process, run = long_run(server.url, cwd=place)
        shutil.rmtree(place)
        done = stopped(process, run)
    assert done.ok > 10
