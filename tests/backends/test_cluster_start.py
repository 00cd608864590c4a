"""Starts on Ray that fail or are broken off: one line, the right exit code, nothing left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.backends import processes
from tests.backends.backend_process import START_LIMIT_S
from tests.backends.conftest import Launch

GONE_LIMIT_S = 15.0
slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("topology", ["rac", "rsc"])
def test_what_an_engine_refuses_is_told_by_the_head(launch: Launch, tiny_model: Path, topology: str) -> None:
    backend = launch(topology, "--model", f"tiny={tiny_model}", "--max-model-len", "999999")
    backend.wait_for("step", name="weights", state="run")
    everything = processes.family(backend.pid)
    assert backend.wait() == 2
    event = backend.wait_for("error")
    assert event["kind"] == "usage"
    assert event["message"] == "--max-model-len 999999 is more than the model's 4096 positions"
    processes.wait_until_gone(everything, processes.folders(everything), GONE_LIMIT_S)


@slow
@pytest.mark.parametrize(("topology", "step"), [("rac", "ray"), ("rsc", "ray"), ("rsc", "weights")])
def test_stopping_while_it_starts_leaves_nothing(
    launch: Launch, tiny_model: Path, topology: str, step: str
) -> None:
    backend = launch(topology, "--model", f"tiny={tiny_model}")
    backend.wait_for("step", name=step, state="run")
    deadline = time.monotonic() + START_LIMIT_S
    while not processes.named(backend.pid, "gcs_server"):  # the first that Ray starts
        assert time.monotonic() < deadline
        time.sleep(0.01)
    everything = processes.family(backend.pid)
    paths = processes.folders(everything)
    assert paths
    os.kill(backend.pid, signal.SIGTERM)
    assert backend.wait(60) == 0
    assert backend.wait_for("stopped")
    assert not any(event["event"] in ("ready", "error") for event in backend.events)
    processes.wait_until_gone(everything, paths, GONE_LIMIT_S)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["rsc", "--autoscale", "4"], "write MIN:MAX"),
        (["rsc", "--autoscale", "4:2"], "write MIN:MAX"),
        (["rsc", "--serve-batch", "0"], "--serve-batch 0: must be at least 1"),
        (["rsc", "--max-queue", "0"], "--max-queue 0"),
        (["rsc", "--serve-grace", "-1"], "--serve-grace -1: must be a number of seconds, 0 or more"),
        (["rsc", "--serve-grace", "inf"], "--serve-grace inf: must be a number of seconds, 0 or more"),
        (["rvc", "--serve-grace", "2"], "--serve-grace is for Ray Serve"),
        (["rac", "--serve-batch", "2"], "topology rac does not use it (rsc, rsv and graph do)"),
        (["rac", "--ray-address", "ray://10.0.0.1:10001"], "Ray Client is not supported"),
    ],
)
def test_bad_usage_is_exit_2(launch: Launch, tiny_model: Path, args: list[str], words: str) -> None:
    backend = launch(*args, "--model", f"tiny={tiny_model}")
    assert backend.wait() == 2
    event = backend.wait_for("error")
    assert event["kind"] == "usage"
    assert words in event["message"]
    assert "\n" not in event["message"]
