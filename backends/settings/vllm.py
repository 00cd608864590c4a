"""vLLM's settings: flags and environment -> the argument line of its own parser. Stdlib only.

The environment names are the experiment's: VLLM_MAX_MODEL_LEN, VLLM_GPU_MEM_UTIL, VLLM_KV_CACHE_DTYPE and
VLLM_QUANT. A flag goes before its variable. What is in ``--engine-arg`` goes before both, and is checked by
vLLM alone.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backends.errors import UsageError
from backends.settings import kv_events

OUR_ENV = ("VLLM_MAX_MODEL_LEN", "VLLM_GPU_MEM_UTIL", "VLLM_KV_CACHE_DTYPE", "VLLM_QUANT")
PLACEMENTS = ("pack", "spread")
# vLLM's own default share of a GPU's memory, divided among the engines that share one.
GPU_MEMORY = 0.9

_KEY = re.compile(r"[A-Za-z][\w.+-]*")


@dataclass(frozen=True)
class VllmOptions:
    """What was asked of vLLM. None leaves vLLM's default, save ``eager``: on the CPU None means eager, for
    compiling takes longer than a local model ever gains. ``kv_events``: it publishes what it caches.
    ``extra`` are further arguments of vLLM's parser, as (name, value)."""

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    placement: str = "pack"
    gpu_memory_utilization: str | None = None
    kv_cache_dtype: str | None = None
    quantization: str | None = None
    eager: bool | None = None
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
    max_num_seqs: int | None = None
    load_format: str | None = None
    kv_events: bool = False
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def workers(self) -> int:
        """Processes that compute for an engine, each on a GPU of its own: every stage of the pipeline is
        split over as many as the tensors are."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def parallel_flags(self) -> str:
        """The flags that say so, for a message."""
        given = (("tensor", self.tensor_parallel), ("pipeline", self.pipeline_parallel))
        return " ".join(f"--{name}-parallel {size}" for name, size in given if size != 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own. None of them has a default, so that giving one shows."""
    add = parser.add_argument_group("vLLM (topologies rvc, rsv, vllm)").add_argument
    flag = argparse.BooleanOptionalAction
    add("--tensor-parallel", type=int, metavar="N", help="GPUs that share each layer of an engine")
    add(
        "--pipeline-parallel",
        type=int,
        metavar="N",
        help="stages of an engine's layers; each takes as many GPUs",
    )
    add("--placement", choices=PLACEMENTS, help="engines on few nodes or on many (default: pack)")
    add("--gpu-memory-utilization", metavar="F", help="share of a GPU's memory (or VLLM_GPU_MEM_UTIL)")
    add("--kv-cache-dtype", metavar="T", help="of keys and values (or VLLM_KV_CACHE_DTYPE)")
    add("--quantization", metavar="Q", help="how weights are quantised (or VLLM_QUANT)")
    add("--eager", action=flag, help="no compiling (default on the CPU)")
    add("--prefix-caching", action=flag, help="keep keys and values of prompt beginnings")
    add("--chunked-prefill", action=flag, help="prefill long prompts in pieces between decode steps")
    add("--max-num-seqs", type=int, metavar="N", help="sequences in one batch (or --engine-concurrency)")
    add("--load-format", metavar="F", help="for example `dummy`: random weights, no files but the config")
    add("--kv-events", action="store_const", const=True, help="tell what is cached, for rvtop's KV map")
    add("--engine-arg", action="append", metavar="K=V", help="any other engine argument of vLLM; repeatable")


