"""One model as an application of Ray Serve LLM: our options -> its `LLMConfig` and what its builder takes.

Importing `ray.serve.llm` imports vLLM, which takes tens of seconds: only inside functions.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.cluster.cluster import ResourceShare
from backends.engines.vllm_args import (
    REQUEST_METRICS,
    Made,
    check_tool_parser,
    engine_config,
    made_of,
    wants_request_metrics,
)
from backends.engines.vllm_environment import vllm_environment
from backends.errors import StartFailure, UsageError
from backends.serve.deployment import deployment_config
from backends.settings import environment, kv_events
from backends.settings.engine import engine_arguments
from backends.settings.options import Options
from backends.settings.vllm import split_tools

ALIAS_INGRESS = "backends.serve.llm_alias:AliasIngress"
ADAPTER_INGRESS = "backends.serve.llm_adapters:AdapterIngress"
ADAPTER_SERVER = "backends.serve.llm_adapters:LLMServer"
ADAPTERS = "rvtop_adapters"  # `llm_adapters.KEY`, which can't be imported here
# Serve LLM says itself what is served under which name, and how vLLM starts workers on GPUs.
_NOT_OURS = frozenset({"model", "served-model-name", "distributed-executor-backend"})
# Each of several processes has its own.
_OF_ONE_PROCESS = ("TMPDIR", "VLLM_RPC_BASE_PATH")


@dataclass(frozen=True)
class Checked:
    """What vLLM makes of its arguments: ``kwargs`` are those of its engine, typed."""

    kwargs: dict[str, Any]
    made: Made


def arguments(
    options: Options, share: ResourceShare, path: str, published: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """vLLM's, as (name, value). ``published``: where it tells what it caches."""
    made = engine_arguments(options, path=path, model=share.model, gpu_share=share.num_gpus)
    return made if published is None else [*made, kv_events.argument(published)]


def check(given: Sequence[tuple[str, str]], on_cpu: bool) -> Checked:
    """Has vLLM read its arguments, on a node and in the environment of its replicas. Raises UsageError with
    vLLM's text when it refuses one, StartFailure when the model cannot be read."""
    given, parser = split_tools(given)
    args, config = engine_config(given, on_cpu=on_cpu)
    named = [name.replace("-", "_") for name, _ in given if name not in _NOT_OURS]
    kwargs = {name: getattr(args, name) for name in dict.fromkeys(named) if hasattr(args, name)}
    unknown = [name for name in named if not hasattr(args, name)]
    if unknown:
        raise UsageError(f"--engine-arg {unknown[0]}: Ray Serve LLM does not take it")
    if parser is not None:
        check_tool_parser(parser)
        kwargs |= {"tool_call_parser": parser, "enable_auto_tool_choice": True}
    if args.kv_events_config is not None:
        kwargs["kv_events_config"] = dataclasses.asdict(args.kv_events_config)  # as Serve LLM's own are
    if wants_request_metrics(given, _frontend_arguments()):
        kwargs[REQUEST_METRICS.replace("-", "_")] = True
    if args.kv_cache_memory_bytes is not None:
        kwargs["kv_cache_memory_bytes"] = args.kv_cache_memory_bytes
    return Checked(kwargs, made_of(config))


def _frontend_arguments() -> set[str]:
    """What Serve LLM hands to vLLM's front end, in the spelling of vLLM's flags; none where this release
    keeps it elsewhere."""
    try:
        from vllm.entrypoints.launchers.cli_args import FrontendArgs
    except ImportError:
        return set()
    return {field.name.replace("_", "-") for field in dataclasses.fields(FrontendArgs)}


def environ(options: Options, share: ResourceShare) -> dict[str, str]:
    """What replicas are to find in their environment: what every engine of vLLM has. It can be read by every
    user of the cluster, so no secret is in it."""
    made = vllm_environment(
        environment.public(os.environ),
        options.vllm,
        folder="",
        cpu_threads=None if share.num_gpus else share.threads,
    )
    return {name: value for name, value in made.items() if name not in _OF_ONE_PROCESS}


