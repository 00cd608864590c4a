"""How rsc and rvc end what they started, in which order, with fakes for the cluster, Serve and the router."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from backends import rsc, rvc
from backends.cluster.cluster import Node, ResourceShare
from backends.errors import StartFailure
from backends.process.events import Steps
from backends.router import membership
from backends.router import running as routed
from backends.serve import running
from backends.settings import autoscale
from backends.settings.options import ModelSpec, Options

NODE = Node("n", "127.0.0.1", "host", 2.0, 0.0, 2.0, 0.0, None, True, None)
STEPS = Steps(lambda event, **fields: None)


class Recorder:
    """Makes fakes that write down each call that ends something."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def note(self, name: str, result: Any = None) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return result

        return call

    def note_async(self, name: str, result: Any = None) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return result

        return call


async def nothing(*args: Any, **kwargs: Any) -> None:
    return None


async def fail(*args: Any, **kwargs: Any) -> None:
    raise StartFailure("no engine")


@pytest.fixture
def options() -> Iterator[Options]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Options("rsc", (ModelSpec("tiny", "tiny"),), listener)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Both topologies with somebody's cluster, and fakes for the router and the control endpoint."""
    recorder = Recorder()

    async def nodes() -> list[Node]:
        return [NODE]

    async def open_cluster(*args: Any) -> Any:
        close = recorder.note_async("cluster")
        return SimpleNamespace(ours=False, address="h:1", nodes=nodes, close=close, facts=nothing)

    def router(*args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(
            control=None,
            grpc_control=None,
            start=nothing,
            place=nothing,
            weigh=nothing,
            stop_listening=recorder.note("stop listening"),
            close=recorder.note_async("router"),
        )

    def http_server(**settings: Any) -> Any:
        control = recorder.note_async("control")
        return SimpleNamespace(start=nothing, serve=lambda *args: None, close=control)

    for module in (running, rvc):
        monkeypatch.setattr(module, "open_cluster", open_cluster)
        monkeypatch.setattr(module, "ClusterWatch", watch)
        monkeypatch.setattr(module, "Router", router)
    for module in (running, routed):
        monkeypatch.setattr(module, "HttpServer", http_server)
    monkeypatch.setattr(running, "resolve_step", nothing)
    monkeypatch.setattr(rvc, "resolve_or_refuse", nothing)
    return recorder


def watch(*args: Any, **settings: Any) -> Any:
    """One that sees nothing."""
    return SimpleNamespace(rows=dict, watching=contextlib.nullcontext, lost_all=asyncio.Event().wait)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    async def take(*args: Any) -> Any:
        return SimpleNamespace(release=recorder.note_async("lease"))

    fleet = SimpleNamespace(
        look=nothing,
        keep_looking=nothing,
        engine_rows=recorder.note_async("drain", []),
        up=lambda model: True,
    )
    monkeypatch.setattr(running.serve, "running", lambda: False)
    monkeypatch.setattr(running.serve, "start", lambda head, grpc: None)
    monkeypatch.setattr(running.serve, "proxies", lambda nodes: (("127.0.0.1", 1),))
    monkeypatch.setattr(running.serve, "end", recorder.note("serve"))
    monkeypatch.setattr(running, "ServeLease", SimpleNamespace(take=take))
    monkeypatch.setattr(rsc, "ServeFleet", lambda *args: fleet)
    monkeypatch.setattr(running, "warm_up", nothing)
    return recorder


async def test_rsc_takes_out_what_it_put_in_when_a_replica_fails(
    monkeypatch: pytest.MonkeyPatch, serve: Recorder, options: Options
) -> None:
    monkeypatch.setattr(running, "deploy", fail)
    with pytest.raises(StartFailure, match="no engine"):
        await rsc.start(options, STEPS)
    assert serve.calls == ["stop listening", "control", "router", "serve", "lease", "cluster"]


async def test_rsc_drains_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, serve: Recorder, options: Options
) -> None:
    monkeypatch.setattr(running, "deploy", nothing)
    started = await rsc.start(options, STEPS)
    assert serve.calls == []
    await started.close(5.0)
    assert serve.calls[:2] == ["stop listening", "drain"]
    ended = [call for call in serve.calls[2:] if call != "drain"]
    assert ended == ["stop listening", "control", "router", "serve", "lease", "cluster"]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    async def place(shares: Any, options: Any, steps: Any, stack: Any) -> None:
        stack.push_async_callback(recorder.note_async("placement group"))

    def fleet(members: Any, *args: Any) -> Any:
        return SimpleNamespace(
            members=members,
            list_models=lambda: None,
            set_up=lambda *args: None,
            up=lambda model: True,
            placed=nothing,
            engine_rows=nothing,
            close=recorder.note_async("engines"),
        )

    def replica(spec: Any, *args: Any) -> Any:
        return SimpleNamespace(engine=spec.engine, start=nothing, drain=recorder.note_async("drain"))

    monkeypatch.setattr(rvc, "_place", place)
    monkeypatch.setattr(rvc, "actor_options", lambda *args: {})
    monkeypatch.setattr(routed, "Fleet", fleet)
    monkeypatch.setattr(rvc, "Replica", replica)
    monkeypatch.setattr(membership, "restart_loop", nothing)
    return recorder


async def test_rvc_ends_its_engines_before_the_router_when_one_fails(
    monkeypatch: pytest.MonkeyPatch, engines: Recorder, options: Options
) -> None:
    monkeypatch.setattr(rvc, "Replica", lambda spec, *args: SimpleNamespace(start=fail))
    with pytest.raises(StartFailure, match="no engine"):
        await rvc.start(options, STEPS)
    expected = ["stop listening", "engines", "control", "router", "placement group", "cluster"]
    assert engines.calls == expected


@pytest.mark.parametrize(("grace_s", "drained"), [(5.0, ["drain"]), (0.0, [])])
async def test_rvc_drains_only_when_there_is_time(
    engines: Recorder, options: Options, grace_s: float, drained: list[str]
) -> None:
    running = await rvc.start(options, STEPS)
    await running.close(grace_s)
    ended = ["stop listening", "engines", "control", "router", "placement group", "cluster"]
    assert engines.calls == ["stop listening", *drained, *ended]


@pytest.mark.parametrize(("asked", "queue"), [("1:8", 64), ("min=1,max=8,initial=2", 32)])
def test_rvc_divides_the_queue_by_the_replicas_of_the_start(options: Options, asked: str, queue: int) -> None:
    shares = [ResourceShare("tiny", 1.0, 0.0, 1)] * 8
    options = replace(options, max_queue=64)
    for scale, expected in ((autoscale.parse(asked), queue), (None, 8)):
        first = rvc._first("tiny", shares, scale, None)
        spec = rvc._engine_spec(0, shares[0], first, options, "t", loopback=True, fronts=1)
        assert spec.queue == expected
