"""A session at a name with two arms: real router, real load client, mock engines that can be killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from backends.settings.split import Arm, Split, SplitOptions
from rvtop.contract.command import SetSplit, Stop, Undo
from rvtop.results import summary
from tests.backends.mock_member import routed
from tests.faults.sessions import Watched, request

SPLIT = SplitOptions((Split("chat", (Arm("v1", 80.0), Arm("v2", 20.0))),), fallback=True)


async def test_shares_by_command_and_an_arm_that_is_killed(tmp_path: Path) -> None:
    async with routed(("v1", "v2"), SPLIT, ttft_ms=5, step_ms=1) as (url, members):
        phase = {"name": "p", "rate": 60, "duration": "30m"}
        watched = Watched(request(url, tmp_path / "run", phase, models=("chat",), slo={"ttft_ms": 10_000}))
        await watched.until(lambda s: len(s.arms) == 2 and all(arm.ok for arm in s.arms), "both arms answer")
        watched.send(SetSplit("v2", 100.0))
        await watched.until(lambda s: s.arms[1].asked == 1.0, "it is told")
        watched.send(Undo())
        await watched.until(lambda s: s.arms[1].asked == 0.2, "it is taken back")
        members["v2"].may_start.clear()  # a second long it would be up again before anybody looked
        os.kill(members["v2"].pid, signal.SIGKILL)
        await watched.until(lambda s: any("is down" in e.text for e in s.events), "that is said")
        members["v2"].may_start.set()
        await watched.until(lambda s: any("up again" in e.text for e in s.events), "it comes back")
        watched.send(Stop())
        await watched.end()
    rows, said = watched.rows(), [event["text"] for event in watched.rows("events.jsonl")]
    assert "split chat: v2 20 → 100 %" in said
    assert "arm v2 of chat is down: its requests go to v1" in said
    assert [c["share"] for c in watched.rows("commands.jsonl") if c["cmd"] == "split"] == [100.0, 20.0]
    assert {row["error"] for row in rows if row.get("arm") == "v1"} <= {None, "cancelled"}
    s = summary.summarise(tmp_path / "run")
    for key in ("planned", "ok"):
        assert sum(arm["requests"][key] for arm in s["by_arm"].values()) == s["requests"][key]


async def test_a_conversation_stays_on_one_arm(tmp_path: Path) -> None:
    even = SplitOptions((Split("chat", (Arm("v1", 50.0), Arm("v2", 50.0))),))
    talk = {"kind": "synthetic", "prompt_tokens": 5, "output_tokens": 2, "turns": 3, "count": 40}
    async with routed(("v1", "v2"), even, ttft_ms=1, step_ms=1) as (url, _):
        phase = {"name": "p", "rate": 20, "duration": "2s", "drain": "200s"}
        watched = Watched(request(url, tmp_path / "run", phase, models=("chat",), workload=talk))
        await watched.end()
    arms: dict[int, list[str]] = {}
    for row in watched.rows():
        arms.setdefault(row["id"] - row["turn"], []).append(row["arm"])
    assert {len(those) for those in arms.values()} == {3}
    assert all(len(set(those)) == 1 for those in arms.values())
    assert {those[0] for those in arms.values()} == {"v1", "v2"}