def llm_config(
    options: Options, share: ResourceShare, path: str, count: int, checked: Checked, env: Mapping[str, str]
) -> dict[str, Any]:
    """The fields of one model's `LLMConfig`. ``count`` replicas, unless they follow the load."""
    asked, batching = options.serve, options.serve_llm.stream_batching_ms
    further: dict[str, Any] = {} if batching is None else {"stream_batching_interval_ms": batching}
    # The bundle holds what an engine uses.
    resources = {"num_cpus": share.num_cpus if share.num_gpus else 0}
    group: dict[str, Any] = {"bundles": bundles(options, share)}
    if asked.strategy is not None:
        group["strategy"] = asked.strategy
    lora = _lora_config(options, share, path, checked, further)
    return lora | {
        "model_loading_config": {"model_id": share.model, "model_source": path},
        "engine_kwargs": dict(checked.kwargs),
        "placement_group_config": group,
        "deployment_config": deployment_config(options, resources, checked.made.concurrency, count),
        "runtime_env": {"env_vars": dict(env)},
        "experimental_configs": further,
    }


def _lora_config(
    options: Options, share: ResourceShare, path: str, checked: Checked, further: dict[str, Any]
) -> dict[str, Any]:
    """The fields for adapters of a model; where they are in a local folder, which Serve LLM itself can't load
    from, ``further`` gets what our server needs."""
    lora = options.lora
    if lora.path is None or lora.model != share.model:
        return {}
    if lora.is_remote:
        return {"lora_config": {"dynamic_lora_loading_path": lora.path}}
    further[ADAPTERS] = {"path": lora.path, "model": path, "rank": checked.made.max_lora_rank}
    return {"lora_config": {}, "server_cls": ADAPTER_SERVER}


def bundles(options: Options, share: ResourceShare) -> list[dict[str, float]]:
    """What an engine's workers reserve, one bundle each."""
    if not share.num_gpus:
        return [{"CPU": share.num_cpus}]
    workers = options.vllm.workers
    return [{"GPU": share.num_gpus / workers}] * workers


def ingress_config(engines: Mapping[str, Any]) -> dict[str, Any]:
    """What the ingress is asked for beside ``engines``. Answers stream through it, so one that is retired or
    replaced has as long to end them as an engine; Serve's own value cuts them after 20 s."""
    return {
        # On the head's own machine it would take a core from the engines.
        "ray_actor_options": {"num_cpus": 0},
        "graceful_shutdown_timeout_s": engines["graceful_shutdown_timeout_s"],
        "graceful_shutdown_wait_loop_s": engines["graceful_shutdown_wait_loop_s"],
        "logging_config": {"enable_access_log": False},
    }


def application(config: Mapping[str, Any], direct: bool, aliases: Sequence[str] = ()) -> Any:
    """The Serve application of one model, which has ``aliases`` too. Raises StartFailure when Serve LLM
    refuses it."""
    from ray.serve.llm import LLMConfig, build_openai_app

    try:
        args: dict[str, Any] = {"llm_configs": [LLMConfig(**config)]}
        if not direct:  # then there is no ingress
            args["ingress_deployment_config"] = ingress_config(config["deployment_config"])
        adapters = config["experimental_configs"].get(ADAPTERS)
        if aliases or adapters:
            more: dict[str, Any] = {"aliases": [*aliases]} | ({"adapters": adapters} if adapters else {})
            ingress = {"ingress_cls": ADAPTER_INGRESS if adapters else ALIAS_INGRESS}
            args["ingress_cls_config"] = {**ingress, "ingress_extra_kwargs": more}
        return build_openai_app(args)
    except ValueError as error:  # pydantic's too
        raise StartFailure(f"Ray Serve LLM: {' '.join(str(error).split())[:300]}") from error
