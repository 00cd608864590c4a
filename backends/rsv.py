"""Topology `rsv`: Ray Serve LLM as it ships (`ray.serve.llm.build_openai_app`).

    client ──HTTP──▶ HAProxy on the head ──HTTP──▶ Serve's proxy ──▶ ingress ──▶ LLM server (AsyncLLM)

Engine: vLLM, one per replica of Serve LLM's deployment `LLMServer`. Where it runs: Serve decides, and follows
the load if asked. How a request reaches it: through Serve's HTTP proxy into the ingress deployment, which
hands it by Serve's router to a replica and gets the tokens back through Ray, collected for 50 ms each time
(``--stream-batching-ms``). One application per model, each with its ingress, with the router of `rsc` in
front for the reasons it says there.

What is ours: the arguments and the environment of vLLM are those of `rvc` (so that what tells the two apart
is Serve), the applications' names and end, and no core reserved for the ingress. On the CPU Serve LLM has
vLLM compute in a process of its own behind the engine's, which `rvc` has not. A model's folder must be there
on every node. Serve LLM asks for no key: on a node of the cluster its proxy answers whoever reaches it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from backends.cluster.calls import as_start_failure
from backends.cluster.cluster import Node, ResourceShare, list_nodes
from backends.cluster.vllm_shares import shares_of
from backends.errors import UsageError
from backends.process.events import Steps
from backends.process.scratch_dir import OwnedTempDir
from backends.router.router import Router
from backends.serve import llm_app, running
from backends.serve.llm_fleet import REPORT_MS, LlmFleet
from backends.serve.model_app import App
from backends.serve.scaling import scaled
from backends.serve.serve import LLM_SERVER, free_port
from backends.settings import kv_events
from backends.settings.options import Options
from backends.settings.serve_llm import DIRECT

NAME = "rsv"
_DIRECT = (DIRECT, "RAY_SERVE_ENABLE_HA_PROXY")
# Serve's HAProxy: its files, which by default are the same for all clusters of a machine.
_FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}


_ONE_REPLICA = "replicas with the same arguments, which can't publish at one address; give --num-replicas 1"


class ServeLlm(running.ThroughProxies):
    """Serve LLM's engine and ingress."""

    name = NAME

    def __init__(self, options: Options) -> None:
        self._options = options
        self._checked: dict[str, llm_app.Checked] = {}
        self._published: dict[str, dict[str, str]] = {}  # by model: where it tells what it caches

    async def prepare(self, stack: AsyncExitStack) -> None:
        if self._options.ray_address is not None:
            return  # there they are not ours to say
        if self._options.vllm.kv_events:
            published = OwnedTempDir("rvtop-rkv-")
            stack.push_async_callback(asyncio.to_thread, published.close)
            self._published = {
                model.name: kv_events.sockets(published.path, f"{number}")
                for number, model in enumerate(self._options.models)
            }
        os.environ.setdefault("RAY_metrics_report_interval_ms", str(REPORT_MS))
        if self._options.serve_llm.direct_streaming:
            folder = OwnedTempDir("rvtop-rtr-")
            stack.push_async_callback(asyncio.to_thread, folder.close)
            os.environ.update(direct_environment(folder.path))

    def apps(self, run: str, paths: Mapping[str, str], nodes: Sequence[Node]) -> list[App]:
        options = self._options
        most = options.autoscale.max_replicas if options.autoscale else options.num_replicas
        shares = shares_of(replace(options, num_replicas=most), nodes)
        apps = running.apps_of(run, options, paths, shares, LLM_SERVER)
        several = next((app for app in apps if app.count > 1), None)
        if self._published and several is not None:
            raise UsageError(f"--kv-events: model {several.name} would have {several.count} {_ONE_REPLICA}")
        return apps

    async def bind(self, apps: Sequence[App], token: str, steps: Steps) -> dict[str, tuple[str | None, Any]]:
        options = self._options
        bound: dict[str, tuple[str | None, Any]] = {}
        with steps.step("import", "ray.serve.llm"):
            loading = asyncio.create_task(asyncio.to_thread(_import))
            try:
                for app in apps:
                    env = llm_app.environ(options, app.share)
                    published = self._published.get(app.name)
                    given = llm_app.arguments(options, app.share, app.path, published)
                    self._checked[app.name] = await _checked(given, app.share, options, env)
            finally:
                await loading
            for app in apps:
                env = llm_app.environ(options, app.share)
                checked = self._checked[app.name]
                config = llm_app.llm_config(options, app.share, app.path, app.count, checked, env)
                config["deployment_config"] = scaled(config["deployment_config"], app, options.autoscale)
                direct = options.serve_llm.direct_streaming
                bound[app.app] = (
                    app.prefix,
                    await asyncio.to_thread(
                        llm_app.application, config, direct, options.split.aliases_of(app.name)
                    ),
                )
        return bound

    def fleet(self, apps: Sequence[App], router: Router) -> LlmFleet:
        return LlmFleet(apps, router, self._checked, list_nodes, self._published, self._options.autoscale)

    def facts(self) -> dict[str, Any]:
        return {
            "index": None,
            "vllm": asdict(self._options.vllm),
            "serve_llm": asdict(self._options.serve_llm),
            "lora_dir": self._options.lora.path,
        }


