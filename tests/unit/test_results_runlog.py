"""The run folder: made, filled, refused and taken back without touching what is not its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rvtop.contract import run_files
from rvtop.contract.messages import CODEC
from rvtop.contract.snapshot import Event
from rvtop.results import runlog
from rvtop.session.recorder import Recorder
from tests.ui import made


def test_the_files_grow_as_lines_come(tmp_path: Path) -> None:
    runlog.create(tmp_path / "run")
    log = runlog.RunLog(tmp_path / "run", "name: x\n", {"name": "x"})
    log.requests(b'{"id":1}\n')
    log.requests(b"")
    log.requests(b'{"id":2}\n{"id":3}\n')
    log.command({"cmd": "phase", "at_ns": 5})
    log.timeline({"t_s": 0.5})
    # Nothing waits in a buffer of ours: a kill -9 now costs nothing.
    assert (tmp_path / "run" / "requests.jsonl").read_text() == '{"id":1}\n{"id":2}\n{"id":3}\n'
    assert json.loads((tmp_path / "run" / "commands.jsonl").read_text()) == {"cmd": "phase", "at_ns": 5}
    assert (tmp_path / "run" / "timeline.jsonl").read_text() == '{"t_s":0.5}\n'
    assert (tmp_path / "run" / "scenario.yaml").read_text() == "name: x\n"
    log.close()
    log.close()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "scenario.yaml",
        "environment.json",
        "requests.jsonl",
        "commands.jsonl",
        "timeline.jsonl",
    }


def test_the_heartbeat_is_one_line_that_changes_and_goes_with_the_end(tmp_path: Path) -> None:
    log = runlog.RunLog(tmp_path, "", {})
    beat = tmp_path / "heartbeat.json"
    for held in ({"a": 100, "b": 7}, {"a": 1}):
        log.heartbeat({"in_flight": held})
        assert json.loads(beat.read_text()) == {"in_flight": held}
    log.timeline({"t_s": 1})
    log.ended({"cmd": "ended"})
    assert not beat.exists()
    assert json.loads((tmp_path / "commands.jsonl").read_text()) == {"cmd": "ended"}
    log.close()


@pytest.mark.parametrize("gone", ["", "requests.jsonl"])
def test_a_folder_or_file_that_is_gone_is_noticed_once_within_a_second(tmp_path: Path, gone: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    log = runlog.RunLog(folder, "", {})
    log.timeline({"t_s": 1})
    (folder / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(runlog.RunFolderError, match="was deleted or moved") as told:
        log.timeline({"t_s": 2})
    assert str(told.value).startswith(f"{folder / gone}: ")
    log.timeline({"t_s": 3})
    log.requests(b"x")
    log.close()


@pytest.mark.parametrize("name", run_files.FILES)
def test_a_folder_that_holds_one_of_its_files_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(runlog.RunFolderError, match="already; give another --out"):
        runlog.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            runlog.RunFolderError, match=r"file is a file, and a run needs a folder; give another"
        ):
            runlog.create(bad)
    with pytest.raises(runlog.RunFolderError, match="cannot be made: File name too long"):
        runlog.create(tmp_path / ("n" * 300))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_that_never_began_is_taken_back_with_the_folders_made_for_it(tmp_path: Path) -> None:
    made = runlog.create(tmp_path / "runs" / "a" / "b")
    assert made == [tmp_path / "runs" / "a" / "b", tmp_path / "runs" / "a", tmp_path / "runs"]
    log = runlog.RunLog(tmp_path / "runs" / "a" / "b", "", {})
    (tmp_path / "runs" / "a" / "b" / "backend.log").write_text("x")
    runlog.discard(tmp_path / "runs" / "a" / "b", made, "backend.log")
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_what_failed_can_be_kept(tmp_path: Path) -> None:
    made = runlog.create(tmp_path / "run")
    for name in ("session.log", "backend.log"):
        (tmp_path / "run" / name).write_text("x")
    runlog.discard(tmp_path / "run", made, "backend.log", keep="session.log")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["session.log"]


def test_taking_back_leaves_what_others_put_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    made = runlog.create(tmp_path)
    assert made == []
    runlog.RunLog(tmp_path, "", {}).close()
    runlog.discard(tmp_path, made)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_json_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    runlog.write_json(path, {"a": 1})
    with pytest.raises(runlog.RunFolderError, match="can't be written"):
        runlog.write_json(tmp_path / "absent" / "summary.json", {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


FULL = """
import resource, sys
from pathlib import Path
from rvtop.results.runlog import RunFolderError, RunLog
log = RunLog(Path(sys.argv[1]), "", {})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
said = []
for _ in range(5):
    try:
        log.requests(b'{"id":12345678}' * 20 + b"\\n")
    except RunFolderError as error:
        said.append(str(error))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
assert len(said) == 1, said
print(said[0])
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes")
def test_a_full_disk_is_told_once_and_spoils_no_line(tmp_path: Path) -> None:
    """A limit on the file's size stands for the full disk: a write is cut short, the next fails."""
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    path = tmp_path / "requests.jsonl"
    assert ended.stdout.startswith(f"{path}: can't be written: ")
    text = path.read_bytes()
    assert len(text) == 1000
    assert text.count(b"\n") == 3  # and the rest of the fourth is where the file ends
    assert os.path.getsize(tmp_path / "commands.jsonl") == 0


def test_a_full_disk_under_the_screen_log_and_the_events_is_told_once(tmp_path: Path) -> None:
    log = runlog.RunLog(tmp_path, "", {})
    (tmp_path / "screen.jsonl.gz").symlink_to("/dev/full")
    with pytest.raises(runlog.RunFolderError, match=r"screen.jsonl.gz: can't be written: No space left"):
        log.screen(made.live())
    log.screen(made.live(), last=True)
    log.close()
    told: list[str] = []
    recorder = Recorder(told.append)
    recorder.event(Event(1.0, "before there is a folder"))
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    recorder.open_events(tmp_path)
    recorder.event(Event(2.0, "after"))
    recorder.close()
    recorder.event(Event(3.0, "too late"))
    assert told == [f"{tmp_path / 'events.jsonl'}: can't be written: No space left on device"]


def test_events_are_written_from_the_first_on(tmp_path: Path) -> None:
    recorder = Recorder(lambda text: pytest.fail(text))
    recorder.event(Event(1.0, "before", "warn", "target", 0.5))
    recorder.open_events(tmp_path)
    recorder.event(Event(2.0, "after"))
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert json.loads(lines[0])["kind"] == "target"
    assert [CODEC.decode(line) for line in lines] == [
        Event(1.0, "before", "warn", "target", 0.5),
        Event(2.0, "after"),
    ]
    recorder.close()
    recorder.event(Event(3.0, "too late"))
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 2
