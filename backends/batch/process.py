"""What an engine of a batch finds in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from backends.batch.options import BatchOptions
from backends.engines.vllm_environment import vllm_environment


def engine_environment(
    given: Mapping[str, str], options: BatchOptions, *, on_gpu: bool, folder: str | None
) -> dict[str, str]:
    """``given`` with what vLLM needs. ``folder`` is for its sockets and temporary files; None leaves those
    where they would be: another node has not ours."""
    threads = options.threads or max(1, len(os.sched_getaffinity(0)) // options.engines)
    environ = vllm_environment(
        given, options.vllm, folder=folder or "", cpu_threads=None if on_gpu else threads
    )
    if folder is None:
        for name in ("TMPDIR", "VLLM_RPC_BASE_PATH"):
            del environ[name]
    return environ
