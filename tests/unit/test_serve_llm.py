"""Ray Serve LLM as a topology: its options, what its builder is told, and what is read on a node's page."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backends import rsv
from backends.cluster.cluster import Node, ResourceShare
from backends.engines.vllm_args import Made
from backends.errors import UsageError, missing_package
from backends.process.events import Steps
from backends.serve import llm_app, serve
from backends.serve.llm_page import of_replicas
from backends.settings import serve_llm
from backends.settings.autoscale import Autoscale
from backends.settings.options import ModelSpec, Options
from backends.settings.serve import ServeOptions
from backends.settings.serve_llm import ServeLlmOptions
from backends.settings.vllm import VllmOptions
from rvtop.cli.engine_options import EngineOptions

CPU = ResourceShare("tiny", 2.0, 0.0, 1)
CHECKED = llm_app.Checked({"dtype": "float32", "seed": 0}, Made("float32", 256, 4096))
PAGE = """# HELP ray_vllm_num_requests_running Number of requests in model execution batches.
# TYPE ray_vllm_num_requests_running gauge
ray_vllm_num_requests_running{otel_scope_version="",ReplicaId="a1",engine="0",model_name="q,}"} 2.0
ray_vllm_num_requests_running{ReplicaId="b2",WorkerId="6f",engine="0",model_name="q,}"} 3.0
ray_vllm_num_requests_running{ReplicaId="theirs",WorkerId="7f",engine="0",model_name="q,}"} 9.0
# TYPE ray_vllm_generation_tokens counter
ray_vllm_generation_tokens_total{ReplicaId="a1",engine="1",model_name="q,}"} 77.0
# TYPE ray_vllm_time_to_first_token_seconds histogram
ray_vllm_time_to_first_token_seconds_bucket{ReplicaId="a1",engine="0",le="+Inf",model_name="q,}"} 5.0
ray_vllm_time_to_first_token_seconds_sum{ReplicaId="a1",engine="0",model_name="q,}"} 0.75
# TYPE ray_node_cpu_utilization gauge
ray_node_cpu_utilization{ReplicaId="a1"} 1.0
"""


def flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve_llm.add_arguments(parser)
    return parser.parse_args(argv)


def parsed(*argv: str) -> ServeLlmOptions:
    return serve_llm.from_args(flags(*argv))


@pytest.fixture
def options() -> Iterator[Options]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Options("rsv", (ModelSpec("tiny", "tiny"),), listener)


def test_options_and_what_of_them_cannot_be() -> None:
    assert parsed() == ServeLlmOptions(None, False)
    assert parsed("--stream-batching-ms", "0") == ServeLlmOptions(0.0, False)
    assert parsed("--direct-streaming") == ServeLlmOptions(None, True)
    for text in ("-1", "inf", "nan"):
        with pytest.raises(UsageError, match=f"--stream-batching-ms {text}: must be a number"):
            parsed("--stream-batching-ms", text)
    with pytest.raises(UsageError, match="--direct-streaming collects no tokens"):
        parsed("--direct-streaming", "--stream-batching-ms", "5")
    for argv in (("--stream-batching-ms", "0"), ("--direct-streaming",)):
        with pytest.raises(UsageError, match=r"is for Ray Serve LLM: topology rsc .*\(rsv does\)"):
            serve_llm.refuse_flags(flags(*argv), "rsc")
    serve_llm.refuse_flags(flags(), "rsc")


@pytest.mark.parametrize("constants", ["RAYLLM_HOME = 1\n", None])
def test_direct_streaming_is_refused_where_ray_has_none(
    constants: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ray" / "llm" / "_internal" / "serve"
    package.mkdir(parents=True)
    if constants is not None:
        (package / "constants.py").write_text(constants)
    ray = ModuleSpec("ray", None, origin=str(tmp_path / "ray" / "__init__.py"))
    monkeypatch.setattr(serve_llm, "find_spec", lambda name: ray if name == "ray" else None)
    with pytest.raises(UsageError, match="--direct-streaming: the Ray installed here cannot"):
        parsed("--direct-streaming")
    (package / "constants.py").write_text(f"{serve_llm.DIRECT} = False\n")
    assert parsed("--direct-streaming").direct_streaming


def test_rvtop_passes_them_on() -> None:
    assert EngineOptions().arguments() == []
    assert EngineOptions(stream_batching_ms=0.0).arguments() == ["--stream-batching-ms", "0"]
    assert EngineOptions(direct_streaming=True).arguments() == ["--direct-streaming"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"serve": ServeOptions(batch=4)}, "--serve-batch 4: vLLM batches by itself"),
        ({"vllm": VllmOptions(placement="spread")}, "--placement spread: Serve places"),
        (
            {"serve_llm": ServeLlmOptions(None, True), "ray_address": "auto"},
            "leave --ray-address out, or set RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING=1",
        ),
        ({"max_queue": 0}, "--max-queue 0"),
        ({"vllm": VllmOptions(kv_events=True), "ray_address": "auto"}, "Serve may put a replica on any node"),
        (
            {"vllm": VllmOptions(kv_events=True), "autoscale": Autoscale(1, 2)},
            "--kv-events: --autoscale may start several replicas",
        ),
    ],
)
async def test_what_it_cannot_do_is_said_before_anything_starts(
    options: Options, more: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
    with pytest.raises(UsageError) as raised:
        await rsv.start(replace(options, **more), Steps(lambda event, **fields: None))
    assert says in str(raised.value)


def test_a_package_that_is_missing_is_of_the_extra() -> None:
    error = ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
    assert missing_package(error) == "the package 'pyarrow' is not installed: pip install 'rvtop[llm]'"


def test_a_model_on_the_cpu(options: Options) -> None:
    config = llm_app.llm_config(options, CPU, "/m", 2, CHECKED, {"OMP_NUM_THREADS": "1"})
    assert config["model_loading_config"] == {"model_id": "tiny", "model_source": "/m"}
    assert config["engine_kwargs"] == CHECKED.kwargs
    assert config["placement_group_config"] == {"bundles": [{"CPU": 2.0}]}
    assert config["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": "1"}}
    assert config["experimental_configs"] == {}
    deployment = config["deployment_config"]
    assert deployment["num_replicas"] == 2
    assert "autoscaling_config" not in deployment
    # Serve LLM's own defaults are a billion each: then nothing queues and nothing follows the load.
    assert deployment["max_ongoing_requests"] == CHECKED.made.concurrency
    assert deployment["max_queued_requests"] == 1024
    assert deployment["ray_actor_options"] == {"num_cpus": 0}
    assert deployment["graceful_shutdown_timeout_s"] == 120.0


def test_what_serve_is_asked_for(options: Options) -> None:
    asked = replace(
        options,
        max_queue=None,
        autoscale=Autoscale(1, 3),
        serve=ServeOptions(max_ongoing=7, grace_s=5.0),
        serve_llm=ServeLlmOptions(0.0, False),
    )
    config = llm_app.llm_config(asked, CPU, "/m", 3, CHECKED, {})
    deployment = config["deployment_config"]
    assert deployment["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 7,
    }
    assert "num_replicas" not in deployment
    assert (deployment["max_ongoing_requests"], deployment["max_queued_requests"]) == (7, -1)
    assert deployment["graceful_shutdown_timeout_s"] == 5.0
    assert config["experimental_configs"] == {"stream_batching_interval_ms": 0.0}


def test_an_engine_on_several_gpus_has_a_bundle_for_each(options: Options) -> None:
    two = replace(options, vllm=VllmOptions(tensor_parallel=2))
    share = ResourceShare("tiny", 1.0, 2.0, 1)
    assert llm_app.bundles(two, share) == [{"GPU": 1.0}, {"GPU": 1.0}]
    assert llm_app.bundles(options, replace(share, num_gpus=0.25)) == [{"GPU": 0.25}]


def test_replicas_get_the_environment_of_every_engine_and_no_secret(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VLLM_MAX_MODEL_LEN", "77")
    env = llm_app.environ(options, CPU)
    assert (env["OMP_NUM_THREADS"], env["TORCHDYNAMO_DISABLE"], env["HF_HUB_OFFLINE"]) == ("1", "1", "1")
    assert not {"HF_TOKEN", "VLLM_MAX_MODEL_LEN", "TMPDIR", "VLLM_RPC_BASE_PATH"} & set(env)
    assert "OMP_NUM_THREADS" not in llm_app.environ(options, replace(CPU, num_gpus=1.0))


def test_an_application_per_model(options: Options) -> None:
    node = Node("n", "127.0.0.1", "host", 4.0, 0.0, 4.0, 0.0, None, True, None)
    both = replace(options, models=(ModelSpec("a", "x"), ModelSpec("b", "y")))
    apps = rsv.ServeLlm(replace(both, num_replicas=2)).apps("r1", {"a": "/x", "b": "/y"}, [node])
    assert [(app.app, app.prefix, app.name, app.path, app.count) for app in apps] == [
        ("rvtop-r1-0", "/rvtop-r1/0", "a", "/x", 2),
        ("rvtop-r1-1", "/rvtop-r1/1", "b", "/y", 2),
    ]
    assert {app.deployment for app in apps} == {serve.LLM_SERVER}
    follows = rsv.ServeLlm(replace(both, autoscale=Autoscale(1, 4))).apps(
        "r1", {"a": "/x", "b": "/y"}, [node]
    )
    assert [(app.count, app.fixed) for app in follows] == [(4, False), (4, False)]


def test_a_nodes_page_says_of_our_replicas_what_vllms_own_page_says() -> None:
    page = of_replicas(PAGE, {"a1": "vllm-0-a1", "b2": "vllm-0-b2"})
    samples = {
        (sample.name, sample.labels.get("engine")): (sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert samples["vllm:num_requests_running", "vllm-0-a1"] == (
        {"engine": "vllm-0-a1", "model_name": "q,}"},
        2.0,
    )
    assert samples["vllm:num_requests_running", "vllm-0-b2"][1] == 3.0
    assert samples["vllm:generation_tokens_total", "vllm-0-a1.1"][1] == 77.0
    assert samples["vllm:time_to_first_token_seconds_bucket", "vllm-0-a1"][0]["le"] == "+Inf"
    assert len(samples) == 4  # among them no sum of a histogram, which Ray makes up
    assert "# TYPE vllm:num_requests_running gauge" in page
    assert "ray_" not in page
    assert of_replicas("", {"a1": "x"}) == ""


def test_an_ingress_that_goes_has_as_long_to_end_its_answers_as_an_engine(options: Options) -> None:
    asked = replace(options, serve=replace(options.serve, grace_s=300.0, grace_poll_s=0.5))
    config = llm_app.llm_config(asked, CPU, "/models/tiny", 1, CHECKED, {})
    told = llm_app.ingress_config(config["deployment_config"])
    assert (told["graceful_shutdown_timeout_s"], told["graceful_shutdown_wait_loop_s"]) == (300.0, 0.5)


@pytest.mark.parametrize(
    ("left", "ended"),
    [([], True), (["SERVE_REPLICA::theirs#LLMServer:m#x"], False), (["SERVE_REPLICA::a#b#c"], True)],
)
def test_the_actor_that_serve_llm_leaves_behind_goes_with_the_last_application(
    monkeypatch: pytest.MonkeyPatch, left: list[str], ended: bool
) -> None:
    ray = pytest.importorskip("ray")
    from ray import serve as ray_serve

    killed: list[str] = []
    monkeypatch.setattr(serve, "running", lambda: True)
    monkeypatch.setattr(serve, "statuses", lambda names: {})
    monkeypatch.setattr(serve, "replicas", lambda app: [f"SERVE_REPLICA::{app}#LLMServer:m#y"])
    named = [{"name": name, "namespace": serve.NAMESPACE} for name in left]
    monkeypatch.setattr(ray.util, "list_named_actors", lambda all_namespaces: named)
    monkeypatch.setattr(ray, "get_actor", lambda name, namespace: name)
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(ray_serve, "delete", lambda name, _blocking: None)
    serve.end(["ours"], started=False)
    assert killed == (["llm_serve_telemetry"] if ended else [])
