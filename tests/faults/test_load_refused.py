"""A target that refuses by the thousand: the session goes on answering its user."""

from __future__ import annotations

from pathlib import Path

import pytest

import rvtop.session.load_target
from rvtop.contract.command import Pause, Resume, SetRate, Stop
from rvtop.target.probe import TargetInfo
from tests.faults.sessions import Watched, errors_of, request
from tests.mock.faulty import refusing_port


async def test_the_session_obeys_while_thousands_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}"

        async def probe(asked: str, transport: object) -> TargetInfo:
            return TargetInfo(asked, ("m",), None, None)

        monkeypatch.setattr(rvtop.session.load_target, "probe", probe)
        watched = Watched(request(url, tmp_path / "run", {"name": "p", "rate": 2000, "duration": "10m"}))
        await watched.until(lambda s: errors_of(s).get("refused", 0) >= 1000, "a thousand are refused")
        watched.send(Pause())
        await watched.until(lambda s: s.state == "paused", "the pause shows")
        watched.send(Resume())
        watched.send(SetRate(3000.0))
        before = errors_of(watched.now)["refused"]
        more = before + 1000
        await watched.until(lambda s: errors_of(s)["refused"] >= more, "another thousand are refused")
        watched.send(Stop("interrupted"))
        outcome = await watched.end()
    assert outcome.exit_code == 130
    assert outcome.summary is not None
    counted = outcome.summary["requests"]
    assert counted["ok"] == counted["dropped"] == 0
    assert set(counted["errors"]) <= {"refused", "cancelled"}
    assert sum(counted["errors"].values()) == counted["planned"] == len(watched.rows()) >= more
    commands = [row["cmd"] for row in watched.rows("commands.jsonl")]
    assert [cmd for cmd in commands if cmd in ("pause", "resume", "rate", "stop")] == [
        "pause",
        "resume",
        "rate",
        "stop",
    ]
