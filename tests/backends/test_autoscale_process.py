"""Autoscaling by the shipped scenario, with real engines: replicas follow the load, nothing is lost; and
defaults that change without a restart."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends.conftest import Launch
from tests.backends.whole_run import whole_run

FIELDS = "min=1,max={most},initial=1,target=4,up=2,down={down},up_factor=1,down_factor=0.5,look_back=5"
#: One that is still starting is stopped when it is not wanted any more: vLLM takes its time.
DOWN_S = {"rsc": 10, "rvc": 30}
LIMIT_S = 1200


def scaled_run(topology: str, most: int, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the timeline of one run."""
    scale = FIELDS.format(most=most, down=DOWN_S[topology])
    words = ("autoscale", "--topology", topology, "--model", "tiny=tiny", "--autoscale", scale)
    summary, said = whole_run(out, *words, limit_s=LIMIT_S)
    assert "replicas 1 → " in said
    rows = [json.loads(line) for line in (out / "timeline.jsonl").read_text().splitlines()]
    return summary, rows


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize(("topology", "most", "within_s"), [("rsc", 3, 240), ("rvc", 2, 360)])
def test_replicas_follow_the_load(topology: str, most: int, within_s: float, tmp_path: Path) -> None:
    summary, rows = scaled_run(topology, most, tmp_path / "run")
    assert summary["requests"]["errors"] == {}  # lost 0, truncated 0, 5xx 0
    assert summary["requests"]["ok"] == summary["requests"]["planned"]
    found = summary["replicas"]
    assert (found["first"], found["most"], found["last"]) == (1, most, 1)
    assert found["first_token_s"] > 0
    assert found["replica_seconds"] > rows[-1]["t_s"]
    healthy = [row["replicas_healthy"] for row in rows if row["replicas_healthy"] is not None]
    course = [now for before, now in zip([0, *healthy], healthy, strict=False) if now != before]
    assert course[0] == course[-1] == 1
    assert max(course) == most
    assert rows[-1]["t_s"] < within_s  # by the scenario's own length


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
def test_rays_autoscaler_adds_a_node_for_a_replica_and_removes_it(tmp_path: Path) -> None:
    apart = (
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--net",
    )
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces of one's own here")
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run(
            [*apart, sys.executable, "-m", "tests.backends.autoscaled_nodes", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=log,
            timeout=LIMIT_S,
        )
    assert done.returncode == 0, (tmp_path / "log").read_text()[-4000:]
    events = json.loads(done.stdout)
    wanted = ("more replicas wanted, 1 → 2", "1 pending", "node added, 1 → 2", "2 of 2 replicas answer",
              "fewer replicas wanted, 2 → 1", "node removed, 2 → 1")  # fmt: skip
    places = [next((n for n, text in enumerate(events) if each in text), None) for each in wanted]
    assert None not in places, events
    assert places == sorted(places, key=lambda place: place or 0), events


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["rsc", "rvc"])
def test_defaults_change_without_a_restart(topology: str, launch: Launch, tiny_model: Path) -> None:
    more = ("--num-replicas", "1")
    backend = launch(topology, "--model", f"tiny={tiny_model}", *more)
    backend.wait_for("ready")
    with httpx.Client(base_url=backend.url, timeout=120, trust_env=False) as client:
        before = client.get("/rvtop/topology").json()["engines"]

        def tokens() -> int:
            body = {"model": "tiny", "prompt": "hello", "ignore_eos": True}
            return int(client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"])

        assert tokens() == 16
        began = time.monotonic()
        assert client.post("/rvtop/set", json={"max_tokens": 5}).json()["max_tokens"] == 5
        took_s = time.monotonic() - began
        assert tokens() == 5
        after = client.get("/rvtop/topology").json()["engines"]
        ids = [[(row["engine"], row["pid"]) for row in rows] for rows in (before, after)]
        assert ids[0] == ids[1]
        assert client.post("/rvtop/set", json={"max_tokens": None}).status_code == 200
        assert tokens() == 16
        print(f"{topology}: new defaults after {took_s:.2f} s")
