"""Replicas that Serve retires: their answers end first. When we go ourselves nobody waits so long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backends.scale_down import TOKENS
from tests.backends.someones_cluster import NODE_START


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["rsc", "rsv"])
def test_an_answer_that_outlasts_a_scale_down_completes(
    topology: str, tiny_model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "scale-down.log"
    with log.open("wb") as stderr:
        done = subprocess.run(
            [sys.executable, "-m", "tests.backends.scale_down", topology, str(tiny_model)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **NODE_START},
            timeout=2000,
        )
    assert done.returncode == 0, log.read_text()[-3000:]
    assert json.loads(done.stdout) == {"replicas": 2, "ended": [str(TOKENS)] * 2}


class FakeServe:
    """An application whose replicas work on: it is gone when each of them was killed."""

    def __init__(self, *replicas: str) -> None:
        self.left = list(replicas)
        self.deleted: list[str] = []

    def statuses(self, names: list[str]) -> dict[str, tuple[str, str]]:
        return {name: ("DELETING", "") for name in names if self.left}

    def kill(self, replica: str) -> None:
        assert self.deleted == ["mine"], "killed before it was taken out: Serve would start another"
        self.left.remove(replica)


def test_taking_our_applications_out_kills_replicas_that_work_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray import serve as ray_serve

    from backends.serve import serve

    fake = FakeServe("r0", "r1")
    replaced: dict[str, Any] = {
        "running": lambda: True,
        "statuses": fake.statuses,
        "replicas": lambda app: list(fake.left),
        "replica": lambda name: name,
        "END_GRACE_S": 0.05,
        "POLL_S": 0.01,
        "DELETE_LIMIT_S": 60.0,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(serve, name, value)
    monkeypatch.setattr(ray, "kill", fake.kill)
    monkeypatch.setattr(ray_serve, "delete", lambda name, _blocking: fake.deleted.append(name))
    serve.end(["mine"], started=False)
    assert fake.left == []
