"""The path of a request through a backend: check, retrieve, render, admit, generate, answer.

One :class:`Service` stands behind every HTTP surface, whichever web framework carries it and wherever the
engines run.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from backends.api.admission import Admission
from backends.api.metrics import Metrics
from backends.api.render import Renderer
from backends.api.request import Call, Endpoint, fit_max_tokens, parse_call
from backends.api.response import Answer, collect, sse
from backends.engines.protocol import Delta, GenerateRequest
from backends.errors import (
    EngineError,
    EngineUnavailable,
    bad_request,
    internal,
    unavailable,
    unknown_model,
)

log = logging.getLogger("backends.api.service")


@dataclass
class ServedModel:
    """A model by the name that requests use, its tokenizer, and the engines that run it."""

    name: str
    path: str
    renderer: Renderer
    admission: Admission
    max_model_len: int
    created: int = field(default_factory=lambda: int(time.time()))


class Retrieval(Protocol):
    """Server-side retrieval."""

    async def expand(self, messages: Sequence[dict[str, Any]], top_k: int) -> list[dict[str, Any]]:
        """Messages with what was found for the last user message put in. Raises ApiError."""
        ...


@dataclass(slots=True)
class Reply:
    """An answer: ``body`` (JSON), or a ``stream`` of SSE bytes that its reader must close."""

    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None


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
        self._metrics = metrics
        self._retrieval = retrieval
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        if metrics is not None:
            for model in models:
                for engine in model.admission.engines:
                    metrics.add_engine(engine.info)

    async def complete(self, endpoint: Endpoint, body: bytes) -> Reply:
        """Answers one request. Raises ApiError; a failure after the first token is an event in the stream.

        A stream is returned when its first token exists, so that whatever fails before has its own status.
        Cancelling this call, or closing the stream, frees the engine.
        """
        arrived = time.perf_counter()
        call = parse_call(endpoint, body)
        model = self._model(call.model)
        model.admission.check()  # a full queue is refused before any work is done for the request
        prompt_ids, retrieve_ms = await self._prompt(call, model)
        request_id = f"{'chatcmpl' if endpoint == 'chat' else 'cmpl'}-{secrets.token_hex(8)}"
        request = GenerateRequest(
            request_id=request_id,
            prompt_ids=prompt_ids,
            max_tokens=fit_max_tokens(call, len(prompt_ids), model.max_model_len),
            temperature=call.temperature,
            top_p=call.top_p,
            seed=call.seed,
            stop=call.stop,
            stop_token_ids=call.stop_token_ids,
            ignore_eos=call.ignore_eos,
        )
        answer = Answer(call, request_id, int(time.time()), model.name, prompt_ids)
        deltas = self._deltas(model, answer, request, arrived, retrieve_ms)
        if not call.stream:
            async with aclosing(deltas):
                return Reply(body=await collect(answer, deltas))
        try:
            first = await anext(deltas)
        except BaseException:
            await deltas.aclose()
            raise
        return Reply(stream=sse(answer, _chain(first, deltas)))

    async def _prompt(self, call: Call, model: ServedModel) -> tuple[tuple[int, ...], float | None]:
        """Prompt token ids, and the milliseconds that retrieval took (None without)."""
        if call.messages is None:
            if call.rag_top_k is not None:
                raise bad_request(
                    "`rag` needs /v1/chat/completions: it looks up the last user message.", "rag"
                )
            prompt = call.prompt
            assert prompt is not None
            ids = await model.renderer.text(prompt) if isinstance(prompt, str) else model.renderer.ids(prompt)
            return ids, None
        messages: Sequence[dict[str, Any]] = call.messages
        retrieve_ms = None
        if call.rag_top_k is not None:
            if self._retrieval is None:
                raise bad_request(
                    "This server has no index to retrieve from: start it with --index DIR.", "rag"
                )
            began = time.perf_counter()
            messages = await self._retrieval.expand(messages, call.rag_top_k)
            retrieve_ms = (time.perf_counter() - began) * 1e3
        return await model.renderer.chat(messages), retrieve_ms

    async def _deltas(
        self,
        model: ServedModel,
        answer: Answer,
        request: GenerateRequest,
        arrived: float,
        retrieve_ms: float | None,
    ) -> AsyncGenerator[Delta, None]:
        """Waits for an engine and generates; engine errors become ApiErrors."""
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
                            answer.rvtop = _rvtop(info.engine, waited_ms, retrieve_ms, delta)
                    if record is not None:
                        record.delta(delta, len(request.prompt_ids), waited_ms)
                    yield delta
        except EngineUnavailable as error:
            outcome = "error"
            slot.mark_down()
            raise unavailable(str(error)) from error
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
        if name not in self.models:
            raise unknown_model(name)
        return self.models[name]

    def _enter(self) -> None:
        self._active += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._active -= 1
        if self._active == 0:
            self._idle.set()


def _rvtop(engine: str, waited_ms: float, retrieve_ms: float | None, delta: Delta) -> dict[str, Any]:
    """``usage.rvtop``: the time inside of the engine, and the waiting before it."""
    timings = delta.finish.timings if delta.finish else None
    return {
        "engine": engine,
        "queue_ms": round(waited_ms + (timings.queue_ms if timings else 0.0), 3),
        "retrieve_ms": None if retrieve_ms is None else round(retrieve_ms, 3),
        "prefill_ms": round(timings.prefill_ms, 3) if timings else None,
        "decode_ms": round(timings.decode_ms, 3) if timings else None,
    }


async def _chain(first: Delta, rest: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    async with aclosing(rest):
        yield first
        async for delta in rest:
            yield delta
