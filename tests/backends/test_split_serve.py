"""On Serve an arm without a replica is taken out of the router, whose slots are Serve's proxies."""

from __future__ import annotations

from typing import Any

import pytest

from backends.serve.fleet import App, ServeFleet
from backends.settings.split import Arm, Split, SplitOptions


class Told:
    """A router that remembers whom it was to send requests to."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bool]] = []

    async def admit(self, model: str, up: bool) -> None:
        self.said.append((model, up))


class Fleet(ServeFleet):
    """Of applications whose replicas are what the test says."""

    def __init__(self, router: Any) -> None:
        share: Any = None
        super().__init__([App(f"app-{name}", "", name, "", share, 1) for name in ("v1", "v2", "x")], router)
        self.alive = {"v1", "v2", "x"}

    async def _ask(self, app: App) -> list[dict[str, Any]]:
        state = "ready" if app.name in self.alive else "unreachable"
        return [{"row": {"engine": "e", "state": state, "max_model_len": 1}, "page": ""}]


@pytest.mark.parametrize("fallback", [True, False])
async def test_an_arm_without_a_replica_gets_no_requests(fallback: bool) -> None:
    router = Told()
    fleet = Fleet(router)
    fleet.splits = SplitOptions((Split("chat", (Arm("v1", 90.0), Arm("v2", 10.0))),), fallback=fallback)
    await fleet.look()
    router.said.clear()
    await fleet.look()
    assert router.said == []
    fleet.alive = {"v1"}
    await fleet.look()
    await fleet.look()  # again: the router may have been started anew
    fleet.alive = {"v1", "v2"}
    await fleet.look()
    told = [("v2", False), ("v2", False), ("v2", True)]
    assert router.said == (told if fallback else [])
    assert (fleet.up("v1"), fleet.up("v2"), fleet.up("x")) == (True, True, False)
