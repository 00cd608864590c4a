"""The Hugging Face engine: `generate` in threads, one thread per running request.

It answers ``concurrency`` requests at once (by default 1) and everything else waits: there is no
batching across requests, which is exactly what vLLM's engine is compared with. (A caller that
collects requests, as Ray Serve's `@serve.batch` does, may hand them over together: see ``batcher``.)
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor
from transformers.utils import logging as transformers_logging

from backends.engines.hf_stream import (
    GREEDY_BELOW,
    Distributions,
    PerSequence,
    SeededSampler,
    Sequence,
    Stopper,
    TokenStreamer,
    cache_bytes,
    left_padded,
)
from backends.engines.protocol import Delta, EngineInfo, EngineState, GenerateRequest
from backends.errors import EngineError, EngineUnavailable, StartFailure, UsageError
from backends.models.load import ModelError, load_model
from backends.settings.accelerators import CPU, torch_platform

log = logging.getLogger("backends.hf")

WARM_UP_TOKENS = 8
MAX_LOGPROBS = 20  # as vLLM's default


# Takes a sequence and has it computed, alone or with others, by :meth:`HfEngine.compute`.
Batcher = Callable[[Sequence], None]


class HfEngine:
    """A model of Transformers behind the engine contract. Made by :func:`load_engine`. ``decode`` leaves out
    special tokens; ``spell`` is the text of any one token, special ones included.

    ``batcher`` may be set before the first request: it decides what is computed together.
    """

    batcher: Batcher | None = None

    def __init__(
        self,
        model: Any,
        decode: Callable[[list[int]], str],
        info: EngineInfo,
        *,
        eos_id: int | None,
        seed: int,
        spell: Callable[[int], str] | None = None,
    ) -> None:
        self._model = model
        self._decode = decode
        self._spell = spell or (lambda token: decode([token]))
        self._info = info
        self._eos_id = eos_id
        self._eos_ids = _end_tokens(model.generation_config.eos_token_id, eos_id)
        # What the folder's generation_config.json says (sampling defaults, penalties) must not mix into what
        # the request says, or engines would answer the same request differently.
        pad = model.generation_config.pad_token_id
        self._pad_id = pad if isinstance(pad, int) else (eos_id if eos_id is not None else 0)
        model.generation_config = GenerationConfig(pad_token_id=self._pad_id)
        self._seeds = random.Random(seed)
        self._threads = ThreadPoolExecutor(info.concurrency, thread_name_prefix=info.engine)
        self._lock = threading.Lock()  # guards the maps below, which have a key per request
        self._live: dict[str, Sequence] = {}
        self._running: dict[str, DynamicCache] = {}
        self._kv_bytes_per_token = 0.0
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        return self._info

    def warm_up(self) -> None:
        """Generates a few tokens, so that the first request does not pay for lazy set-up, and measures what
        a token takes in the KV cache (for :attr:`EngineState.kv_capacity_bytes`)."""
        room = min(WARM_UP_TOKENS, self._info.max_model_len // 2)
        request = GenerateRequest("warm-up", (self._pad_id,) * room, max_tokens=room, ignore_eos=True)
        cache = self._new_cache()
        self._generate([self._sequence(request, emit=lambda item: None)], cache)
        self._kv_bytes_per_token = cache_bytes(cache) / max(cache.get_seq_length(), 1)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        if self._closed:
            raise EngineUnavailable(f"engine {self._info.engine} is stopping")
        loop = asyncio.get_running_loop()
        deltas: asyncio.Queue[Delta | EngineError] = asyncio.Queue()
        sequence = self._sequence(request, emit=lambda item: _post(loop, deltas, item))
        with self._lock:
            if request.request_id in self._live:
                raise EngineError(f"request id {request.request_id} is already running")
            self._live[request.request_id] = sequence
        sequence.done.add_done_callback(lambda _: self._forget(request.request_id))
        try:
            if self.batcher is None:
                self._threads.submit(self.compute, [sequence])
            else:
                self.batcher(sequence)
            while True:
                item = await deltas.get()
                if isinstance(item, EngineError):
                    raise item
                yield item
                if item.finish is not None:
                    return
        finally:
            sequence.cancel()
            with self._lock:
                waits = request.request_id not in self._running
            if waits:
                sequence.end()
            await _wait_done(sequence.done)

    async def cancel(self, request_id: str) -> None:
        with self._lock:
            sequence = self._live.get(request_id)
        if sequence is not None:
            sequence.cancel()

    async def state(self) -> EngineState:
        with self._lock:
            live, running = len(self._live), len(self._running)
            caches = {id(cache): cache for cache in self._running.values()}  # a batch shares one
        capacity = self._info.concurrency * self._info.max_model_len * self._kv_bytes_per_token
        device = self._model.device if self._model.device.type != CPU else None
        return EngineState(
            status="stopped" if self._closed else "ready",
            running=running,
            waiting=live - running,
            kv_bytes=sum(map(cache_bytes, caches.values())),
            kv_capacity_bytes=int(capacity) or None,
            allocated_bytes=None if device is None else torch.accelerator.memory_allocated(device),
            reserved_bytes=None if device is None else torch.accelerator.memory_reserved(device),
        )

    async def close(self) -> None:
        self._closed = True
        with self._lock:
            live = list(self._live.values())
        for sequence in live:
            sequence.cancel(EngineUnavailable("the engine is stopping"))
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=False)

    # -- in the generating threads ---------------------------------------------------------------------

    def compute(self, sequences: list[Sequence]) -> None:
        """Generates sequences together, each until its own end. Blocking; never raises."""
        cache = self._new_cache()
        with self._lock:
            wanted = [sequence for sequence in sequences if not sequence.cancelled]
            self._running.update((sequence.request.request_id, cache) for sequence in wanted)
        error: EngineError | None = None
        try:
            for sequence in wanted:
                sequence.begin()
            if wanted:
                self._generate(wanted, cache)
        except Exception as failure:
            log.exception("generation failed: %s", ", ".join(s.request.request_id for s in wanted))
            error = EngineError(f"generation failed: {type(failure).__name__}: {failure}")
        for sequence in sequences:
            sequence.end(error)

    async def compute_together(self, sequences: list[Sequence]) -> None:
        """:meth:`compute`, in a thread of the engine; for a ``batcher``."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self.compute, sequences)

    def _generate(self, sequences: list[Sequence], cache: DynamicCache) -> None:
        requests, model = [sequence.request for sequence in sequences], self._model
        prompts, mask = left_padded([r.prompt_ids for r in requests], self._pad_id, model.device)
        samplers = [self._sampler(request) for request in requests]
        processors: list[LogitsProcessor] = [PerSequence(samplers)] if any(samplers) else []
        if any(request.logprobs is not None for request in requests):
            processors.insert(0, Distributions(sequences))
        with torch.inference_mode():
            model.generate(
                prompts,
                attention_mask=mask,
                # End tokens, stop strings and cancelling are the stopper's; greedy search takes what the
                # sampler left.
                generation_config=GenerationConfig(
                    max_new_tokens=max(request.max_tokens for request in requests),
                    do_sample=False,
                    pad_token_id=self._pad_id,
                ),
                past_key_values=cache,
                logits_processor=processors,
                stopping_criteria=[Stopper(sequences, model.device)],
                streamer=TokenStreamer(sequences),
            )

    def _sampler(self, request: GenerateRequest) -> SeededSampler | None:
        if request.temperature <= GREEDY_BELOW:
            return None
        seed = self._seeds.getrandbits(63) if request.seed is None else request.seed
        return SeededSampler(request.temperature, request.top_p, seed, self._model.device)

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.config)

    def _sequence(self, request: GenerateRequest, emit: Callable[[Delta | EngineError], None]) -> Sequence:
        return Sequence(
            request,
            eos_ids=self._eos_ids,
            eos_id=self._eos_id,
            decode=self._decode,
            spell=self._spell,
            emit=emit,
        )

    def _forget(self, request_id: str) -> None:
        with self._lock:
            self._live.pop(request_id, None)
            self._running.pop(request_id, None)


