"""What there is to share among models, of a cluster and what was asked for; and how it is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backends.cluster import placed_models as under_test
from backends.cluster.cluster import Node
from backends.cluster.placed_models import PlacedModels, placed_models, weights_of
from backends.cluster.places import bundle_of
from backends.errors import UsageError
from backends.process.events import Steps
from backends.settings import auto_place
from backends.settings.auto_place import AutoPlace
from backends.settings.options import Options
from backends.settings.vllm import VllmOptions

MODELS = ("a", "b")


def parsed(*argv: str) -> AutoPlace | None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-replicas", type=int)
    auto_place.add_arguments(parser)
    return auto_place.from_args(parser.parse_args(argv), MODELS)


def node(gpus: float = 0.0, cpus: float = 16.0, memory: float | None = None, name: str = "n") -> Node:
    return Node(name, "10.0.0.1", "host", cpus, gpus, cpus, gpus, None, True, None, memory)


def options(**more: Any) -> Options:
    models = tuple(SimpleNamespace(name=name) for name in MODELS)
    given = {"autoscale": None, "threads": None, "engine_concurrency": 4, "vllm": VllmOptions()} | more
    return cast("Options", SimpleNamespace(models=models, **given))


async def made(
    nodes: list[Node], asked: AutoPlace, events: list[dict[str, Any]] | None = None, **more: Any
) -> PlacedModels:
    steps = Steps(lambda event, **fields: None if events is None else events.append(fields))
    return await placed_models(options(**more), asked, nodes, dict.fromkeys(MODELS, "/nowhere"), steps)


def test_what_is_asked_for_is_read() -> None:
    assert parsed() is None
    assert parsed("--auto-place") == AutoPlace()
    given = ("--place-mix", "a=9,b=3", "--place-slo", "ttft_ms=500,tpot_ms=50", "--place-resource", "slot")
    assert parsed("--auto-place", *given) == AutoPlace({"a": 9.0, "b": 3.0}, 500.0, 50.0, "slot")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--place-mix", "a=1"], "--place-mix: needs --auto-place"),
        (["--auto-place", "--num-replicas", "2"], "--num-replicas: --auto-place says how many there are"),
        (["--auto-place", "--place-mix", "c=1"], "--place-mix 'c=1': write NAME=NUMBER with one of a, b"),
        (["--auto-place", "--place-mix", "a=none"], "--place-mix 'a=none': must be a number greater than 0"),
        (["--auto-place", "--place-mix", "a=0"], "--place-mix 'a=0': must be a number greater than 0"),
        (
            ["--auto-place", "--place-slo", "ttft=1"],
            "--place-slo 'ttft=1': write NAME=NUMBER with one of",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parsed(*argv)


def test_other_topologies_have_no_such_flag() -> None:
    parser = argparse.ArgumentParser()
    auto_place.add_arguments(parser)
    with pytest.raises(UsageError, match="--auto-place is for topology rvc: rac has the same engines"):
        auto_place.refuse_flags(parser.parse_args(["--auto-place"]), "rac")


async def test_each_gpu_is_a_slot_and_the_plan_is_told_as_a_step() -> None:
    events: list[dict[str, Any]] = []
    placed = await made([node(4.0), node(4.0)], AutoPlace({"a": 9.0, "b": 3.0}), events)
    assert placed.planner.plan.replicas == {"a": 6, "b": 2}
    assert [share.model for share in placed.shares] == ["a"] * 7 + ["b"] * 7, "any split that may come"
    assert {bundle_of(share)["GPU"] for share in placed.shares} == {1.0}
    told = [fields["detail"] for fields in events if fields["state"] == "done"]
    assert told[0].startswith("6 of 8 GPUs: expected 9 rps × 128 tokens, 10 ms a token; sustains ")
    assert [fields["name"] for fields in events if fields["state"] == "done"] == ["plan a", "plan b"]


async def test_an_engine_of_several_gpus_has_them_on_one_node() -> None:
    placed = await made([node(3.0), node(4.0)], AutoPlace(), vllm=VllmOptions(tensor_parallel=2))
    assert sum(placed.planner.plan.replicas.values()) == 3
    assert {share.num_gpus for share in placed.shares} == {2.0}


async def test_models_that_outnumber_the_gpus_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "gpu_bytes", lambda: 80e9)
    placed = await made([node(1.0)], AutoPlace({"a": 9.0, "b": 3.0}))
    assert placed.planner.plan.replicas == {"a": 1, "b": 1}
    assert [(share.model, share.num_gpus) for share in placed.shares] == [("a", 0.75), ("b", 0.25)]
    assert [one.memory for one in placed.planner.plan.models] == [60e9, 20e9]


async def test_units_of_a_resource_are_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    async def free(resource: str) -> dict[str, float]:
        return {"n": 8.0} if resource == "slot" else {}

    monkeypatch.setattr(under_test, "free_of", free)
    placed = await made([node(cpus=2.0)], AutoPlace(resource="slot"))
    assert placed.planner.plan.replicas == {"a": 4, "b": 4}
    assert bundle_of(placed.shares[0]) == {"CPU": 0.25, "slot": 1.0}
    with pytest.raises(UsageError, match="--place-resource seat: no node of the cluster has any of it free"):
        await made([node()], AutoPlace(resource="seat"))


async def test_cores_are_slots_and_memory_makes_a_model_take_several(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(3000))
    assert weights_of(str(tmp_path)) == 3000
    assert weights_of(str(tmp_path / "none")) is None
    steps = Steps(lambda event, **fields: None)
    paths = {"a": str(tmp_path), "b": "/nowhere"}
    placed = await placed_models(options(), AutoPlace(), [node(cpus=8.0, memory=16000.0)], paths, steps)
    assert [one.slots for one in placed.planner.plan.models] == [3, 1]
    assert bundle_of(placed.shares[0]) == {"CPU": 3.0}


async def test_what_does_not_fit_or_go_together_is_refused() -> None:
    with pytest.raises(UsageError, match="--auto-place: b finds no room: one replica of each model takes"):
        await made([node(cpus=1.0)], AutoPlace())
    with pytest.raises(UsageError, match="leave --autoscale out"):
        await made([node()], AutoPlace(), autoscale=object())
    with pytest.raises(UsageError, match="--placement spread: with --auto-place"):
        await made([node()], AutoPlace(), vllm=VllmOptions(placement="spread"))
