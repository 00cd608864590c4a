"""The load of a session goes from one real topology to another one, which is started in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from rvtop.contract.command import Retarget, Stop
from rvtop.session.rate_control import Done
from rvtop.target.backend import BackendOptions
from tests.faults.sessions import Watched, request

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
PHASE = {"name": "a", "rate": 3, "duration": "30m", "drain": "30s"}


async def test_from_baseline_to_ray_actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("ray")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    baseline = BackendOptions("baseline", models=("tiny=tiny",))
    watched = Watched(replace(request("", tmp_path / "run", PHASE), url=None, backend=baseline))
    first = await watched.until(lambda s: s.load.ok > 5, "load against baseline", 300.0)
    assert first.target.topology == "baseline"
    done = watched.session.commands.follow(Retarget(topology="rac", place="instead"), "control")
    assert done.later is not None
    await watched.until(lambda s: s.switch and s.switch.what == "starts", "the end of baseline", 120.0)
    came = await done.later
    assert isinstance(came, Done)
    s = await watched.until(lambda s, ok=watched.now.load.ok: s.load.ok > ok + 5, "load against rac", 120.0)
    assert (s.target.topology, s.target.owned, s.target.models) == ("rac", True, ("tiny",))
    assert s.state == "running"
    watched.send(Stop())
    outcome = await watched.end(240.0)
    assert outcome.exit_code == 0, outcome.message
    rows = sorted(watched.rows(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(len(rows)))
    assert {row["phase"] for row in rows if row["error"] is None} == {"a", "a#target-2"}
    assert outcome.summary is not None
    assert [phase["name"] for phase in outcome.summary["phases"]] == ["a", "a#target-2"]
    for name in ("backend.log", "backend-2.log"):
        assert (tmp_path / "run" / name).exists()
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    assert [one for one in left if "backends" in " ".join(one.cmdline())] == []