def load_engine(
    path: str | Path,
    *,
    engine: str,
    model_name: str,
    dtype: str = "auto",
    concurrency: int = 1,
    max_model_len: int | None = None,
    seed: int = 0,
    device: str | None = None,
    trust_remote_code: bool = False,
    node_id: str | None = None,
    device_names: tuple[str, ...] = (),
) -> HfEngine:
    """Loads a model folder (or Hub id) and its tokenizer. Blocking: seconds to minutes.

    ``dtype`` ``auto`` is the folder's own on a GPU and float32 on a CPU, where bfloat16 is slow or missing.
    ``device`` None is the first GPU, or the CPU without one. ``device_names`` are what people call it, where
    this process sees only its own GPU; ``node_id`` is Ray's.

    Raises UsageError when ``max_model_len`` is more than the model can, StartFailure when loading fails.
    """
    transformers_logging.set_verbosity_error()
    kind = torch_platform()
    device = device or (CPU if kind is None else f"{kind}:0")
    if dtype == "auto" and device == CPU:
        dtype = "float32"
    try:
        model, tokenizer = load_model(path, dtype, device, trust_remote_code)
    except ModelError as error:
        raise StartFailure(f"model {model_name}: {error}") from error
    except torch.OutOfMemoryError as error:
        raise StartFailure(f"model {model_name} does not fit into {device}: {_first_line(error)}") from error
    info = EngineInfo(
        engine=engine,
        kind="hf",
        model=model_name,
        node=socket.gethostname(),
        pid=os.getpid(),
        devices=device_names or (device,),
        dtype=str(model.dtype).removeprefix("torch."),
        concurrency=concurrency,
        max_model_len=context_length(model.config, max_model_len),
        threads=torch.get_num_threads() if device == CPU else None,
        node_id=node_id,
        max_logprobs=MAX_LOGPROBS,
    )
    return HfEngine(
        model,
        decoder_of(tokenizer),
        info,
        eos_id=_one_id(tokenizer.eos_token_id),
        seed=seed,
        spell=lambda token: str(tokenizer.decode([token])),
    )


