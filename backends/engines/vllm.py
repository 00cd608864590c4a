"""The vLLM engine: `AsyncLLM` (continuous batching, PagedAttention) behind the engine contract.

Built on what vLLM keeps stable over releases: `AsyncEngineArgs`, `AsyncLLM`, `SamplingParams` and its
Prometheus registry; checked with 0.29 and 0.32, and on an H200 with 0.24. One engine a process: vLLM's
metrics are global.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, replace
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.exposition import generate_latest

from backends.engines.protocol import (
    Adapter,
    Delta,
    EngineInfo,
    EngineState,
    Finish,
    GenerateRequest,
    Timings,
    TokenLogprobs,
)
from backends.engines.vllm_args import engine_config, made_of, one_line, refusals
from backends.engines.vllm_clients import ClientPlace, engine_knows, tell_of_requests
from backends.engines.vllm_page import relabelled
from backends.errors import EngineError, EngineRefusal, EngineUnavailable, StartFailure

log = logging.getLogger("backends.vllm")

WARM_UP_TOKENS = 8
HEALTH_PERIOD_S = 0.2
CLOSE_LIMIT_S = 4.0


class VllmEngine:
    """An `AsyncLLM` behind the engine contract. Made by :func:`load_engine`."""

    def __init__(
        self, llm: Any, info: EngineInfo, ended: Callable[[str], None] = lambda request_id: None
    ) -> None:
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        self._llm = llm
        self._info = info
        self._ended = ended
        self._params = SamplingParams
        self._delta_kind = RequestOutputKind.DELTA
        self._prompt = tokens_input  # the rendered kind, which skips a hop to a thread
        self._closed = False
        self._live: set[str] = set()

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> Any:
        """vLLM's own of the model."""
        return self._llm.get_tokenizer()

    @property
    def model_config(self) -> Any:
        return self._llm.model_config

    async def warm_up(self) -> None:
        """Generates a few tokens, greedy and sampled, so that no request pays for lazy set-up."""
        room = min(WARM_UP_TOKENS, self._info.max_model_len // 2)
        prompt = tuple(range(1, room + 1))
        for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            request = GenerateRequest(
                f"warm-up-{name}", prompt, room, temperature, top_p=0.9, ignore_eos=True
            )
            async with aclosing(self.generate(request)) as deltas:
                async for _ in deltas:
                    pass

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        if self._closed or self._llm.errored:
            raise EngineUnavailable(self._down())
        params = self._params(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop=list(request.stop),
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=request.ignore_eos,
            logprobs=request.logprobs,
            **(request.special or {}),
            output_kind=self._delta_kind,
        )
        began = time.monotonic()
        first = 0.0
        cached: int | None = None
        prompt = self._prompt(list(request.prompt_ids))
        adapter = None if request.adapter is None else _lora_request(request.adapter)
        outputs = self._llm.generate(
            prompt, params, request.request_id, lora_request=adapter, trace_headers=request.trace
        )
        self._live.add(request.request_id)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    first = first or time.monotonic()
                    part = output.outputs[0]
                    cached = _either(getattr(output, "num_cached_tokens", None), cached)
                    finish = None
                    if output.finished:
                        finish = self._finish(part, cached, _timings(output.metrics, began, first))
                    told = None if request.logprobs is None else _logprobs(part)
                    yield Delta(part.text, tuple(part.token_ids), finish, told)
        except EngineError:
            raise
        except Exception as error:  # vLLM's classes move between releases; what matters is if it still lives
            if self._closed or self._llm.errored:
                raise EngineUnavailable(self._down()) from error
            if not first and isinstance(error, refusals()):  # a tool's schema that it cannot follow
                raise EngineRefusal(one_line(error)) from error
            log.exception("generation %s failed", request.request_id)
            raise EngineError(f"generation failed: {type(error).__name__}: {error}") from error
        finally:
            self._live.discard(request.request_id)
            self._ended(request.request_id)

    async def add_adapter(self, adapter: Adapter) -> None:
        """Has the engine read an adapter: here, since one that it reads only to compute with it ends it if it
        can't be used (vllm-project/vllm pull 10546). Raises EngineRefusal, EngineUnavailable."""
        if self._closed or self._llm.errored:
            raise EngineUnavailable(self._down())
        try:
            await self._llm.add_lora(_lora_request(adapter))
        except Exception as error:
            if self._closed or self._llm.errored:
                raise EngineUnavailable(self._down()) from error
            raise EngineRefusal(one_line(error)) from error

    async def act(self, action: str) -> bool | None:
        """Follows one of ``api.control.ACTIONS``: whether it could. None: this engine has no prefix cache, or
        no profiler."""
        config = self._llm.vllm_config
        if action == "reset_prefix_cache":
            if not config.cache_config.enable_prefix_caching:
                return None
            return await self._llm.reset_prefix_cache() is not False  # older releases tell nothing
        if getattr(getattr(config, "profiler_config", None), "profiler", None) is None:
            return None  # asked all the same, its engine process would fail
        await (self._llm.start_profile() if action == "start_profile" else self._llm.stop_profile())
        return True

    async def cancel(self, request_id: str) -> None:
        await self._llm.abort(request_id)

    async def state(self) -> EngineState:
        return EngineState(
            status="stopped" if self._closed else "dead" if self._llm.errored else "ready",
            running=int(_gauge("vllm:num_requests_running")),
            waiting=int(_gauge("vllm:num_requests_waiting")),
        )

    async def died(self) -> str:
        """Returns when vLLM's engine process is gone or broken, with the reason in one line."""
        while True:
            if self._llm.errored:
                return "vLLM's engine process ended"
            await asyncio.sleep(HEALTH_PERIOD_S)

    def metrics_page(self) -> str:
        """vLLM's own series, with this engine's name in them: of all clients of the engine."""
        return relabelled(generate_latest(_registry()).decode(), self._info.engine)

    def lost(self) -> None:
        """The engine's process is gone, which only the client that started it can see. Readers get
        EngineUnavailable."""
        from vllm.v1.engine.exceptions import EngineDeadError

        self._llm.engine_core.resources.engine_dead = True
        self._llm.output_processor.propagate_error(EngineDeadError())

    async def abort(self, engines_ids: Sequence[str]) -> None:
        """Ends requests of another client, by the engine's ids for them (:func:`tell_of_requests`)."""
        if not self._llm.errored:
            await self._llm.engine_core.abort_requests_async(list(engines_ids))

    async def stop(self) -> None:
        """Ends all generations; their readers get EngineUnavailable."""
        self._closed = True
        await self._llm.abort(list(self._live))

    async def close(self) -> None:
        """Ends vLLM's processes, too; its owner kills what takes too long."""
        if not self._llm.errored:
            await self.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await asyncio.to_thread(self._llm.shutdown)

    def _finish(self, part: Any, cached: int | None, timings: Timings) -> Finish:
        if part.finish_reason in ("stop", "length"):
            return Finish(part.finish_reason, part.stop_reason, timings, cached)
        if self._closed or self._llm.errored:
            raise EngineUnavailable(self._down())
        raise EngineError("cancelled" if part.finish_reason == "abort" else f"vLLM: {part.finish_reason}")

    def _down(self) -> str:
        doing = "is stopping" if self._closed else "died and is restarting"
        return f"engine {self._info.engine} {doing}"


async def load_engine(
    arguments: Sequence[tuple[str, str]],
    *,
    engine: str,
    model: str,
    devices: tuple[str, ...],
    threads: int | None,
    node_id: str | None = None,
    places: Sequence[ClientPlace] = (),
    kv_events: Mapping[str, str] | None = None,
) -> VllmEngine:
    """Starts vLLM with arguments of its own parser: tens of seconds. No devices: on the CPU. ``places`` are
    for further clients of the engine, ``kv_events`` is where the arguments have it publish what it caches.

    Raises UsageError when vLLM refuses an argument, StartFailure when it does not come up; why may stand only
    in what its engine process printed.
    """

    def load() -> tuple[Any, EngineInfo]:
        with engine_knows(places):
            llm, config = _client(arguments, on_cpu=not devices)
        info = _info(config, engine, model, devices, threads, node_id)
        return llm, replace(info, kv_events=kv_events)

    return VllmEngine(*await asyncio.to_thread(load))


async def join_engine(
    arguments: Sequence[tuple[str, str]],
    place: ClientPlace,
    *,
    engine: str,
    model: str,
    devices: tuple[str, ...],
    threads: int | None,
    node_id: str | None,
    tell: Callable[[str, str], None],
    ended: Callable[[str], None],
) -> VllmEngine:
    """Becomes a further client of an engine that another process started with the same arguments, or starts
    just now. ``tell`` hears of each request before the engine does (our id and the engine's), ``ended`` when
    it is over. Raises as :func:`load_engine`."""
    llm, config = await asyncio.to_thread(_client, arguments, on_cpu=not devices, **place.arguments())
    tell_of_requests(llm, tell)
    return VllmEngine(llm, _info(config, engine, model, devices, threads, node_id), ended)


def _client(arguments: Sequence[tuple[str, str]], on_cpu: bool, **place: Any) -> tuple[Any, Any]:
    """vLLM's client of an engine, and its configuration. Starts the engine unless ``place`` is given."""
    args, config = engine_config(arguments, on_cpu=on_cpu)
    from vllm import envs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        llm = AsyncLLM.from_vllm_config(config, disable_log_stats=args.disable_log_stats, **place)
    except Exception as error:  # raised in another process, and pickled or not: its type says nothing
        raise StartFailure(f"vLLM did not start: {' '.join(str(error).split())[:300]}") from error
    envs.enable_envs_cache()  # vLLM looks into its environment at every token
    return llm, config


def _info(
    config: Any,
    engine: str,
    model: str,
    devices: tuple[str, ...],
    threads: int | None,
    node_id: str | None,
) -> EngineInfo:
    return EngineInfo(
        engine=engine,
        kind="vllm",
        model=model,
        node=socket.gethostname(),
        pid=os.getpid(),
        devices=devices or ("cpu",),
        **asdict(made_of(config)),
        threads=None if devices else threads,
        own_queue=True,
        node_id=node_id,
    )


def _lora_request(adapter: Adapter) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.key, adapter.number, adapter.path)


