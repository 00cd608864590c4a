"""The head's view of a graph: what the router is told, what is scaled, what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from backends.cluster.cluster import ResourceShare
from backends.errors import ApiError, bad_request
from backends.process.notices import Notices
from backends.serve.model_app import App
from backends.serve.replica_watch import ReplicaWatch
from backends.stages.fleet import GraphFleet


class FakeRouter:
    """Keeps what it was told."""

    pid = 1

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    async def place(self, slot: str, address: Any) -> None:
        self.told.append((slot, address))

    async def drain(self, slot: str) -> None:
        self.told.append((slot, "drain"))


class FakeApps:
    """An LLM and an embedder, and what is deployed of them."""

    def __init__(self) -> None:
        share = ResourceShare("tiny", 1.0, 0.0, 1)
        self.models = [App("app", "", "tiny", "", share, 1, deployment="llm")]
        self.stages = {"embed": App("stages", "", "embed", "", share, 1, deployment="embed")}

    def check(self, counts: Any) -> None:
        if sum(counts.values()) > 4:
            raise bad_request("There is room for 4 replicas.", "replicas")


def figures(replica: str, state: str = "ready", port: int = 1) -> dict[str, Any]:
    row = {"engine": f"llm-0-{replica}", "model": "tiny", "state": state, "replica": replica}
    return {"row": row, "page": "", "address": ("127.0.0.1", port), "passed": {"embed": (2, 9.0)}}


class Graph(GraphFleet):
    """A fleet whose replicas say what a test says."""

    def __init__(self) -> None:
        self.router, self.deployed = FakeRouter(), 0
        apps: Any = FakeApps()
        router: Any = self.router
        super().__init__(apps.models, router, apps, {"embed": 1, "llm": 1})
        self.llms: list[dict[str, Any]] = []

    async def _ask(self, app: App) -> list[dict[str, Any]]:
        known = self.llms if app.deployment == "llm" else [{"row": {"state": "ready", "engine": "e"}}]
        self._told[f"{app.app}#{app.deployment}"] = known
        return known

    async def _deploy(self) -> None:
        self.deployed += 1

    async def routed(self, *llms: dict[str, Any]) -> list[tuple[str, Any]]:
        """What the router is told when the replicas are these."""
        self.llms, self.router.told = list(llms), []
        for app in self._graph.models:
            await self._ask(app)
            await self._route(app)
        return self.router.told


async def test_the_router_follows_the_replicas() -> None:
    graph_fleet = Graph()
    assert await graph_fleet.routed(figures("a", port=7)) == [("llm-0-0", ("127.0.0.1", 7))]
    assert await graph_fleet.routed(figures("a"), figures("b", port=8)) == [("llm-0-1", ("127.0.0.1", 8))]
    assert await graph_fleet.routed(figures("a", "draining"), figures("b")) == [("llm-0-0", "drain")]
    silent = {"row": {"engine": "b", "model": "tiny", "state": "unreachable"}, "page": ""}
    assert await graph_fleet.routed(silent) == [("llm-0-0", None)]  # one that is silent for a while stays
    starting = {"row": {"engine": "c", "model": "tiny", "state": "starting"}, "page": ""}
    assert await graph_fleet.routed(silent, starting) == []
    assert await graph_fleet.routed(figures("c", port=9)) == [
        ("llm-0-1", None),
        ("llm-0-0", ("127.0.0.1", 9)),
    ]


async def test_a_stage_is_scaled_alone() -> None:
    graph_fleet = Graph()
    assert await graph_fleet.scale({"embed": 2}) == {"embed": 2, "llm": 1}
    assert graph_fleet.deployed == 1
    for counts, said in (({"nope": 1}, "no stage"), ({"embed": 99}, "1 to 32"), ({"embed": 4}, "room for 4")):
        with pytest.raises(ApiError, match=said):
            await graph_fleet.scale(counts)
    assert (graph_fleet.counts, graph_fleet.deployed) == ({"embed": 2, "llm": 1}, 1)
    graph_fleet.llms = [figures("a"), figures("b", "starting")]
    embed, llm = (await graph_fleet.facts())["stages"]
    assert (embed["stage"], embed["wanted"], embed["ready"]) == ("embed", 2, 1)
    assert (embed["requests"], embed["total_ms"]) == (4, 18.0)
    assert (llm["ready"], "requests" in llm) == (1, False)


def test_replicas_that_are_no_longer_wanted_are_not_lost() -> None:
    said = Notices()
    watch = ReplicaWatch("tiny", "", said)
    watch.look(frozenset(("a", "b")), 2, 0.0)
    watch.look(frozenset("a"), 1, 1.0)
    assert said.rows() == []
    watch.look(frozenset(), 1, 2.0)
    assert "0 of 1 ready" in said.rows()[0]["text"]
