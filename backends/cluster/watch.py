"""Watches the cluster that the engines run in: its head, its nodes, and what is announced of them.

Each second Ray's GCS (the head) and the raylet of each node are asked whether they are there, in a way that
needs neither of them to do anything (:mod:`backends.cluster.ping`); what the GCS knows (nodes, drains) is
asked for only while it answers, since a call to a dead GCS waits for a minute. What changes is said once, in
one line, within LOST_S + 2 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.cluster import ping
from backends.cluster.machine import MachineWatch
from backends.cluster.single_call import SingleCall
from backends.process.notices import NOTICES, Notices
from backends.process.running import StartAgain

log = logging.getLogger("backends.cluster.watch")

PERIOD_S = 1.0
ANSWER_S = 1.5
#: Without an answer for so long a head or a node is said to be silent.
LOST_S = 2.5
#: A process that may only be late, on a machine that is busy, is given up after so long.
GONE_S = 30.0
#: How long after their head is back nodes may take to notice that it knows them no more.
AFTERWARDS_S = 60.0
#: A call to a GCS that answers takes milliseconds.
_ASK_S = 3.0


@dataclass(frozen=True)
class Seen:
    """A node as the GCS tells of it. ``drain_s`` is the time (Unix) at which it goes, 0 for one without a
    deadline, None where nothing is announced."""

    id: str
    hostname: str
    address: str
    port: int  # its raylet's
    alive: bool
    head: bool
    drain_s: float | None = None
    reason: str = ""  # why it is dead, as Ray says


@dataclass
class NodeState:
    """A node as we know it. ``state``: alive, draining, silent or dead."""

    seen: Seen
    answered: float  # monotonic
    state: str = "alive"
    answers: bool = True  # as it was asked last
    refused: bool = False  # nobody listens there
    drains_at: float | None = None  # monotonic
    engines: tuple[str, ...] = ()


@dataclass
class ClusterState:
    """Everything that the watch knows, and what it says when that changes. Pure: its clocks are handed in."""

    notices: Notices
    ours: bool = False  # it has one node, which ends with its head
    nodes: dict[str, NodeState] = field(default_factory=dict)
    head_answered: float = 0.0
    head_lost_at: float | None = None  # monotonic
    head_gone: bool = False  # and will not answer again by itself
    lost_all: bool = False  # the head came back without its state, or its nodes went with it
    head_back_at: float | None = None  # monotonic
    begun: bool = False  # the nodes have been told once

    # -- the head -------------------------------------------------------------------------------

    def head(self, answers: bool | None, now: float) -> None:
        """Whether the GCS answered just now; None: nobody listens."""
        if answers:
            lost_at, self.head_answered, self.head_lost_at = self.head_lost_at, now, None
            if lost_at is not None:
                self.head_back_at = now
                self.notices.say(f"Ray's head answers again, after {now - lost_at:.0f} s")
        elif self.head_lost_at is None and now - self.head_answered >= LOST_S:
            self.head_lost_at = self.head_answered
            away = "scaling and restarts are paused, serving continues"
            if self.ours and answers is None:
                away = "everything is started again"
            self.notices.say(f"Ray's head (GCS) does not answer: {away}", "error")
        silent_s = now - self.head_answered
        self.head_gone = silent_s >= (LOST_S if answers is None else GONE_S)

    # -- the nodes ------------------------------------------------------------------------------

    def told(self, rows: Sequence[Seen], now: float, unix_s: float) -> None:
        """What the GCS says of all nodes."""
        living = {row.id for row in rows if row.alive}
        if self.nodes and living and not living & set(self.nodes):
            self.lost_all = True
            return
        for row in rows:
            known = self.nodes.get(row.id)
            if known is None:
                if row.alive:
                    self.nodes[row.id] = NodeState(row, now)
                    if self.begun:
                        self.notices.say(f"node {self.name(row.id)} joined the cluster")
                continue
            known.seen = row
            if not row.alive:
                self._died(known)
            else:
                self._drain(known, now, unix_s)
        self.begun = True

    def _died(self, node: NodeState) -> None:
        if node.state == "dead":
            return
        announced = " as announced" if node.drains_at is not None else ""
        node.state = "dead"
        why = f" ({node.seen.reason})" if node.seen.reason and not announced else ""
        self.notices.say(
            f"node {self.name(node.seen.id)} is gone{announced}{why}{self._with(node, 'lost with it')}",
            "info" if announced else "error",
        )

    def _drain(self, node: NodeState, now: float, unix_s: float) -> None:
        ends = node.seen.drain_s
        if ends is None:
            if node.state == "draining":
                node.state, node.drains_at = "alive", None
                self.notices.say(f"node {self.name(node.seen.id)} stays: its drain was called off")
            return
        left = max(0.0, ends - unix_s)
        node.drains_at = now + left if ends else None
        if node.state == "alive":
            node.state = "draining"
            when = f"goes in {left:.0f} s" if ends else "is to go"
            self.notices.say(
                f"node {self.name(node.seen.id)} {when} (drain announced){self._with(node, 'on it')}", "warn"
            )

    def answered(self, node_id: str, answers: bool | None, now: float) -> None:
        """Whether a node's raylet answered just now; None: nobody listens."""
        node = self.nodes[node_id]
        node.answers, node.refused = bool(answers), answers is None
        if answers:
            silent_s, node.answered = now - node.answered, now
            if node.state == "silent":
                node.state = "alive"
                name = self.name(node_id)
                self.notices.say(f"node {name} answers again, after {silent_s:.0f} s")
        elif node.state == "alive" and now - node.answered >= LOST_S:
            node.state = "silent"
            others = any(now - other.answered < LOST_S for other in self.nodes.values())
            rest = "; other nodes serve on" if others else ""
            self.notices.say(
                f"node {self.name(node_id)} does not answer{self._with(node, 'on it out of reach')}{rest}",
                "error",
            )

    def check_all(self, now: float) -> None:
        """Nodes whose head lost its state end when they notice, with all that they run. (Where the head was
        there all the time they are cut off, and come back.)"""
        back_at = self.head_back_at
        away = self.head_lost_at is not None or (back_at is not None and now - back_at < AFTERWARDS_S)
        living = [node for node in self.nodes.values() if node.state != "dead"]
        gone = [node.state == "silent" and (node.refused or now - node.answered >= GONE_S) for node in living]
        if away and living and all(gone):
            self.lost_all = True

    # -- names and rows -------------------------------------------------------------------------

    def name(self, node_id: str) -> str:
        """Its host's name; nodes of one machine with the beginning of their id."""
        host = self.nodes[node_id].seen.hostname
        alone = sum(node.seen.hostname == host for node in self.nodes.values()) == 1
        return host if alone else f"{host}/{node_id[:6]}"

    def rows(self, now: float) -> dict[str, Any]:
        """What ``/rvtop/cluster`` says: head_lost_s, and of each node name, state, left_s (of a drain),
        silent_s, engines."""
        nodes = [
            {
                "name": self.name(key),
                "id": key,
                "head": node.seen.head,
                "state": node.state,
                "left_s": None if node.drains_at is None else max(0.0, node.drains_at - now),
                "silent_s": now - node.answered if node.state == "silent" else None,
                "engines": list(node.engines),
            }
            for key, node in self.nodes.items()
        ]
        lost_at = self.head_lost_at
        return {"head_lost_s": None if lost_at is None else now - lost_at, "nodes": nodes}

    def _with(self, node: NodeState, what: str) -> str:
        return f"; {', '.join(node.engines)} {what}" if node.engines else ""


