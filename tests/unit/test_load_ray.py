"""What stands between a session and its workers on Ray, without Ray: what a node may lack, what it can't
reach, and a keeper whose head is gone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.load.fleet.ray.actor import NEEDS, LoadActor, network
from rvtop.load.fleet.ray.bridge import Bridge
from rvtop.load.fleet.ray.messages import Begin
from rvtop.load.plan.schedule import PhasePlan
from rvtop.load.wire.endpoint import Address
from rvtop.load.worker.messages import WorkerSpec
from tests.unit.processes import alive, children, wait_for

HERE = {"missing": [], "network": network()}


class Answers:
    """An actor whose ``hello`` says ``what``."""

    def __init__(self, what: dict[str, Any]) -> None:
        self.hello = self
        self._what = what

    def remote(self) -> Awaitable[dict[str, Any]]:
        async def answer() -> dict[str, Any]:
            return self._what

        return answer()


def bridge(address: Address, *hellos: dict[str, Any]) -> Bridge:
    """One whose workers sit on nodes n0, n1, … that say ``hellos``."""
    spec = WorkerSpec(0, len(hellos), 0, 3, address, "p", ("m",), {}, (PhasePlan("p"),))
    made = Bridge(Begin(spec, None), lambda message: None)
    made._actors = [Answers(hello) for hello in hellos]
    made._homes = [(f"id{i}", f"n{i}") for i in range(len(hellos))]
    return made


async def refusal(address: Address, *hellos: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        await bridge(address, *hellos)._greet()
    return str(caught.value)


async def test_a_node_that_lacks_a_package_is_named() -> None:
    text = await refusal(Address("http://h:1"), HERE, {**HERE, "missing": ["numpy", "uvloop"]})
    assert text == "node n1 lacks numpy, uvloop, which a load worker needs; install it there"


def test_what_is_not_there_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LoadActor().hello()["missing"] == []
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "orjson" else find(name))
    assert LoadActor().hello()["missing"] == ["orjson"]


def test_the_list_of_needs_is_what_a_worker_imports() -> None:
    code = (
        "import sys, rvtop.load.worker.process\n"
        "found = {m.partition('.')[0] for m, f in sys.modules.items()"
        " if 'site-packages' in (getattr(f, '__file__', None) or '')}\n"
        "print(*sorted(found))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) - {"_distutils_hack", "rvtop"} <= set(NEEDS)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"])
async def test_a_loopback_target_is_no_target_for_another_machine(host: str) -> None:
    await bridge(Address(f"http://{host}:1"), HERE, HERE)._greet()
    away = {**HERE, "network": "another boot net:[1]"}
    text = await refusal(Address(f"http://{host}:1"), HERE, away)
    assert text.startswith(f"http://{host}:1 is this machine alone, node n1 can't reach it; ")
    await bridge(Address("http://10.0.0.9:1"), HERE, away)._greet()
    text = await refusal(Address("http://h:1", unix_socket="/run/s.sock"), away)
    assert text == "/run/s.sock: node n0 can't reach a unix socket"


_KEEPER = """
import rvtop.load.fleet.ray.actor as ray_actor
from rvtop.ipc.frames import pack
from rvtop.load.worker.messages import WorkerSpec
from rvtop.load.plan.schedule import PhasePlan
from rvtop.load.wire.endpoint import Address
where = Address("http://127.0.0.1:9", key_env="K")
spec = WorkerSpec(0, 1, 0, 3, where, "/nowhere", ("m",), {}, (PhasePlan("p"),))
actor = ray_actor.LoadActor()
actor.start(pack(spec), b'{"prompt": "hi"}', {}, {"K": "secret"})
next(actor.output())
print("out", flush=True)
input()
ray_actor.LEASE_S = 0.5
input()
"""


def test_a_keeper_that_hears_nothing_ends_with_its_worker() -> None:
    """Its head may be cut off, and then can't tell it to."""
    root = str(Path(__file__).parents[2])
    keeper = subprocess.Popen(
        [sys.executable, "-c", _KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "out\n"
        ((worker, line),) = children(keeper.pid).items()
        assert "-m rvtop.load.worker" in line
        paths = [e for e in Path(f"/proc/{worker}/environ").read_text().split("\0") if "PYTHONPATH=" in e]
        assert paths == [f"PYTHONPATH={root}:{root}"]  # a node finds our package where the actor found it
        assert "secret" not in line
        keeper.stdin.write("silence\n")
        keeper.stdin.flush()
        assert keeper.wait(120) == 1
        wait_for(lambda: not alive(worker), "the worker to follow")
    finally:
        keeper.kill()
        keeper.wait()