async def start(options: Options, steps: Steps) -> running.ServeTopology:
    """Starts or joins a cluster and its Serve, and puts Serve LLM into it. Raises StartFailure,
    UsageError."""
    _refuse(options)
    return await running.start(options, steps, ServeLlm(options))


def direct_environment(folder: Path) -> dict[str, str]:
    """What makes Serve LLM stream past its ingress, for which it wants Serve's own HAProxy. ``folder`` is for
    that one's files."""
    return {
        **dict.fromkeys(_DIRECT, "1"),
        **{name: str(folder / file) for name, file in _FILES.items()},
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port("0.0.0.0")),
    }


def _refuse(options: Options) -> None:
    """Raises UsageError for what other topologies of Serve or vLLM take."""
    if options.serve.batch is not None:
        raise UsageError(
            f"--serve-batch {options.serve.batch}: vLLM batches by itself; leave it out (rsc takes it)"
        )
    if options.vllm.placement != "pack":
        raise UsageError(
            f"--placement {options.vllm.placement}: Serve places replicas itself; leave it out (rvc takes it)"
        )
    if options.vllm.kv_events and options.ray_address is not None:
        raise UsageError(
            "--kv-events: on a cluster that runs, Serve may put a replica on any node, and its events are "
            "for this machine alone; leave --ray-address out (rvc takes it)"
        )
    if options.vllm.kv_events and options.autoscale is not None and options.autoscale.max_replicas > 1:
        raise UsageError(f"--kv-events: --autoscale may start several {_ONE_REPLICA}")
    if options.serve_llm.direct_streaming and options.split.splits:
        raise UsageError(
            "--direct-streaming: past its ingress Serve LLM knows a model by one name only; leave it out, or "
            "--split"
        )
    if options.serve_llm.direct_streaming and options.lora.path is not None:
        raise UsageError(
            "--direct-streaming: past its ingress adapters are not known; leave it out, or --lora-dir"
        )
    if options.serve_llm.direct_streaming and options.ray_address is not None:
        raise UsageError(
            "--direct-streaming: Ray reads this when its nodes start; leave --ray-address out, or set "
            f"{_DIRECT[0]}=1 and {_DIRECT[1]}=1 where that cluster is started"
        )


async def _checked(
    given: Sequence[tuple[str, str]], share: ResourceShare, options: Options, env: Mapping[str, str]
) -> llm_app.Checked:
    """Asks vLLM in a process like those of its replicas, which ends again: on a GPU, if they have one."""
    import ray

    # One call: what vLLM loads for it goes with the process.
    task = ray.remote(max_calls=1)(llm_app.check).options(
        num_cpus=0,
        num_gpus=share.num_gpus / options.vllm.workers,
        runtime_env={"env_vars": dict(env)},
        max_retries=0,
    )
    with as_start_failure(NAME):
        checked: llm_app.Checked = await task.remote(given, share.num_gpus == 0)
    return checked


def _import() -> None:
    import ray.serve.llm  # noqa: F401
