"""What a running session says of its verdict: picture, row, event, and the row that results are made of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rvtop.contract.command import Stop
from rvtop.session.live import SECOND_NS, LiveState
from rvtop.session.load_parts import Second
from rvtop.session.load_target import LoadTarget
from rvtop.session.verdict_watch import VerdictWatch
from rvtop.target.probe import TargetInfo
from tests.faults.sessions import Watched, request
from tests.mock.fast import any_mock
from tests.unit.serving_model import Model, Setup

FULL = Setup(places=4, rates=((30, 30),))


def target(places: int, arguments: tuple[str, ...] = ()) -> LoadTarget:
    """A server of ours, as far as a verdict asks for it."""
    knobs = ({"step_tokens": 2048, "devices": 1},)
    info = TargetInfo("http://a", ("m",), "vllm", "vllm", places={"0": places}, knobs=knobs)
    own = SimpleNamespace(options=SimpleNamespace(arguments=arguments))
    return cast(LoadTarget, SimpleNamespace(info=info, topology="vllm", own=own))


def test_a_verdict_that_binds_is_said_once_and_goes_into_the_row() -> None:
    events: list[tuple[str, str, str]] = []
    watch = VerdictWatch(lambda *words: events.append(words), target(4, ("--max-num-seqs", "4")), "1")
    rows = []
    for number, row in enumerate(Model(FULL).rows()):
        watch.look(LiveState(0), 0, Second((number + 1) * SECOND_NS, row, last=False), None)
        rows.append(row)
    assert [words[1:] for words in events] == [("warn", "verdict")]
    assert events[0][0].startswith("bound by batch: batch 4/4 · wait ")
    assert events[0][0].endswith("; max_num_seqs 4→8")
    verdict = watch.verdict
    assert verdict is not None
    assert (verdict.name, verdict.topology, verdict.arguments) == ("batch", "vllm", ("--max-num-seqs", "8"))
    assert rows[0]["verdict"] == {"name": "not known yet"}
    assert rows[-1]["verdict"]["name"] == "batch"
    assert rows[-1]["verdict"]["figures"]["places"] == 4.0
    assert rows[-1]["client_limited"] is None


async def test_a_session_shows_it_while_there_is_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether this machine's load makes the client late is another matter.
    monkeypatch.setattr("rvtop.session.verdict_watch.limited_since", lambda *_: None)
    with any_mock(ttft_ms=5, step_ms=2, tokens=8) as mock:
        watched = Watched(request(mock.url, tmp_path / "run", {"name": "p", "rate": 10, "duration": "10m"}))
        s = await watched.until(lambda s: s.verdict is not None, "a verdict")
        assert s.verdict is not None
        assert (s.verdict.name, s.verdict.topology) == ("not known yet", "")
        assert s.verdict.why.startswith("needs 10 s of load, has ")
        watched.send(Stop())
        await watched.end()
    rows: list[dict[str, Any]] = watched.rows("timeline.jsonl")
    assert {"name": "not known yet"} in [row["verdict"] for row in rows]
    assert not [event for event in watched.rows("events.jsonl") if event["kind"] == "verdict"]