def _logprobs(part: Any) -> tuple[TokenLogprobs, ...]:
    """vLLM has the token itself first, then the likeliest."""
    return tuple(
        tuple((entry.decoded_token or "", float(entry.logprob)) for entry in _first(token, position))
        for token, position in zip(part.token_ids, part.logprobs or (), strict=False)
    )


def _first(token: int, position: Any) -> list[Any]:
    return [position[token], *(entry for other, entry in position.items() if other != token)]


def _timings(metrics: Any, began: float, first: float) -> Timings:
    """From the engine's own clock; from ours if vLLM has no such figures (``--engine-arg``
    disable_log_stats)."""
    if metrics is not None and getattr(metrics, "first_token_ts", None) and metrics.scheduled_ts:
        queued = metrics.scheduled_ts - metrics.queued_ts
        prefill = metrics.first_token_ts - metrics.scheduled_ts
        decode = metrics.last_token_ts - metrics.first_token_ts
    else:
        queued, prefill, decode = 0.0, first - began, time.monotonic() - first
    return Timings(*(max(0.0, seconds) * 1e3 for seconds in (queued, prefill, decode)))


def _gauge(name: str) -> float:
    """A gauge's sum over its series."""
    registry = _registry()
    metrics = (registry.restricted_registry([name]) if registry is REGISTRY else registry).collect()
    return sum(sample.value for metric in metrics if metric.name == name for sample in metric.samples)


def _registry() -> Any:
    """This process's metrics, or those of all clients of the engine where they share them."""
    from vllm.v1.metrics.prometheus import get_prometheus_registry

    return get_prometheus_registry()


def _either(new: int | None, old: int | None) -> int | None:
    return old if new is None else new
