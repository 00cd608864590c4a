"""What an engine is: something that turns prompt token ids into a stream of token deltas.

Every topology serves engines of this one shape, whether the engine lives in this process (Hugging Face),
behind a Ray actor or inside vLLM. Everything here is plain data and picklable, because deltas cross
processes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Adapter(NamedTuple):
    """A LoRA adapter that an engine has taken in. ``name`` is that of requests; ``key`` and ``number`` are
    the engine's, others for each version of its files; ``path`` is a folder that nobody changes."""

    name: str
    key: str
    number: int
    path: str


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One generation. The prompt already fits: ``len(prompt_ids) + max_tokens <= max_model_len``.

    ``temperature`` 0 means greedy. ``seed`` None means "any": the engine draws one. ``stop`` strings end the
    text before their first occurrence; ``stop_token_ids`` end it like an end token. ``ignore_eos`` goes on
    past end tokens (not past ``stop``), which is how a load test gets exact output lengths. ``logprobs`` asks
    for the log probability of each token and of so many of the likeliest. ``special`` are further sampling
    parameters of vLLM, from its own tool parsers. ``trace`` are headers by which an engine that makes spans
    makes them parts of its client's trace. ``adapter`` None: the model alone.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    special: Mapping[str, Any] | None = None
    trace: Mapping[str, str] | None = None
    adapter: Adapter | None = None


class Timings(NamedTuple):
    """Where a generation's time went inside the engine, in milliseconds.

    ``queue_ms``: handed over until computing began; ``prefill_ms``: until the first token existed;
    ``decode_ms``: from the first token to the last.
    """

    queue_ms: float
    prefill_ms: float
    decode_ms: float


class Finish(NamedTuple):
    """How a generation ended. ``reason`` is OpenAI's ``stop`` or ``length``; ``stop_reason`` is vLLM's: the
    stop string or the extra stop token id that ended it, None for the model's own end token.
    ``cached_tokens`` is how many prompt tokens a prefix cache supplied, None where there is no such cache."""

    reason: str
    stop_reason: str | int | None = None
    timings: Timings | None = None
    cached_tokens: int | None = None


# Of one token: (text, log probability) of itself, then of the likeliest, best first (itself left out).
TokenLogprobs = tuple[tuple[str, float], ...]


class Delta(NamedTuple):
    """What one step added. ``text`` may be empty while ``token_ids`` is not: a character can take three
    tokens, and half a character is never sent. End tokens are counted in ``token_ids`` and add no text.
    The last delta of a generation, and only that one, has ``finish``. ``logprobs`` has an entry a token where
    they were asked for."""

    text: str
    token_ids: tuple[int, ...]
    finish: Finish | None = None
    logprobs: tuple[TokenLogprobs, ...] | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What does not change while an engine lives.

    ``concurrency`` is how many generations run at once. ``own_queue`` says that the engine queues by itself
    (vLLM's scheduler): it is then given every admitted request at once. ``node_id`` is Ray's id of the node.
    ``max_logprobs`` is how many alternatives of a token it tells at most; -1: any number.
    ``step_tokens`` is how many tokens, of prompts and answers, a step of it computes at most.
    ``quantization`` of the weights and ``speculation`` (how, and tokens ahead) are None where there is none;
    ``max_loras`` is how many LoRA adapters a batch may hold, of at most ``max_lora_rank``.
    ``kv_events`` is where it publishes what it caches (``settings.kv_events.sockets``).
    """

    engine: str
    kind: str
    model: str
    node: str
    pid: int
    devices: tuple[str, ...]
    dtype: str
    concurrency: int
    max_model_len: int
    threads: int | None = None
    own_queue: bool = False
    node_id: str | None = None
    max_logprobs: int = 0
    kv_events: Mapping[str, str] | None = None
    step_tokens: int | None = None
    quantization: str | None = None
    speculation: str | None = None
    max_loras: int | None = None
    max_lora_rank: int | None = None


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine holds now. ``status`` is ``ready``, ``restarting``, ``unreachable``, ``dead`` or
    ``stopped``.

    ``kv_bytes`` are the key/value bytes of live sequences, ``kv_capacity_bytes`` what ``concurrency``
    sequences of ``max_model_len`` tokens would take. The allocator's bytes exist only on a CUDA device.
    """

    status: str
    running: int
    waiting: int
    kv_bytes: int | None = None
    kv_capacity_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


class Engine(Protocol):
    """A running engine."""

    @property
    def info(self) -> EngineInfo: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Deltas as they are made, ending with the one that has ``finish``. Closing the generator cancels the
        generation, which frees the engine within one decode step.

        Raises EngineUnavailable when the engine is stopping or gone, EngineError when this generation failed.
        """
        ...

    async def cancel(self, request_id: str) -> None:
        """Ends a generation from outside; unknown or finished ids are ignored. Its reader gets
        EngineError."""
        ...

    async def state(self) -> EngineState: ...

    async def close(self) -> None:
        """Ends all generations (their readers get EngineUnavailable) and frees what the engine holds."""
        ...
