"""The Serve config in a RayService, which ``serve deploy`` takes too: rsc by our own builder, rsv by
Ray's."""

from __future__ import annotations

import math
from typing import Any

from rvtop.deploy.k8s.objects import SERVE_PORT
from rvtop.deploy.k8s.options import Options
from rvtop.deploy.yaml_text import yaml_text

#: Builds one model's application; `backends` is in the same wheel as rvtop, and in every image of it.
RSC_IMPORT, RSV_IMPORT = "backends.serve.app:build", "ray.serve.llm:build_openai_app"
# Requests that one engine computes at once: Hugging Face a few, vLLM many.
_HF_CONCURRENCY, _VLLM_CONCURRENCY = 4, 256
#: How long a replica that is retired may take for the answers it has begun.
GRACE_S = 120


def serve_config(options: Options) -> str:
    """The text of ``serveConfigV2``."""
    application = _rsc(options) if options.topology == "rsc" else _rsv(options)
    if options.runtime_env:
        application["runtime_env"] = dict(options.runtime_env)
    return yaml_text(
        {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},
            "logging_config": {"enable_access_log": False},
            "applications": [application],
        }
    )


def engine_cpus(options: Options) -> int:
    """What a replica reserves of its pod's cores: Serve's proxy and Ray's own processes need the rest."""
    cores = float(options.cpus[:-1]) / 1000 if options.cpus.endswith("m") else float(options.cpus)
    return max(1, math.floor(cores) - 1)


def _rsc(options: Options) -> dict[str, Any]:
    cpus = engine_cpus(options)
    resources = {"num_cpus": cpus, "num_gpus": options.gpus}
    deployment = {
        "name": "hf",
        **_scale(options, _HF_CONCURRENCY),
        "ray_actor_options": resources,
        **({"user_config": dict(options.user_config)} if options.user_config else {}),
    }
    return {
        "name": options.name,
        "route_prefix": "/",
        "import_path": RSC_IMPORT,
        # The model is MODEL_ID of the pods.
        "args": {"concurrency": _HF_CONCURRENCY, "threads": cpus, **resources},
        "deployments": [deployment],
    }


def _rsv(options: Options) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": options.model, "model_source": options.source},
        "engine_kwargs": {
            **({"tensor_parallel_size": options.gpus} if options.gpus > 1 else {}),
            **options.engine_args,
        },
        # One bundle for each worker of the engine, all on one node.
        "placement_group_config": {
            "bundles": [{"GPU": 1, "CPU": 1}] * options.gpus or [{"CPU": engine_cpus(options)}],
            "strategy": "STRICT_PACK",
        },
        "deployment_config": _scale(options, _VLLM_CONCURRENCY),
        # Without this, tokens are collected for 50 ms before they are sent.
        "experimental_configs": {"stream_batching_interval_ms": 0},
    }
    return {
        "name": options.name,
        "route_prefix": "/",
        "import_path": RSV_IMPORT,
        "args": {
            "llm_configs": [config],
            "ingress_deployment_config": {
                "ray_actor_options": {"num_cpus": 0},
                "graceful_shutdown_timeout_s": GRACE_S,
            },
        },
    }


def _scale(options: Options, ongoing: int) -> dict[str, Any]:
    """Replicas follow the requests in flight: another one where each holds three quarters of what it can."""
    least, most = options.replicas
    return {
        "max_ongoing_requests": ongoing,
        "graceful_shutdown_timeout_s": GRACE_S,
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            "initial_replicas": least,
            "target_ongoing_requests": ongoing * 3 // 4,
            "upscale_delay_s": 10,
            "downscale_delay_s": 300,
        },
    }
