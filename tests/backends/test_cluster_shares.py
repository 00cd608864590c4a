"""How a cluster is split over engines, and addresses that cannot be one."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.cluster import cluster
from backends.cluster.allocate import allocate
from backends.cluster.cluster import Node, describe, open_cluster
from backends.errors import StartFailure, UsageError
from backends.process.events import Steps


def node(number: int, cpus: float = 0.0, gpus: float = 0.0, name: str | None = None) -> Node:
    return Node(f"n{number}", "10.0.0.1", "host", cpus, gpus, cpus, gpus, name, number == 0, None)


def test_one_engine_per_gpu_dealt_to_the_models_in_turn() -> None:
    nodes = [node(0, 16, 4, "H200"), node(1, 16, 4, "H200")]
    shares = allocate(["q3b", "q15b"], nodes)
    assert [share.model for share in shares] == ["q3b", "q15b"] * 4
    assert {(share.num_gpus, share.num_cpus) for share in shares} == {(1.0, 1.0)}
    assert describe(nodes) == "2 nodes, 32 CPUs, 8 × H200"


def test_models_share_a_gpu_when_there_are_more_of_them() -> None:
    assert [share.num_gpus for share in allocate(["a", "b"], [node(0, 8, 1)])] == [0.5, 0.5]
    three = allocate(["a", "b", "c"], [node(0, 8, 2)])
    assert [share.num_gpus for share in three] == [0.5, 0.5, 0.5]
    assert [share.num_gpus for share in allocate(["a"], [node(0, 8, 1)], replicas=3)] == [0.3333] * 3


def test_without_gpus_one_engine_of_each_model_per_node() -> None:
    shares = allocate(["a"], [node(0, 4), node(1, 4)])
    assert [(share.num_cpus, share.num_gpus, share.threads) for share in shares] == [(4.0, 0.0, 4)] * 2
    two = allocate(["a", "b"], [node(0, 4)])
    assert [(share.model, share.num_cpus, share.threads) for share in two] == [("a", 2.0, 2), ("b", 2.0, 2)]
    assert allocate(["a"], [node(0, 4)], threads=1)[0].threads == 1


def test_nodes_that_have_nothing_free_are_no_place() -> None:
    busy = Node("n1", "10.0.0.2", "host", 8.0, 2.0, 0.0, 0.0, None, False, None)
    assert len(allocate(["a"], [node(0, 4), busy])) == 1
    with pytest.raises(StartFailure, match="nothing is free"):
        allocate(["a"], [busy])


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8)), min_size=1, max_size=5),
    st.none() | st.integers(1, 6),
)
def test_shares_fit_and_no_model_is_forgotten(
    models: int, sizes: list[tuple[int, int]], replicas: int | None
) -> None:
    names = [f"m{number}" for number in range(models)]
    nodes = [node(number, cpus, gpus) for number, (cpus, gpus) in enumerate(sizes)]
    if not any(cpus or gpus for cpus, gpus in sizes):
        with pytest.raises(StartFailure):
            allocate(names, nodes, replicas=replicas)
        return
    shares = allocate(names, nodes, replicas=replicas)
    counts = [sum(share.model == name for share in shares) for name in names]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1
    if replicas is not None:
        assert counts == [replicas] * models
    assert len({(share.num_cpus, share.num_gpus, share.threads) for share in shares}) == 1
    assert all(share.threads >= 1 for share in shares)
    gpus = sum(gpus for _, gpus in sizes)
    assert sum(share.num_gpus for share in shares) <= gpus + 1e-9
    # Ray takes whole numbers, or fractions of one.
    for amount in (shares[0].num_cpus, shares[0].num_gpus):
        assert amount == int(amount) or 0 < amount < 1
    if not gpus:
        per_node = -(-len(shares) // sum(cpus > 0 for cpus, _ in sizes))
        assert shares[0].num_cpus * per_node <= min(cpus for cpus, _ in sizes if cpus) + 1e-9


async def attach(address: str) -> None:
    options: Any = SimpleNamespace(ray_address=address)
    await open_cluster(options, Steps(lambda event, **fields: None))


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "10.0.0.1", "10.0.0.1:port", "http://x:1"])
async def test_what_is_no_address_is_bad_usage(address: str) -> None:
    with pytest.raises(UsageError, match="--ray-address") as error:
        await attach(address)
    assert "\n" not in str(error.value)


async def test_where_nothing_listens_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setattr(cluster, "CONNECT_LIMIT_S", 1.0)
    with pytest.raises(StartFailure, match=f"no Ray cluster answers at {address}"):
        await attach(address)