def decoder_of(tokenizer: Any) -> Callable[[list[int]], str]:
    """``ids -> text`` without special tokens and without Transformers' clean-up of spaces."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # straight to the Rust tokenizer: a few microseconds a token
        return lambda ids: backend.decode(ids, skip_special_tokens=True)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def context_length(config: Any, wanted: int | None) -> int:
    """``max_model_len`` in tokens: what was asked, or all the model's positions. Raises UsageError."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if positions is None:
        return wanted or 4096
    if wanted is not None and wanted > positions:
        raise UsageError(f"--max-model-len {wanted} is more than the model's {positions} positions")
    return wanted or int(positions)


def _one_id(token: Any) -> int | None:
    return token if isinstance(token, int) else None


def _end_tokens(configured: int | list[int] | None, eos_id: int | None) -> frozenset[int]:
    ids = [configured] if isinstance(configured, int) else list(configured or ())
    return frozenset(itertools.chain(ids, () if eos_id is None else (eos_id,)))


def _post(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any], item: Any) -> None:
    """Puts into an asyncio queue from another thread. A loop that is closed has no reader left."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, item)


async def _wait_done(work: Future[None]) -> None:
    """Waits until the generating thread has stopped (one decode step), so that the engine counts as busy
    until it is free in truth. A second cancellation of the waiting task ends the wait, not the work."""
    await asyncio.wait([asyncio.wrap_future(work)])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
