"""What the reaper of a temporary folder ends, and what it leaves alone: with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import alive, wait_for

from backends.process.scratch_dir import OwnedTempDir

Start = Callable[..., "subprocess.Popen[bytes]"]
SLEEP = ("sleep", "600")

OWNER = """
import os, subprocess, time
from backends.process.scratch_dir import OwnedTempDir
os.setpgid(0, 0)
folder = OwnedTempDir("rvtop-eng-", group=os.getpid())
# As vLLM's processes, which overwrite what they carry.
child = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"]})
(folder.path / "log").touch()
print(folder.path, child.pid, flush=True)
time.sleep(600)
"""

#: A raylet and its agent (or a worker and vLLM in it) in the owner's process group, both with names of their
#: own. The agent's environment does not tell whose it is, as that of Ray's agents, which overwrite it.
RAYLET = """
import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
if len(sys.argv) > 2:
    agent = [sys.executable, "-c", os.environ["CODE"], sys.argv[2]]
    subprocess.Popen(agent, env={"CODE": os.environ["CODE"]})
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that do not outlive the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, **options))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def tail(start: Start, log: Path) -> subprocess.Popen[bytes]:
    """A user's `tail -f` of a log: its path, its working folder and its environment name the folder. Returns
    when it has the file open."""
    user = start("tail", "-f", str(log), cwd=log.parent, env={**os.environ, "PWD": str(log.parent)})
    fds = Path(f"/proc/{user.pid}/fd")
    wait_for(lambda: str(log) in {os.path.realpath(fd) for fd in fds.iterdir()}, "tail to open the log")
    return user


def test_it_ends_what_carries_the_mark_and_no_reader_of_the_folder(start: Start) -> None:
    folder = OwnedTempDir("rvtop-ray-")
    log = folder.path / "raylet.out"
    log.touch()
    marked = start(*SLEEP, env={**os.environ, **folder.env})
    other = start(*SLEEP, env={**os.environ, "RVTOP_RAY_FOLDER": f"{folder.path}-of-another"})
    user = tail(start, log)
    folder.close()
    assert marked.wait(120) == -signal.SIGKILL
    assert not folder.path.exists()
    assert (alive(other.pid), alive(user.pid)) == (True, True)


def test_a_killed_owner_takes_its_process_group_with_it_and_no_reader_of_its_log(start: Start) -> None:
    owner = start(sys.executable, "-c", OWNER)
    assert owner.stdout is not None
    path, child = owner.stdout.readline().split()
    user = tail(start, Path(os.fsdecode(path)) / "log")
    assert alive(int(child))
    owner.kill()
    wait_for(lambda: not alive(int(child)), "the owner's group to end")
    wait_for(lambda: not os.path.exists(path), "the folder to be removed")
    assert alive(user.pid)


@pytest.mark.parametrize("names", [("raylet", "ray::DashboardAgent"), ("worker", "VLLM::EngineCore")])
def test_rays_agents_end_with_their_raylet_and_those_of_another_raylet_live_on(
    start: Start, names: tuple[str, str]
) -> None:
    folder = OwnedTempDir("rvtop-ray-")

    def raylet(env: dict[str, str]) -> list[int]:
        started = start(
            *(sys.executable, "-c", RAYLET, *names),
            env={**os.environ, **env, "CODE": RAYLET},
            process_group=0 if names[0] == "worker" else None,
        )
        assert started.stdout is not None
        return [int(started.stdout.readline()) for _ in range(2)]

    ours, another = raylet(folder.env), raylet({})
    folder.close()
    wait_for(lambda: not any(alive(pid) for pid in ours), "the raylet and its agent to end")
    assert all(alive(pid) for pid in another)
    for pid in another:
        os.kill(pid, signal.SIGKILL)