def from_args(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> VllmOptions:
    """Options of parsed flags and the environment. Raises UsageError."""
    environ = os.environ if environ is None else environ
    given = {
        "tensor_parallel": args.tensor_parallel,
        "pipeline_parallel": args.pipeline_parallel,
        "placement": args.placement,
        "gpu_memory_utilization": args.gpu_memory_utilization or _set(environ, "VLLM_GPU_MEM_UTIL"),
        "kv_cache_dtype": args.kv_cache_dtype or _set(environ, "VLLM_KV_CACHE_DTYPE"),
        "quantization": args.quantization or _set(environ, "VLLM_QUANT"),
        "eager": args.eager,
        "prefix_caching": args.prefix_caching,
        "chunked_prefill": args.chunked_prefill,
        "max_num_seqs": args.max_num_seqs,
        "load_format": args.load_format,
        "kv_events": args.kv_events,
        "extra": tuple(_pair(text) for text in args.engine_arg or ()),
    }
    options = VllmOptions(**{name: value for name, value in given.items() if value is not None})
    for field in _SIZES:
        size = getattr(args, field)
        if size is None:
            options = _sized(options, field)
        elif size < 1:
            raise UsageError(f"--{field.replace('_', '-')} {size}: must be at least 1")
    kv_events.check(options.extra, options.kv_events)
    return options


#: Fields that say how many GPUs an engine takes.
_SIZES = ("tensor_parallel", "pipeline_parallel")


def _sized(options: VllmOptions, field: str) -> VllmOptions:
    """An engine argument that says how many GPUs an engine takes is ours as well: we reserve them."""
    for name, value in options.extra:
        if name.replace("-", "_") == f"{field}_size":
            if not value.isdecimal() or not int(value):
                raise UsageError(f"--engine-arg {field}_size={value}: must be a whole number of at least 1")
            size: dict[str, Any] = {field: int(value)}
            options = replace(options, **size)
    return options


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when a flag of vLLM is given to a topology without it."""
    names = [*VllmOptions.__dataclass_fields__, "engine_arg"]
    for name in names:
        if getattr(args, name, None) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} is for vLLM: topology {topology} does not run it (rvc, rsv and vllm do)"
            )


def engine_argv(
    options: VllmOptions,
    *,
    path: str,
    model: str,
    dtype: str,
    seed: int,
    max_model_len: int | None,
    concurrency: int | None,
    trust_remote_code: bool,
    gpu_share: float,
) -> list[tuple[str, str]]:
    """Arguments of vLLM's parser as (name, value); of two equal names the later counts. ``gpu_share`` is the
    GPUs that the engine has, or its part of one; 0 on the CPU."""
    on_cpu = gpu_share == 0
    memory = options.gpu_memory_utilization
    if memory is None and 0 < gpu_share < 1:
        memory = f"{GPU_MEMORY * gpu_share:.4f}"
    eager = True if options.eager is None and on_cpu else options.eager
    given: list[tuple[str, object]] = [
        ("model", path),
        ("served-model-name", model),
        # bfloat16 is slow or missing on CPUs, and all engines must choose alike.
        ("dtype", "float32" if dtype == "auto" and on_cpu else dtype),
        ("seed", seed),
        ("max-model-len", max_model_len),
        ("max-num-seqs", options.max_num_seqs or concurrency),
        ("tensor-parallel-size", options.tensor_parallel),
        ("pipeline-parallel-size", options.pipeline_parallel if options.pipeline_parallel > 1 else None),
        # In a Ray actor vLLM would take Ray for this, and look for a placement group made as its own: the
        # GPUs are all of our actor's node.
        ("distributed-executor-backend", "mp" if options.workers > 1 else None),
        ("gpu-memory-utilization", memory),
        ("kv-cache-dtype", options.kv_cache_dtype),
        ("quantization", options.quantization),
        ("enforce-eager", eager),
        ("enable-prefix-caching", options.prefix_caching),
        ("enable-chunked-prefill", options.chunked_prefill),
        ("load-format", options.load_format),
        ("trust-remote-code", trust_remote_code or None),
    ]
    lines = [(name, str(value)) for name, value in given if value is not None]
    return [*lines, *options.extra]


def split_tools(arguments: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], str | None]:
    """An engine's arguments without those of vLLM's own server for tool calls, and the name of the parser
    among them, which implies ``enable-auto-tool-choice``. Raises UsageError."""
    own = ("tool-call-parser", "enable-auto-tool-choice")
    found = {name: value for name, value in arguments if name in own}
    if "enable-auto-tool-choice" in found and "tool-call-parser" not in found:
        raise UsageError(
            "--engine-arg enable-auto-tool-choice needs a parser: --engine-arg tool-call-parser=NAME"
        )
    return [pair for pair in arguments if pair[0] not in own], found.get("tool-call-parser")


def names(arguments: Sequence[tuple[str, str]]) -> set[str]:
    """Names of arguments, in one spelling."""
    return {name.replace("_", "-") for name, _ in arguments}


def _set(environ: Mapping[str, str], name: str) -> str | None:
    """A variable's value; empty and ``none`` are how people leave one out."""
    text = environ.get(name, "").strip()
    return text if text.lower() not in ("", "none") else None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.lstrip("-")
    if not equals or not _KEY.fullmatch(name):
        raise UsageError(f"--engine-arg {text!r}: write NAME=VALUE, for example max_num_batched_tokens=4096")
    return name.replace("_", "-"), value
