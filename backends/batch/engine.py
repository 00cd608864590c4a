"""vLLM's part: the arguments of engines, what watches them, and the synchronous one. Imports vLLM: only in
the process that computes, and in the one that prepares."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from backends.batch.meter import Emit, Meter
from backends.batch.options import BatchOptions
from backends.batch.rows import Work
from backends.engines.vllm_args import Made, engine_config, made_of, one_line, parser_of, refusals
from backends.settings.vllm import engine_argv


@dataclass(frozen=True)
class EngineSpec:
    """How every engine of a batch is made: the arguments of vLLM's ``LLM`` and of its ``AsyncEngineArgs``
    alike, and what vLLM makes of them."""

    arguments: dict[str, Any]
    made: Made


def engine_spec(options: BatchOptions, path: str, gpu_share: float) -> EngineSpec:
    """The same engine for all three ways: vLLM has other defaults for each (how many sequences, how many
    tokens a step). Raises UsageError, StartFailure."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    argv = engine_argv(
        options.vllm,
        path=path,
        model=path,
        dtype=options.dtype,
        seed=options.seed,
        max_model_len=options.max_model_len,
        concurrency=None,
        trust_remote_code=options.trust_remote_code,
        gpu_share=gpu_share,
    )
    args, config = engine_config(argv, on_cpu=gpu_share == 0)
    # With the model: that of vLLM's default would be looked for on the Hub.
    bare = parser_of(AsyncEngineArgs.add_cli_args).parse_args([f"--model={path}"])
    plain = AsyncEngineArgs.from_cli_args(bare)
    made = made_of(config)
    given = {
        field.name: getattr(args, field.name)
        for field in fields(args)
        if getattr(args, field.name) != getattr(plain, field.name)
    }
    same = {
        "model": path,
        "max_num_seqs": made.concurrency,
        "max_num_batched_tokens": made.step_tokens,
        "max_model_len": made.max_model_len,
        "disable_log_stats": False,  # what the meter reads
    }
    return EngineSpec(given | same, made)


def check_sampling(sampling: Mapping[str, Any]) -> None:
    """Raises ValueError for what vLLM's SamplingParams refuse."""
    from vllm import SamplingParams

    try:
        SamplingParams(**sampling)
    except refusals() as error:
        raise ValueError(one_line(error)) from error


def watch(manager: Any, meter: Meter) -> None:
    """From now on ``meter`` hears of each step of the engine whose statistics ``manager`` is handed."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Watching(StatLoggerBase):
        def __init__(self) -> None:
            pass

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
        ) -> None:
            if scheduler_stats is None:
                return
            running = scheduler_stats.num_running_reqs
            ended = len(iteration_stats.finished_requests) if iteration_stats is not None else 0
            # It is told what runs once the step is over: what ended with the step was computed in it, too.
            meter.step(running + ended, running + scheduler_stats.num_waiting_reqs)

        def log_engine_initialized(self) -> None:
            pass

    manager.stat_loggers.append(Watching())


def row_fields(output: Any) -> dict[str, Any]:
    """What is told of a finished ``RequestOutput`` of vLLM."""
    part = output.outputs[0]
    return {
        "text": part.text,
        "token_ids": list(part.token_ids),
        "prompt_tokens": len(output.prompt_token_ids or ()),
        "finish_reason": part.finish_reason,
    }


class SyncEngine:
    """vLLM's ``LLM``, whose ``generate`` returns when all that it was given is done. Rows are told of as they
    finish within it. Raises StartFailure, or what vLLM raises."""

    def __init__(self, spec: EngineSpec, emit: Emit, name: str) -> None:
        from vllm import LLM

        self._llm = LLM(**spec.arguments)
        self._emit = emit
        self._keys: dict[str, int] = {}
        self._follow_steps()
        self._meter = Meter(name, spec.made.concurrency, emit)
        watch(self._llm.llm_engine.logger_manager, self._meter)
        emit("engine", engine=name, pid=os.getpid(), slots=spec.made.concurrency)
        self._meter.start()

    def generate(self, rows: Sequence[Work]) -> None:
        """Computes the rows in one call. A row that vLLM refuses fails the whole call, before it began: then
        the halves are called apart, down to that row."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        first = self._llm.request_counter.counter
        self._keys = {str(first + place): row.key for place, row in enumerate(rows)}
        prompts = [TokensPrompt(prompt_token_ids=row.token_ids) for row in rows]
        params = [SamplingParams(**row.sampling) for row in rows]
        try:
            self._llm.generate(prompts, params, use_tqdm=False)
        except refusals() as error:
            if len(rows) == 1:
                self._emit("refused", key=rows[0].key, reason=one_line(error))
                return
            middle = len(rows) // 2
            for half in (rows[:middle], rows[middle:]):
                self.generate(half)

    def close(self) -> None:
        self._meter.close()

    def _follow_steps(self) -> None:
        """``generate`` gives its answers when the last is done; its steps have them when they are."""
        engine = self._llm.llm_engine
        step = engine.step

        def followed() -> Any:
            outputs = step()
            for output in outputs:
                if output.finished and (key := self._keys.get(output.request_id)) is not None:
                    self._emit("row", key=key, **row_fields(output))
            return outputs

        engine.step = followed
