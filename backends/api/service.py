"""The path of a request through a backend: check, retrieve, render, admit, generate, answer.

One :class:`Service` stands behind every HTTP surface, whichever web framework carries it and wherever the
engines run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from backends.api import fields
from backends.api.admission import Admission
from backends.api.defaults import NO_DEFAULTS, Defaults
from backends.api.embeddings import Embeds, embed
from backends.api.logprobs import check_logprobs
from backends.api.merge import merged
from backends.api.metrics import Metrics
from backends.api.render import Renderer
from backends.api.request import INT64, Call, Completions, Endpoint, fit_max_tokens, parse_call
from backends.api.response import Answer, Choice, Part, collect, sse
from backends.api.tokens import detokenize, tokenize
from backends.api.tools import Tools, ToolUse
from backends.engines.adapters import Adapters
from backends.engines.protocol import Adapter, Delta, GenerateRequest
from backends.errors import (
    EngineError,
    EngineRefusal,
    EngineUnavailable,
    bad_request,
    internal,
    unavailable,
    unknown_model,
)

log = logging.getLogger("backends.api.service")

Generation = tuple[int, GenerateRequest]  # the choice's index, and what its engine is asked
Trace = Mapping[str, str]  # a request's headers by which its client's trace goes on


@dataclass
class ServedModel:
    """A model by the name that requests use, its tokenizer, and the engines that run it. ``tools`` None: its
    tool calls are not read; ``adapters`` are LoRA adapters of it, by whose names it is asked for too."""

    name: str
    path: str
    renderer: Renderer
    admission: Admission
    max_model_len: int
    tools: Tools | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    adapters: Adapters | None = None
    aliases: tuple[str, ...] = ()  # further names under which a router sends it requests


class Retrieval(Embeds, Protocol):
    """Server-side retrieval."""

    async def expand(
        self, messages: Sequence[dict[str, Any]], top_k: int, took: dict[str, float | None]
    ) -> list[dict[str, Any]]:
        """Messages with what was found for the last user message put in. Where it has stages, what each took
        goes into ``took`` (NAME_ms). Raises ApiError."""
        ...


@dataclass(slots=True)
class Reply:
    """An answer: ``body`` (JSON), or a ``stream`` of SSE bytes that its reader must close."""

    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None


class Answers(Protocol):
    """What an HTTP surface needs of a :class:`Service`."""

    async def answer(
        self,
        endpoint: Endpoint,
        body: bytes,
        trace: Trace | None = None,
        router_ms: float | None = None,
    ) -> Reply:
        """Answers one request. ``router_ms``: what it took from the router to here, where that is known.
        Raises ApiError."""
        ...


class Service:
    """Answers completions. ``metrics`` None where the engines have their own (vLLM)."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        *,
        metrics: Metrics | None = None,
        retrieval: Retrieval | None = None,
    ) -> None:
        self.models = {model.name: model for model in models}
        self._aliases = {alias: model for model in models for alias in model.aliases}
        self._metrics = metrics
        self._retrieval = retrieval
        self.defaults = NO_DEFAULTS
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        if metrics is not None:
            for model in models:
                for engine in model.admission.engines:
                    metrics.add_engine(engine.info)

    async def answer(
        self,
        endpoint: Endpoint,
        body: bytes,
        trace: Trace | None = None,
        router_ms: float | None = None,
    ) -> Reply:
        if endpoint in ("chat", "completions"):
            return await self._complete(endpoint, body, trace, router_ms)
        data = fields.json_object(body)
        if endpoint == "embeddings":
            return Reply(await embed(data, self._retrieval))
        model = self._model(fields.text(data, "model"))
        if endpoint == "tokenize":
            return Reply(await tokenize(data, model.renderer, model.max_model_len))
        return Reply(await detokenize(data, model.renderer))

    async def _complete(
        self, endpoint: Completions, body: bytes, trace: Trace | None, router_ms: float | None
    ) -> Reply:
        """Raises ApiError; a failure after the first token is an event in the stream.

        A stream is returned when its first token exists, so that whatever fails before has its own status.
        Cancelling this call, or closing the stream, frees the engine.
        """
        arrived = time.perf_counter()
        call = parse_call(endpoint, body, self.defaults)
        model = self._model(call.model)
        model.admission.check(call.generations)  # a full queue is refused before any work is done
        check_logprobs(call.logprobs, model.admission.engines)
        adapter = await self._adapter(model, call.model)
        use = _tool_use(call, model)
        before: dict[str, float | None] = {"router_ms": router_ms, "retrieve_ms": None}
        prompts = await self._prompts(call, model, use.described if use else (), before)
        request_id = f"{'chatcmpl' if endpoint == 'chat' else 'cmpl'}-{secrets.token_hex(8)}"
        choices = [
            Choice(index, prompt, use.reader(prompt) if use else None)
            for index, prompt in enumerate(prompt for prompt in prompts for _ in range(call.n))
        ]
        name = adapter.name if adapter else model.name
        answer = Answer(call, request_id, int(time.time()), name, choices, adapter)
        sources = [
            self._parts(model, answer, _generation(answer, choice, model, use, trace), arrived, before)
            for choice in choices
        ]
        parts = sources[0] if len(sources) == 1 else merged(sources)
        if not call.stream:
            async with aclosing(parts):
                return Reply(body=await collect(answer, parts))
        try:
            first = await anext(parts)
        except BaseException:
            await parts.aclose()
            raise
        return Reply(stream=sse(answer, parts, first))

    async def _prompts(
        self,
        call: Call,
        model: ServedModel,
        tools: Sequence[dict[str, Any]],
        took: dict[str, float | None],
    ) -> list[tuple[int, ...]]:
        """Token ids of each prompt. The milliseconds that retrieval took go into ``took``."""
        if call.messages is None:
            if call.rag_top_k is not None:
                raise bad_request(
                    "`rag` needs /v1/chat/completions: it looks up the last user message.", "rag"
                )
            assert call.prompts is not None
            return [await model.renderer.prompt(prompt) for prompt in call.prompts]
        messages: Sequence[dict[str, Any]] = call.messages
        if call.rag_top_k is not None:
            if self._retrieval is None:
                raise bad_request(
                    "This server has no index to retrieve from: start it with --index DIR.", "rag"
                )
            began = time.perf_counter()
            messages = await self._retrieval.expand(messages, call.rag_top_k, took)
            took["retrieve_ms"] = (time.perf_counter() - began) * 1e3
        return [await model.renderer.chat(messages, tools)]

    async def _parts(
        self,
        model: ServedModel,
        answer: Answer,
        generation: Generation,
        arrived: float,
        before: Mapping[str, float | None],
    ) -> AsyncGenerator[Part, None]:
        """Waits for an engine and generates a choice; engine errors become ApiErrors."""
        index, request = generation
        queued = time.perf_counter()
        slot = await model.admission.acquire()
        waited_ms = (time.perf_counter() - queued) * 1e3
        info = slot.engine.info
        record = self._metrics.request(info, arrived) if self._metrics else None
        outcome = "abort"
        self._enter()
        try:
            async with aclosing(slot.engine.generate(request)) as deltas:
                async for delta in deltas:
                    if delta.finish is not None:
                        outcome = delta.finish.reason
                        slot.release()  # the reader may be slow; the engine is free
                        if answer.call.timings:
                            answer.rvtop = _rvtop(info.engine, waited_ms, before, delta)
                    if record is not None:
                        record.delta(delta, len(request.prompt_ids), waited_ms)
                    yield index, delta
        except EngineUnavailable as error:
            outcome = "error"
            slot.mark_down()
            raise unavailable(str(error)) from error
        except EngineRefusal as error:
            outcome = "error"
            raise bad_request(str(error)) from error
        except EngineError as error:
            outcome = "error"
            raise internal(str(error)) from error
        except Exception as error:  # a bug, ours or the engine's: the client gets no details, the log does
            outcome = "error"
            log.exception("request %s failed", request.request_id)
            raise internal("Internal server error; the server's log has the reason.") from error
        finally:
            self._leave()
            slot.release()
            if record is not None and outcome in ("abort", "error"):
                record.ended(outcome)

    # -- what the control endpoint asks ----------------------------------------------------------------

    async def configure(self, defaults: Defaults) -> None:
        """Requests from now on get these."""
        self.defaults = defaults

    def ready(self) -> bool:
        """Whether every model has an engine that can answer."""
        return all(model.admission.ready for model in self.models.values())

    def restarts(self) -> int:
        """How often an engine came back."""
        admissions = [model.admission for model in self.models.values()]
        return sum(a.restarts(engine.info.engine) for a in admissions for engine in a.engines)

    async def engine_rows(self) -> list[dict[str, Any]]:
        """One mapping per engine: what it is and what it holds now."""
        rows = []
        for model in self.models.values():
            for engine in model.admission.engines:
                state = asdict(await engine.state())
                row = asdict(engine.info) | {"state": state.pop("status")} | state
                name = engine.info.engine
                counts = {
                    "in_flight": model.admission.in_flight(name),
                    "restarts": model.admission.restarts(name),
                }
                rows.append(row | counts)
        return rows

    async def metrics_page(self) -> str:
        """Prometheus text of this service's engines; empty where they have their own."""
        metrics = self._metrics
        if metrics is None:
            return ""
        for model in self.models.values():
            engines = model.admission.engines
            for engine in engines:
                state = await engine.state()
                metrics.set_state(engine.info, state)
                alone = model.admission.queued if len(engines) == 1 else 0
                metrics.set_waiting(engine.info.engine, model.name, state.waiting + alone)
            if len(engines) > 1:  # the queue in front of several engines belongs to none of them
                metrics.set_waiting("queue", model.name, model.admission.queued)
        return metrics.page()

    # -- the end -----------------------------------------------------------------------------------------

    def stop_admitting(self) -> None:
        """From now on new and waiting requests get 503; running ones go on."""
        for model in self.models.values():
            model.admission.close()

    async def drain(self, limit_s: float) -> bool:
        """Waits until nothing runs, ``limit_s`` seconds at most; whether that came true."""
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Ends running requests (their readers get an error) and frees engines and tokenizers."""
        self.stop_admitting()
        for model in self.models.values():
            for engine in model.admission.engines:
                await engine.close()
            model.renderer.close()

    # -- inside ------------------------------------------------------------------------------------------

    def _model(self, name: str | None) -> ServedModel:
        if name is None:  # as vLLM: the first model when none is named
            return next(iter(self.models.values()))
        found = self.models.get(name) or self._aliases.get(name)
        adapted = (model for model in self.models.values() if model.adapters and model.adapters.has(name))
        model = found or next(adapted, None)
        if model is None:
            raise unknown_model(name)
        return model

    async def _adapter(self, model: ServedModel, name: str | None) -> Adapter | None:
        """The adapter that a request for ``model`` names. Raises ApiError."""
        if model.adapters is None or name is None or name in self.models or name in self._aliases:
            return None
        return await model.adapters.ready(name)

    def _enter(self) -> None:
        self._active += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._active -= 1
        if self._active == 0:
            self._idle.set()


def _tool_use(call: Call, model: ServedModel) -> ToolUse | None:
    """Raises ApiError (400) for tools that nothing here would read out of the answer."""
    if not call.tools:
        return None
    if model.tools is None:
        raise bad_request(
            "`tools` are not supported by this server: topology rvc takes them when it is started with "
            "--engine-arg tool-call-parser=NAME (vLLM's name of the model's parser), and so do vllm and rsv.",
            "tools",
        )
    return model.tools.use(call)


def _generation(
    answer: Answer, choice: Choice, model: ServedModel, use: ToolUse | None, trace: Trace | None
) -> Generation:
    """What the engine does for a choice. The choices of a prompt differ by their seed, as vLLM's do."""
    call = answer.call
    seed = None if call.seed is None else _wrapped(call.seed + choice.index % call.n)
    request = GenerateRequest(
        request_id=answer.request_id if len(answer.choices) == 1 else f"{answer.request_id}-{choice.index}",
        prompt_ids=choice.prompt_ids,
        max_tokens=fit_max_tokens(call, len(choice.prompt_ids), model.max_model_len),
        temperature=call.temperature,
        top_p=call.top_p,
        seed=seed,
        stop=call.stop,
        stop_token_ids=call.stop_token_ids,
        ignore_eos=call.ignore_eos,
        logprobs=call.logprobs,
        special=use.special if use else None,
        trace=trace,
        adapter=answer.adapter,
    )
    return choice.index, request


def _wrapped(seed: int) -> int:
    """A seed in 64 bits: the one after the largest is the smallest."""
    return (seed + INT64) % (2 * INT64) - INT64


def _rvtop(engine: str, waited_ms: float, before: Mapping[str, float | None], delta: Delta) -> dict[str, Any]:
    """``usage.rvtop``: the time inside of the engine, and what it took ``before`` that."""
    timings = delta.finish.timings if delta.finish else None
    return {
        "engine": engine,
        "queue_ms": round(waited_ms + (timings.queue_ms if timings else 0.0), 3),
        **{name: None if took is None else round(took, 3) for name, took in before.items()},
        "prefill_ms": round(timings.prefill_ms, 3) if timings else None,
        "decode_ms": round(timings.decode_ms, 3) if timings else None,
    }