class ClusterWatch:
    """Keeps a :class:`ClusterState` true. ``engines`` tells the rows of ``/rvtop/topology``; ``on_drain`` is
    called with the ids of the nodes that are to go, as often as one more is."""

    def __init__(
        self,
        gcs_address: str,
        engines: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
        *,
        ours: bool,
        on_drain: Callable[[str, float | None], None] = lambda node, left_s: None,
        notices: Notices = NOTICES,
    ) -> None:
        host, _, port = gcs_address.rpartition(":")
        self._gcs = host.strip("[]"), int(port)
        self._engines = engines
        self._on_drain = on_drain
        self.state = ClusterState(notices, ours=ours, head_answered=time.monotonic())
        self._machines = MachineWatch(notices)
        self._moved: set[str] = set()
        self._ask: SingleCall[list[Seen]] = SingleCall(nodes_seen, [])
        self._rows: asyncio.Task[None] | None = None
        self._lost_all = asyncio.Event()

    @property
    def head_lost(self) -> bool:
        """Whether the head does not answer: nothing that needs it may be asked for."""
        return self.state.head_lost_at is not None

    def rows(self) -> dict[str, Any]:
        return self.state.rows(time.monotonic())

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """It watches while the body runs."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def lost_all(self) -> str:
        """Returns when the cluster that we knew is gone with all that was in it."""
        await self._lost_all.wait()
        reason = StartAgain("Ray's head was lost with its state: every engine is started again")
        reason.nodes = sum(node.state != "dead" for node in self.state.nodes.values())
        return reason

    async def run(self) -> None:
        """Looks each second. Never returns; cancel it."""
        try:
            while True:
                began = time.monotonic()
                try:
                    await self.look()
                except Exception:  # what is shown is late, and what serves goes on
                    log.exception("the look at the cluster failed")
                await asyncio.sleep(max(0.1, PERIOD_S - (time.monotonic() - began)))
        finally:
            self._ask.close()
            if self._rows is not None:
                self._rows.cancel()

    async def look(self) -> None:
        """Once."""
        state = self.state
        asked = [key for key, node in state.nodes.items() if node.state != "dead"]
        head, *answers = await asyncio.gather(
            ping.answers(*self._gcs, ANSWER_S),
            *(
                ping.answers(state.nodes[key].seen.address, state.nodes[key].seen.port, ANSWER_S)
                for key in asked
            ),
        )
        now = time.monotonic()
        state.head(head, now)
        for key, good in zip(asked, answers, strict=True):
            state.answered(key, good, now)
        state.check_all(now)
        if head and not state.lost_all:
            await self._ask_head()
        if self._rows is None or self._rows.done():
            self._rows = asyncio.create_task(self._look_at_engines())
        if state.lost_all or (state.ours and state.head_gone):
            self._lost_all.set()

    async def _ask_head(self) -> None:
        try:
            rows = await self._ask(_ASK_S)
        except Exception as error:  # noqa: BLE001  # Ray's own, of many kinds: it answers no such question now
            log.debug("the head does not tell its nodes: %r", error)
            return
        gone = {row.id for row in rows if not row.alive}
        if any(key in gone and node.state == "draining" for key, node in self.state.nodes.items()):
            # It goes as soon as nothing is on it, so what it had may have moved since the last look.
            await self._look_at_engines(gone)
        self.state.told(rows, time.monotonic(), time.time())
        for key, node in self.state.nodes.items():
            if node.state == "draining" and key not in self._moved:
                self._moved.add(key)
                left_s = None if node.drains_at is None else node.drains_at - time.monotonic()
                self._on_drain(key, left_s)

    async def _look_at_engines(self, gone: Collection[str] = ()) -> None:
        """``gone``: nodes that went as announced, by what the head says."""
        try:
            rows = await self._engines()
        except Exception as error:  # noqa: BLE001  # it is being closed, or Ray's head is away
            log.debug("the engines do not tell where they are: %r", error)
            return
        for key, node in self.state.nodes.items():
            named = tuple(sorted(str(row["engine"]) for row in rows if row.get("node_id") == key))
            # Those that leave a node that answers have moved or were retired; those of a node that died are
            # gone before it is told dead.
            there = node.state == "alive" and node.answers
            if named or there or (node.state == "draining" and (node.answers or key in gone)):
                node.engines = named
        told = {
            str(row["node_id"]): row["machine"] for row in rows if row.get("machine") and row.get("node_id")
        }
        self._machines.look(
            {self.state.name(key): facts for key, facts in told.items() if key in self.state.nodes}
        )


def nodes_seen() -> list[Seen]:
    """What the GCS knows of all nodes. Blocking; a dead GCS is waited for."""
    import ray
    from ray._private.state import state

    rows = ray.nodes()
    drains = state.get_draining_nodes()
    return [
        Seen(
            id=row["NodeID"],
            hostname=row["NodeManagerHostname"],
            address=row["NodeManagerAddress"],
            port=row["NodeManagerPort"],
            alive=row["Alive"],
            head="node:__internal_head__" in row["Resources"],
            drain_s=None if row["NodeID"] not in drains else drains[row["NodeID"]] / 1000,
            reason=str(row.get("DeathReasonMessage") or "").partition("\n")[0][:160],
        )
        for row in rows
    ]
