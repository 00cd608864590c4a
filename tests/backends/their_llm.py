"""Ray Serve LLM as its documentation starts it, with nothing of ours: a cluster with its dashboard and two
replicas of a model. Runs in a process of its own; prints one JSON line when it answers, and ends with stdin.

    python -m tests.backends.their_llm MODEL_FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from typing import Any

from backends.process.scratch_dir import OwnedTempDir

REPLICAS = 2
NAME = "tiny"


def main(model: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever Ray prints is no answer
    folder = OwnedTempDir("rvtop-theirs-")
    os.environ["RAY_TMPDIR"] = str(folder.path)
    os.environ.update(folder.env)  # whatever is left over carries it
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        _host(model, answers)
    finally:
        _end()
        folder.close()


def _end_with_stdin() -> None:
    """Whatever it is doing then."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _host(model: str, answers: Any) -> None:
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    ray.init(
        num_cpus=2 * REPLICAS + 1,  # a replica takes one beside that of its engine; the ingress has one
        object_store_memory=80 * 2**20,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        dashboard_port=_free_port(),
        configure_logging=False,
        log_to_driver=False,
    )
    port = _free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    config = LLMConfig(
        model_loading_config={"model_id": NAME, "model_source": model},
        engine_kwargs={"dtype": "float32", "enforce_eager": True, "max_model_len": 2048},
        placement_group_config={"bundles": [{"CPU": 1}]},
        deployment_config={"num_replicas": REPLICAS},
        runtime_env={
            "env_vars": {
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "HF_HUB_OFFLINE": "1",
            }
        },
    )
    ingress = {"num_replicas": 1, "autoscaling_config": None}
    serve.run(build_openai_app({"llm_configs": [config], "ingress_deployment_config": ingress}))
    told = {"url": f"http://127.0.0.1:{port}", "folder": os.environ["RAY_TMPDIR"]}
    print(json.dumps(told), file=answers)
    threading.Event().wait()


def _end() -> None:
    import ray

    ray.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(sys.argv[1])
