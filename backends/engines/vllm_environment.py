"""What vLLM reads from the environment, mostly while it is imported. The same for every topology with vLLM,
so that what tells them apart is never this. Stdlib only."""

from __future__ import annotations

from collections.abc import Mapping

from backends.settings.vllm import OUR_ENV, VllmOptions


def vllm_environment(
    given: Mapping[str, str], options: VllmOptions, *, folder: str, cpu_threads: int | None
) -> dict[str, str]:
    """``given`` with what vLLM's processes of one engine need. ``folder`` is the engine's own, for its
    temporary files and sockets; ``cpu_threads`` None says that it computes on a GPU."""
    environ = {name: value for name, value in given.items() if name not in OUR_ENV}  # they are arguments
    environ["TMPDIR"] = environ["VLLM_RPC_BASE_PATH"] = folder
    environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if options.kv_events:
        # So that hashes of blocks mean the same in every engine (by default in newer releases).
        environ.setdefault("PYTHONHASHSEED", "0")
    if cpu_threads is None:
        return environ
    environ["OMP_NUM_THREADS"] = str(cpu_threads)
    if options.eager is not False:
        # Eager or not, the sampler compiles itself: ten seconds of the first sampled request.
        environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    # Left to itself vLLM pins every engine of a node to the same cores.
    environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if options.workers == 1:
        # Compute in the engine process instead of in one more behind it: one import less to wait for, no hop
        # per step, no idling in a spin. (vLLM forks that off to bind threads, which we do not.)
        environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    return environ
