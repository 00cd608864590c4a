"""The arguments of one vLLM engine, of the options of its topology. Stdlib only."""

from __future__ import annotations

from backends.settings.options import Options
from backends.settings.vllm import engine_argv

ON_CPU = "backends.engines.lora_worker.LeavesOutTheModel"


def engine_arguments(options: Options, *, path: str, model: str, gpu_share: float) -> list[tuple[str, str]]:
    """What :func:`backends.settings.vllm.engine_argv` makes of them for a model, alike in every topology."""
    arguments = engine_argv(
        options.vllm,
        path=path,
        model=model,
        dtype=options.dtype,
        seed=options.seed,
        max_model_len=options.max_model_len,
        concurrency=options.engine_concurrency,
        trust_remote_code=options.trust_remote_code,
        gpu_share=gpu_share,
    )
    if options.lora.path is not None and options.lora.model == model:
        ours = [("enable-lora", "true")]
        if not gpu_share:
            ours.append(("worker-extension-cls", ON_CPU))
        arguments = [*ours, *arguments]
    return arguments
