"""What the head of a backend says of its cluster: each change once, in one line, by given clocks."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.cluster import machine, ping
from backends.cluster.machine import MachineWatch, machine_facts
from backends.cluster.single_call import SingleCall
from backends.cluster.watch import GONE_S, LOST_S, ClusterState, ClusterWatch, Seen
from backends.process import again
from backends.process.notices import KEPT, Notices
from backends.serve.replica_watch import ReplicaWatch, hurried
from rvtop.net.http_get import get
from rvtop.net.transport import Transport

HEAD = Seen("aaaaaaaa1", "h1", "10.0.0.1", 1, alive=True, head=True)
WORKER = Seen("bbbbbbbb2", "h2", "10.0.0.2", 2, alive=True, head=False)


class Told:
    """A state with its clock, and what it said since it was asked last."""

    def __init__(self) -> None:
        self.notices = Notices()
        self.state = ClusterState(self.notices)
        self.seen = 0
        self.now = 0.0
        self.rows([HEAD, WORKER])
        self.state.nodes[WORKER.id].engines = ("vllm-1",)
        assert self.said() == []

    def said(self) -> list[str]:
        rows = [row for row in self.notices.rows() if row["number"] > self.seen]
        self.seen += len(rows)
        return [row["text"] for row in rows]

    def rows(self, rows: list[Seen]) -> None:
        self.state.told(rows, self.now, 1000.0 + self.now)

    def node(self, answers: bool, seconds: float = 1.0) -> None:
        """The other node answers."""
        self.now += seconds
        self.state.answered(HEAD.id, True, self.now)
        self.state.answered(WORKER.id, answers, self.now)

    def of(self, node: Seen) -> dict[str, object]:
        return next(row for row in self.state.rows(self.now)["nodes"] if row["id"] == node.id)


def test_a_head_that_is_lost_is_said_once_and_within_five_seconds() -> None:
    told = Told()
    told.state.head(True, 10.0)
    said_at = None
    for second in range(11, 40):
        told.state.head(False, float(second))
        if told.said():
            assert said_at is None
            said_at = second
    assert said_at is not None
    assert said_at - 10 <= 5
    assert told.state.rows(40.0)["head_lost_s"] == 30.0
    told.state.head(True, 40.0)
    assert told.said() == ["Ray's head answers again, after 30 s"]
    assert told.state.rows(41.0)["head_lost_s"] is None


def test_a_hiccup_of_the_head_is_nothing() -> None:
    told = Told()
    told.state.head(True, 1.0)
    told.state.head(False, 2.0)
    told.state.head(True, 3.0)
    assert told.said() == []


def test_a_drain_is_said_with_its_time_and_counts_down() -> None:
    told = Told()
    draining = replace(WORKER, drain_s=1060.0)
    told.rows([HEAD, draining])
    assert told.said() == ["node h2 goes in 60 s (drain announced); vllm-1 on it"]
    told.now = 18.0
    told.rows([HEAD, draining])
    assert told.said() == []
    assert told.of(WORKER) == {
        "name": "h2",
        "id": WORKER.id,
        "head": False,
        "state": "draining",
        "left_s": 42.0,
        "silent_s": None,
        "engines": ["vllm-1"],
    }
    told.rows([HEAD, replace(draining, alive=False)])
    assert told.said() == ["node h2 is gone as announced; vllm-1 lost with it"]
    assert told.of(WORKER)["state"] == "dead"


def test_a_drain_may_be_called_off_or_have_no_time() -> None:
    told = Told()
    told.rows([HEAD, replace(WORKER, drain_s=0.0)])
    assert told.said() == ["node h2 is to go (drain announced); vllm-1 on it"]
    assert told.of(WORKER)["left_s"] is None
    told.rows([HEAD, WORKER])
    assert told.said() == ["node h2 stays: its drain was called off"]


def test_where_no_node_answers_none_is_said_to_serve_on() -> None:
    told = Told()
    told.state.answered(HEAD.id, False, 10.0)
    told.state.answered(WORKER.id, False, 10.0)
    assert told.said() == ["node h1 does not answer", "node h2 does not answer; vllm-1 on it out of reach"]


def test_a_silent_node_is_said_within_five_seconds_and_when_it_is_back() -> None:
    told = Told()
    told.node(True)
    began = told.now
    while told.of(WORKER)["state"] == "alive":
        told.node(False)
    assert LOST_S <= told.now - began <= 5
    assert told.said() == ["node h2 does not answer; vllm-1 on it out of reach; other nodes serve on"]
    told.node(False)
    assert told.of(WORKER)["silent_s"] == told.now - began
    told.node(True)
    assert told.said() == ["node h2 answers again, after 5 s"]


def test_a_node_that_dies_is_said_with_rays_reason_and_a_new_one_joins() -> None:
    told = Told()
    told.rows([HEAD, replace(WORKER, alive=False, reason="health check failed")])
    assert told.said() == ["node h2 is gone (health check failed); vllm-1 lost with it"]
    told.rows([HEAD, replace(WORKER, alive=False), replace(WORKER, id="cccccccc3")])
    assert told.said() == ["node h2/cccccc joined the cluster"]


def test_a_head_without_its_state_has_lost_all() -> None:
    told = Told()
    told.rows([replace(HEAD, id="dddddddd4")])
    assert told.state.lost_all


def test_nodes_that_go_with_their_head_are_all_lost() -> None:
    told = Told()
    told.state.head(True, 0.0)
    for now in (1.0, 2.0, 3.0, 4.0):
        told.state.head(None, now)
        for node in (HEAD, WORKER):
            told.state.answered(node.id, None, now)  # nobody listens
        told.state.check_all(now)
        assert told.state.lost_all == told.state.head_gone == (now >= LOST_S)


def test_processes_that_may_only_be_late_are_given_time() -> None:
    told = Told()
    told.state.head(True, 0.0)
    for node in (HEAD, WORKER):
        told.state.answered(node.id, True, 0.0)
    for now in range(1, int(GONE_S) + 3):
        told.state.head(False, now)
        for node in (HEAD, WORKER):
            told.state.answered(node.id, False, now)
        told.state.check_all(now)
        assert told.state.lost_all == told.state.head_gone == (now >= GONE_S)


def test_nodes_that_are_cut_off_from_a_head_that_is_there_are_not_lost() -> None:
    told = Told()
    for now in (1.0, 2.0, 3.0, 4.0):
        told.state.head(True, now)
        for node in (HEAD, WORKER):
            told.state.answered(node.id, False, now)
        told.state.check_all(now)
    assert told.of(WORKER)["state"] == "silent"
    assert not told.state.lost_all


def test_a_head_that_knows_no_node_yet_has_lost_nothing() -> None:
    told = Told()
    told.rows([])
    assert not told.state.lost_all


def test_a_clock_that_is_set_is_said_and_one_that_drifts_is_not() -> None:
    notices = Notices()
    watch = MachineWatch(notices)
    for second in range(100):  # 10 ms a second fast
        watch.look({"h2": {"unix_s": 5000.0 + 1.01 * second, "monotonic_s": float(second)}})
    assert notices.rows() == []
    watch.look({"h2": {"unix_s": 5000.0 + 101.0 + 3600.0, "monotonic_s": 100.0}})
    watch.look({"h2": {"unix_s": 5000.0 + 102.0 + 3600.0, "monotonic_s": 101.0}})
    (row,) = notices.rows()
    assert row["text"].startswith("the clock of node h2 was set by +3600 s")


def test_a_full_disk_is_said_once_and_when_it_has_room() -> None:
    notices = Notices()
    watch = MachineWatch(notices)
    for number, free in enumerate([500.0, 500.0, 0.0, 0.1, 0.9, 30.0, 200.0, 300.0]):
        clocks = {"unix_s": 5000.0 + number, "monotonic_s": float(number)}
        watch.look({"h2": {**clocks, "disk_free": free * 2**20, "disk_total": 1000.0 * 2**20}})
    texts = [row["text"] for row in notices.rows()]
    assert len(texts) == 2
    assert texts[0].startswith("the disk of node h2 is full (0 of 1000 MiB free")
    assert texts[1] == "the disk of node h2 has room again"


def test_this_machine_has_facts() -> None:
    facts = machine_facts()
    assert 0 < facts["disk_free"] <= facts["disk_total"]
    assert facts["unix_s"] > 1e9


def test_a_process_that_was_suspended_between_two_clocks_reads_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monotonic = iter([10.0, 13.0, 13.0, 13.01])  # three seconds between the first two
    wall = iter([5010.0, 5013.0])
    clocks = SimpleNamespace(monotonic=monotonic.__next__, time=wall.__next__)
    monkeypatch.setattr(machine, "time", clocks)
    assert machine._clocks() == {"unix_s": 5013.0, "monotonic_s": 13.01}


def test_notices_are_safe_to_print_and_few() -> None:
    notices = Notices()
    for number in range(KEPT + 5):
        notices.say(f"line {number}\x1b[2J\n of an engine")
    rows = notices.rows()
    assert len(rows) == KEPT
    assert rows[-1]["number"] == KEPT + 5
    assert rows[-1]["text"] == f"line {KEPT + 4}\\x1b[2J of an engine"


async def test_only_a_process_that_says_something_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # as a stopped one: the kernel accepts
        assert await ping.answers("127.0.0.1", silent.getsockname()[1], 0.2) is False
        port = silent.getsockname()[1]
    assert await ping.answers("127.0.0.1", port, 5.0) is None  # nobody listens

    async def settings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(24)).startswith(b"PRI * HTTP/2.0")
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(settings, "127.0.0.1", 0)
    async with server:
        assert await ping.answers("127.0.0.1", server.sockets[0].getsockname()[1], 10.0)


async def test_a_call_that_hangs_is_made_once_and_its_answer_kept() -> None:
    begun, go_on = [], threading.Event()

    def hangs() -> int:
        begun.append(1)
        go_on.wait(30)
        return 7

    call = SingleCall(hangs, 0)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await call(0.01)
    assert call.last == 0
    go_on.set()
    assert await call(30) == 7
    assert (len(begun), call.last) == (1, 7)
    call.close()


def test_a_replica_that_dies_is_said_with_why_it_cannot_come_back(tmp_path: Path) -> None:
    notices = Notices()
    watch = ReplicaWatch("m", tmp_path, notices)
    both, one = frozenset({"e1", "e2"}), frozenset({"e2"})
    watch.look(both, 2, 0.0)
    (tmp_path / "model.safetensors").write_bytes(b"")
    for now in (1.0, 2.0, 3.0):
        watch.look(one, 2, now)
    (tmp_path / "model.safetensors").unlink()
    watch.look(one, 2, 4.0)
    watch.look(frozenset({"e2", "e3"}), 2, 9.0)
    watch.look(frozenset({"e2", "e3"}), 2, 10.0)
    assert [row["text"] for row in notices.rows()] == [
        "m: e1 answers no more; 1 of 2 ready, Serve replaces what died",
        f"m can't be loaded again: {tmp_path}/model.safetensors: cut short: it has 0 bytes; copy that file "
        "here again; 1 of 2 serve on",
        "m: 2 ready again, after 8 s",
    ]


def test_replicas_that_come_and_go_with_the_load_are_no_loss(tmp_path: Path) -> None:
    notices = Notices()
    watch = ReplicaWatch("m", tmp_path, notices)
    for now, ready in enumerate([{"e1"}, {"e1", "e2", "e3"}, {"e2"}, {"e2", "e4"}, {"e4"}]):
        watch.look(frozenset(ready), 1, float(now), starting=True)
    assert notices.rows() == []


def test_weights_that_keep_the_load_from_a_replica_more_are_said(tmp_path: Path) -> None:
    notices = Notices()
    watch = ReplicaWatch("m", tmp_path, notices)
    one, file = frozenset({"e1"}), tmp_path / "model.safetensors"
    watch.look(one, 1, 0.0)
    file.write_bytes(b"")
    watch.look(one, 1, 1.0)  # nobody loads it now
    assert notices.rows() == []
    for now in (2.0, 3.0, 4.0):
        watch.look(one, 1, now, starting=True)
    wrong = f"{file}: cut short: it has 0 bytes; copy that file here again"
    (row,) = notices.rows()
    assert (row["text"], row["level"]) == (f"m can't be loaded once more: {wrong}; 1 serve on", "error")
    watch.look(frozenset(), 1, 5.0, starting=True)  # and now the last one dies
    texts = [row["text"] for row in notices.rows()[1:]]
    assert texts == [
        "m: e1 answers no more; 0 of 1 ready, Serve replaces what died",
        f"m can't be loaded again: {wrong}; none serves",
    ]


def test_damage_that_serve_finds_at_each_try_is_said_once(tmp_path: Path) -> None:
    """Serve waits from one try to the next, and none starts meanwhile."""
    notices = Notices()
    watch = ReplicaWatch("m", tmp_path, notices)
    one, both, file = frozenset({"e1"}), frozenset({"e1", "e2"}), tmp_path / "model.safetensors"
    watch.look(one, 1, 0.0)
    file.write_bytes(b"")
    for now in range(1, 9):
        watch.look(one, 1, float(now), starting=now % 3 == 0)
    assert len(notices.rows()) == 1
    file.unlink()
    watch.look(both, 1, 9.0)  # copied again, the next try succeeded
    watch.look(one, 1, 10.0)
    file.write_bytes(b"")
    watch.look(one, 1, 11.0, starting=True)  # and the same again, another time
    assert len(notices.rows()) == 2


async def test_a_backend_that_starts_again_answers_meanwhile() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    with listening:
        absence = again.Absence(listening)
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models"
            status, body = await asyncio.to_thread(get, url, Transport(), {}, 10.0)
        finally:
            absence.end()
    assert status == 503
    assert b"starting again" in body


def test_it_is_said_where_serve_has_no_time_for_a_successor() -> None:
    notices = Notices()
    on_drain = hurried(120.0, notices)
    on_drain("n", None)
    on_drain("n", 180.0)
    assert notices.rows() == []
    on_drain("n", 59.6)
    (row,) = notices.rows()
    assert "--serve-grace 120 is more than the 60 s left" in row["text"]


async def test_an_engine_that_has_moved_is_not_said_to_be_lost() -> None:
    notices = Notices()
    rows = [{"engine": "vllm-1", "node_id": WORKER.id}]

    async def engines() -> list[dict[str, str]]:
        return rows

    watch = ClusterWatch("10.0.0.1:1", engines, ours=False, notices=notices)
    draining = replace(WORKER, drain_s=1060.0)
    watch.state.told([HEAD, draining], 0.0, 1000.0)
    watch.state.told([HEAD, draining], 1.0, 1001.0)
    await watch._look_at_engines()
    assert watch.state.nodes[WORKER.id].engines == ("vllm-1",)
    rows[0]["node_id"] = HEAD.id
    await watch._look_at_engines()
    watch.state.told([HEAD, replace(draining, alive=False)], 2.0, 1002.0)
    assert notices.rows()[-1]["text"] == "node h2 is gone as announced"


@pytest.mark.parametrize(
    ("answers", "said"),
    [(True, "node h2 is gone (idle)"), (None, "node h2 is gone (idle); rsc-0-a lost with it")],
    ids=["retired before", "died with it"],
)
async def test_an_engine_that_was_retired_is_not_lost_with_its_node(answers: bool | None, said: str) -> None:
    told: list[dict[str, str]] = [{"engine": "rsc-0-a", "node_id": WORKER.id}]

    async def engines() -> list[dict[str, str]]:
        return told

    notices = Notices()
    watch = ClusterWatch("10.0.0.1:1", engines, ours=False, notices=notices)
    watch.state.told([HEAD, WORKER], 0.0, 1000.0)
    await watch._look_at_engines()
    told.clear()
    watch.state.answered(WORKER.id, answers, 1.0)
    await watch._look_at_engines()
    watch.state.told([HEAD, replace(WORKER, alive=False, reason="idle")], 2.0, 1002.0)
    assert said in [row["text"] for row in notices.rows()]


async def test_a_node_that_goes_empty_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last engine has moved, and it has gone, between two looks."""
    rows = [{"engine": "rsc-0-a", "node_id": WORKER.id}]

    async def engines() -> list[dict[str, str]]:
        return rows

    notices = Notices()
    watch = ClusterWatch("10.0.0.1:1", engines, ours=False, notices=notices)
    draining = replace(WORKER, drain_s=time.time() + 60)
    seen = [HEAD, draining]

    async def ask(limit_s: float) -> list[Seen]:
        return seen

    monkeypatch.setattr(watch, "_ask", ask)
    watch.state.told([HEAD, WORKER], 0.0, time.time())
    await watch._look_at_engines()
    await watch._ask_head()
    assert watch.state.nodes[WORKER.id].engines == ("rsc-0-a",)
    rows[0] = {"engine": "rsc-0-b", "node_id": HEAD.id}
    watch.state.answered(WORKER.id, None, 1.0)
    seen[1] = replace(draining, alive=False)
    await watch._ask_head()
    assert notices.rows()[-1]["text"] == "node h2 is gone as announced"
