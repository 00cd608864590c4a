"""vLLM's own parser and configuration: what it refuses comes back as its own message, on one line.

Imports vLLM, which takes seconds: only inside an engine's process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from backends.errors import StartFailure, UsageError
from backends.settings.vllm import names

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
# On the CPU vLLM has to be given the memory of keys and values: room for this many full contexts …
CPU_KV_CONTEXTS = 64
# … but no more than this.
CPU_KV_BYTES = 2**30
# An argument of vLLM's server (0.29): the last chunk of an answer has the times of its request.
REQUEST_METRICS = "enable-per-request-metrics"
_CPU_KV_SETTINGS = {"kv-cache-memory-bytes", "gpu-memory-utilization", "num-gpu-blocks-override"}


def engine_config(arguments: Iterable[tuple[str, str]], on_cpu: bool, parser: Any = None) -> Any:
    """``AsyncEngineArgs`` and the ``VllmConfig`` that vLLM makes of them. ``parser`` knows the arguments; by
    default those of an engine alone. Raises UsageError with vLLM's text when it refuses an argument,
    StartFailure when the model cannot be read."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    arguments = list(arguments)
    if parser is None:
        parser = parser_of(AsyncEngineArgs.add_cli_args)
    parsed = parser.parse_args(argv_of(parser, arguments))
    # What vLLM's own server says it is: how much vLLM computes in a step by default depends on that (8192
    # tokens on a large GPU, 2048 for who says nothing).
    served = UsageContext.OPENAI_API_SERVER
    with _reported(parsed.model):
        args = AsyncEngineArgs.from_cli_args(parsed)
        config = args.create_engine_config(served)
    if on_cpu and not names(arguments) & _CPU_KV_SETTINGS and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        wanted = min(CPU_KV_BYTES, CPU_KV_CONTEXTS * config.model_config.max_model_len * _kv_bytes(config))
        args.kv_cache_memory_bytes = wanted
        with _reported(parsed.model):
            config = args.create_engine_config(served)
    return args, config


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that asks for something impossible; its own class came with 0.29."""
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:
        return (ValueError,)
    return (ValueError, VLLMClientError)


def check_tool_parser(name: str) -> None:
    """Raises UsageError for a parser of tool calls that vLLM does not know, StartFailure where this vLLM has
    no such parsers."""
    try:
        from vllm.parser import ParserManager  # noqa: F401
        from vllm.tool_parsers import ToolParserManager
    except ImportError as error:
        raise StartFailure(f"this vLLM has no parsers of tool calls: {error}") from error
    known = sorted(ToolParserManager.list_registered())
    if name not in known:
        raise UsageError(f"--engine-arg tool-call-parser={name}: vLLM knows {', '.join(known)}")


def wants_request_metrics(given: Sequence[tuple[str, str]], known: Container[str]) -> bool:
    """Whether a server is asked for the times of each request, which cost it some µs each
    (``tests.bench.request_metrics``): where its ``known`` arguments have it, unless those ``given`` decide
    it, or turn off the statistics that it is made of."""
    return REQUEST_METRICS in known and not names(given) & {REQUEST_METRICS, "disable-log-stats"}


@dataclass(frozen=True)
class Made:
    """What vLLM makes of its arguments."""

    dtype: str
    concurrency: int
    max_model_len: int
    max_logprobs: int = 20
    step_tokens: int | None = None
    quantization: str | None = None
    speculation: str | None = None
    max_loras: int | None = None
    max_lora_rank: int | None = None


def made_of(config: Any) -> Made:
    """Of a ``VllmConfig``."""
    ahead, adapters = config.speculative_config, config.lora_config
    return Made(
        dtype=str(config.model_config.dtype).removeprefix("torch."),
        concurrency=int(config.scheduler_config.max_num_seqs),
        max_model_len=int(config.model_config.max_model_len),
        max_logprobs=int(config.model_config.max_logprobs),
        step_tokens=int(config.scheduler_config.max_num_batched_tokens),
        quantization=config.model_config.quantization,
        speculation=f"{ahead.method} {ahead.num_speculative_tokens}" if ahead is not None else None,
        max_loras=adapters.max_loras if adapters is not None else None,
        max_lora_rank=adapters.max_lora_rank if adapters is not None else None,
    )


def one_line(error: BaseException) -> str:
    """An error of vLLM in one line. Pydantic's validation errors begin and end with boilerplate."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    messages = [line.removeprefix("Value error, ") for line in lines if line.startswith("Value error, ")]
    text = " ".join(messages or lines) or type(error).__name__
    return text.partition(" [type=")[0][:600]


@contextmanager
def _reported(model: str) -> Iterator[None]:
    """vLLM's errors as StartFailure (the model cannot be read) or UsageError (an argument is refused)."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    # The Hub's client: no such repository, offline, a missing file; offline also a folder that is not there.
    except (OSError, HFValidationError) as error:
        raise StartFailure(f"cannot load the model {model}: {one_line(error)}") from error
    except (ValueError, TypeError, NotImplementedError, KeyError, AssertionError) as error:
        raise UsageError(f"vLLM: {one_line(error)}") from error


def parser_of(add_arguments: Callable[[Any], Any]) -> Any:
    """vLLM's parser with the arguments that ``add_arguments`` gives it; it refuses by UsageError."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"vLLM: {' '.join(message.split())}")

    return add_arguments(Parser())


def argv_of(parser: Any, arguments: Iterable[tuple[str, str]]) -> list[str]:
    """``--name=value``; for switches ``--name`` or ``--no-name``."""
    argv = []
    for name, value in arguments:
        option = f"--{name.replace('_', '-')}"
        action = parser._option_string_actions.get(option)
        if action is None or action.nargs != 0:
            argv.append(f"{option}={value}")
        elif value.lower() in _TRUE:
            argv.append(option)
        elif value.lower() not in _FALSE:
            raise UsageError(f"vLLM: argument {option}: {value!r} is neither true nor false")
        elif (negative := f"--no-{option[2:]}") in parser._option_string_actions:
            argv.append(negative)
    return argv


def _kv_bytes(config: Any) -> int:
    """Bytes that a token's keys and values take, from the model's shape."""
    text = config.model_config.hf_text_config
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * int(text.num_hidden_layers) * int(heads) * int(size) * int(config.model_config.dtype.itemsize)
