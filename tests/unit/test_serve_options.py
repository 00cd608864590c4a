"""Ray Serve's options: what they become in a deployment, and what is refused in one line."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from backends.cluster.cluster import Node, ResourceShare
from backends.engines.vllm_args import Made
from backends.errors import UsageError
from backends.serve import llm_app
from backends.serve.deployment import check_memory, deployment_config, placement_group
from backends.settings import serve
from backends.settings.options import ModelSpec, Options
from backends.settings.serve import GIB, ServeOptions

SAFE = ServeOptions(
    memory_gib=1.5,
    health_period_s=3.0,
    health_timeout_s=9.0,
    grace_s=40.0,
    grace_poll_s=0.5,
    strategy="SPREAD",
)
FLAGS = (
    *("--serve-memory", "1.5", "--serve-health-period", "3", "--serve-health-timeout", "9"),
    *("--serve-grace", "40", "--serve-grace-poll", "0.5", "--serve-strategy", "SPREAD"),
)


def flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture
def options() -> Iterator[Options]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Options("rsc", (ModelSpec("tiny", "tiny"),), listener)


def node(memory: float | None) -> Node:
    return Node("id", "10.0.0.1", "host", 2.0, 0.0, 2.0, 0.0, None, True, None, memory=memory)


def test_flags_become_options() -> None:
    assert serve.from_args(flags()) == ServeOptions()
    assert serve.from_args(flags(*FLAGS)) == SAFE


@pytest.mark.parametrize(
    ("argv", "refusal"),
    [
        (("--serve-memory", "0"), "--serve-memory 0: must be a number of GiB greater than 0"),
        (("--serve-memory", "nan"), "--serve-memory nan: must be"),
        (
            ("--serve-health-period", "0"),
            "--serve-health-period 0: must be a number of seconds greater than 0",
        ),
        (("--serve-health-timeout", "-1"), "--serve-health-timeout -1: must be"),
        (("--serve-grace-poll", "inf"), "--serve-grace-poll inf: must be"),
        (("--serve-strategy", "pack"), "--serve-strategy pack: must be one of PACK, SPREAD, STRICT_PACK"),
    ],
)
def test_what_can_not_be_is_refused(argv: tuple[str, ...], refusal: str) -> None:
    with pytest.raises(UsageError, match=refusal):
        serve.from_args(flags(*argv))


@pytest.mark.parametrize("flag", FLAGS[::2])
def test_topologies_without_serve_refuse_each(flag: str) -> None:
    value = FLAGS[FLAGS.index(flag) + 1]
    with pytest.raises(UsageError, match=rf"{flag} is for Ray Serve: topology rvc does not use it"):
        serve.refuse_flags(flags(flag, value), "rvc")


def test_a_deployment_is_asked_for_all_of_it(options: Options) -> None:
    made = deployment_config(replace(options, serve=SAFE), {"num_cpus": 2.0}, 4, 3)
    assert made["ray_actor_options"] == {"num_cpus": 2.0, "memory": 3 * GIB // 2}
    assert (made["health_check_period_s"], made["health_check_timeout_s"]) == (3.0, 9.0)
    assert (made["graceful_shutdown_timeout_s"], made["graceful_shutdown_wait_loop_s"]) == (40.0, 0.5)
    assert (made["num_replicas"], made["max_ongoing_requests"]) == (3, 4)
    assert "memory" not in deployment_config(options, {"num_cpus": 2.0}, 4, 3)["ray_actor_options"]


def test_serve_llm_gets_the_strategy_with_its_bundles(options: Options) -> None:
    share = ResourceShare("tiny", 2.0, 0.0, 1)
    checked = llm_app.Checked({}, Made("float32", 256, 4096))
    made = llm_app.llm_config(replace(options, serve=SAFE), share, "/m", 1, checked, {})
    assert made["placement_group_config"] == {"bundles": [{"CPU": 2.0}], "strategy": "SPREAD"}
    assert made["deployment_config"]["ray_actor_options"] == {"num_cpus": 0, "memory": 3 * GIB // 2}


def test_our_own_replica_has_a_group_of_one_bundle_where_a_strategy_is_asked_for(options: Options) -> None:
    resources = {"num_cpus": 2.0, "num_gpus": 0.0}
    assert placement_group(replace(options, serve=SAFE), resources) == {
        "placement_group_bundles": [{"CPU": 2.0, "memory": 3 * GIB // 2}],
        "placement_group_strategy": "SPREAD",
    }
    assert placement_group(options, resources) == {}
    spread = replace(options, serve=ServeOptions(strategy="SPREAD"))
    assert placement_group(spread, {"num_cpus": 0.0, "num_gpus": 0.0}) == {}  # Ray refuses an empty bundle


def test_more_memory_than_any_node_has_is_refused_before_serve_waits_for_it(options: Options) -> None:
    asked = replace(options, serve=ServeOptions(memory_gib=8.0))
    check_memory(asked, [node(4.0 * GIB), node(9.0 * GIB)])
    check_memory(asked, [node(None)])
    check_memory(options, [node(1.0)])
    with pytest.raises(
        UsageError, match=r"--serve-memory 8: Ray has 4\.0 GiB for replicas on its largest node"
    ):
        check_memory(asked, [node(4.0 * GIB), node(None)])
