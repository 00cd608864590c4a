"""vLLM's settings: where they come from, and what vLLM's parser is told."""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from backends import rvc
from backends.engines.vllm_environment import vllm_environment
from backends.errors import UsageError
from backends.process.events import Steps
from backends.settings import kv_events, vllm
from backends.settings.auto_place import AutoPlace
from backends.settings.autoscale import Autoscale
from backends.settings.options import ModelSpec, Options
from backends.settings.vllm import VllmOptions, engine_argv


def parsed(*argv: str, environ: Mapping[str, str] | None = None) -> VllmOptions:
    return vllm.from_args(flags(*argv), environ or {})


def flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    vllm.add_arguments(parser)
    return parser.parse_args(argv)


def arguments(options: VllmOptions, gpu_share: float = 0, dtype: str = "auto") -> dict[str, str]:
    return dict(
        engine_argv(
            options,
            path="/m",
            model="q",
            dtype=dtype,
            seed=7,
            max_model_len=None,
            concurrency=None,
            trust_remote_code=False,
            gpu_share=gpu_share,
        )
    )


def test_nothing_given_is_vllms_default() -> None:
    assert parsed() == VllmOptions()
    assert arguments(parsed(), gpu_share=1) == {
        "model": "/m",
        "served-model-name": "q",
        "dtype": "auto",
        "seed": "7",
        "tensor-parallel-size": "1",
    }


def test_on_the_cpu_eager_float32() -> None:
    given = arguments(parsed())
    assert (given["enforce-eager"], given["dtype"]) == ("True", "float32")
    given = arguments(parsed("--no-eager"), dtype="bfloat16")
    assert (given["enforce-eager"], given["dtype"]) == ("False", "bfloat16")


ENVIRONMENT = {"VLLM_GPU_MEM_UTIL": "0.4", "VLLM_KV_CACHE_DTYPE": "fp8", "VLLM_QUANT": "awq"}


def test_the_environment_speaks_and_flags_speak_louder() -> None:
    from_env = arguments(parsed(environ=ENVIRONMENT), gpu_share=1)
    assert from_env["gpu-memory-utilization"] == "0.4"
    assert from_env["kv-cache-dtype"] == "fp8"
    assert from_env["quantization"] == "awq"
    argv = ("--gpu-memory-utilization", "0.8", "--kv-cache-dtype", "auto", "--quantization", "gptq")
    from_flags = arguments(parsed(*argv, environ=ENVIRONMENT), gpu_share=1)
    assert from_flags["gpu-memory-utilization"] == "0.8"
    assert from_flags["kv-cache-dtype"] == "auto"
    assert from_flags["quantization"] == "gptq"


@pytest.mark.parametrize("empty", ["", " ", "none", "None"])
def test_an_empty_variable_is_none(empty: str) -> None:
    assert parsed(environ=dict.fromkeys(ENVIRONMENT, empty)) == VllmOptions()


def test_every_switch_reaches_vllm() -> None:
    options = parsed(
        *(
            "--tensor-parallel",
            "2",
            "--placement",
            "spread",
            "--max-num-seqs",
            "12",
            "--load-format",
            "dummy",
        ),
        *(
            "--prefix-caching",
            "--no-chunked-prefill",
            "--eager",
            "--engine-arg",
            "max_num_batched_tokens=4096",
        ),
    )
    assert options.placement == "spread"
    given = arguments(options, gpu_share=2)
    wanted = {
        "tensor-parallel-size": "2",
        "max-num-seqs": "12",
        "load-format": "dummy",
        "enable-prefix-caching": "True",
        "enable-chunked-prefill": "False",
        "enforce-eager": "True",
        "max-num-batched-tokens": "4096",
    }
    assert wanted.items() <= given.items()


def test_engines_that_share_a_gpu_share_its_memory() -> None:
    assert arguments(parsed(), gpu_share=0.5)["gpu-memory-utilization"] == "0.4500"
    assert "gpu-memory-utilization" not in arguments(parsed(), gpu_share=2)
    asked = parsed("--gpu-memory-utilization", "0.3")
    assert arguments(asked, gpu_share=0.5)["gpu-memory-utilization"] == "0.3"


def test_an_engine_argument_has_the_last_word() -> None:
    options = parsed("--max-num-seqs", "8", "--engine-arg", "max-num-seqs=9", "--engine-arg=--seed=1")
    pairs = engine_argv(
        options,
        path="/m",
        model="q",
        dtype="auto",
        seed=7,
        max_model_len=99,
        concurrency=3,
        trust_remote_code=True,
        gpu_share=1,
    )
    assert [value for name, value in pairs if name == "max-num-seqs"] == ["8", "9"]
    assert dict(pairs)["seed"] == "1"
    assert dict(pairs)["max-model-len"] == "99"
    assert dict(pairs)["trust-remote-code"] == "True"


@pytest.mark.parametrize("bad", ["max_num_seqs", "=4", "a b=4", ""])
def test_a_bad_engine_argument_is_one_line(bad: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE") as error:
        parsed("--engine-arg", bad)
    assert "\n" not in str(error.value)


def test_tensor_parallel_must_be_a_number_of_gpus() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        parsed("--tensor-parallel", "0")


@pytest.mark.parametrize(
    "argv", [("--no-eager",), ("--engine-arg", "a=b"), ("--max-num-seqs", "1"), ("--placement", "pack")]
)
def test_other_topologies_refuse_them(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"{argv[0].replace('no-', '')}.*baseline"):
        vllm.refuse_flags(flags(*argv), "baseline")
    vllm.refuse_flags(flags(), "baseline")


def test_gpus_of_an_engine_may_be_said_as_an_engine_argument_too() -> None:
    """They are reserved as well, and vLLM's workers are processes of our actor's node."""
    for said in (parsed("--tensor-parallel", "2"), parsed("--engine-arg", "tensor_parallel_size=2")):
        assert said.tensor_parallel == 2
        told = arguments(said, gpu_share=2)
        assert told["tensor-parallel-size"] == "2"
        assert told["distributed-executor-backend"] == "mp"
    assert "distributed-executor-backend" not in arguments(parsed(), gpu_share=1)
    with pytest.raises(UsageError, match="must be a whole number"):
        parsed("--engine-arg", "tensor_parallel_size=two")


def test_what_is_cached_is_published_at_sockets_in_the_engine_s_folder() -> None:
    assert parsed("--kv-events").kv_events
    assert not parsed().kv_events
    places = kv_events.sockets("/tmp/rvtop-vls-1", "vllm-0")
    name, value = kv_events.argument(places)
    assert name == "kv-events-config"
    assert json.loads(value) == {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "ipc:///tmp/rvtop-vls-1/vllm-0.kv",
        "replay_endpoint": "ipc:///tmp/rvtop-vls-1/vllm-0.kv-replay",
    }
    assert kv_events.sockets("/tmp/rvtop-eng-1")["url"] == "ipc:///tmp/rvtop-eng-1/kv"
    with pytest.raises(UsageError, match="leave one of them out"):
        parsed("--kv-events", "--engine-arg", "kv_events_config={}")
    environ = vllm_environment({}, VllmOptions(kv_events=True), folder="/f", cpu_threads=None)
    assert environ["PYTHONHASHSEED"] == "0"


@pytest.mark.parametrize(
    ("flag", "more"),
    [("--autoscale", {"autoscale": Autoscale(1, 2)}), ("--auto-place", {"auto_place": AutoPlace()})],
)
async def test_rvc_refuses_engines_that_start_later_where_they_tell_what_they_cache(
    flag: str, more: dict[str, Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = Options("rvc", (ModelSpec("m", "m"),), listener, vllm=VllmOptions(kv_events=True), **more)
        with pytest.raises(UsageError, match=f"--kv-events: {flag} starts engines later"):
            await rvc.start(options, Steps(lambda event, **fields: None))


def test_the_tool_parser_is_no_argument_of_the_engine() -> None:
    plain = [("model", "m"), ("seed", "0")]
    assert vllm.split_tools(plain) == (plain, None)
    both = [*plain, ("tool-call-parser", "hermes"), ("enable-auto-tool-choice", "true")]
    assert vllm.split_tools(both) == (plain, "hermes")
    assert vllm.split_tools(both[:3]) == (plain, "hermes")
    with pytest.raises(UsageError, match="tool-call-parser=NAME"):
        vllm.split_tools(both[3:])
