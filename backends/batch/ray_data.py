"""The two ways over Ray Data: ``map_batches`` with the synchronous engine, and Ray Data LLM's processor with
vLLM's asynchronous one. Ray and Ray Data are imported in the functions: some settings are read on import."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backends.batch.channel import Channel, Place
from backends.batch.engine import EngineSpec, SyncEngine, row_fields, watch
from backends.batch.meter import Meter
from backends.batch.options import BatchOptions
from backends.batch.rows import Work
from backends.errors import UsageError
from backends.settings.accelerators import ray_options, resource_of

#: What Ray Data LLM's tasks beside the engines (rows into its columns, and out of them) reserve of a CPU
#: each, and what is left for them.
_TASK_CPUS, _TASKS_CPUS = 0.1, 0.2
#: Batches that an engine works at, beyond those that fill it: as one of them is at its tail, others go on.
#: With two an engine of 64 places had 40 sequences a step, with six 54 (the rows of tests/bench/batch.py).
_SPARE_BATCHES = 6


def run_map_batches(rows: Sequence[Work], options: BatchOptions, spec: EngineSpec, place: Place) -> None:
    """Batch after batch into ``LLM.generate``, by actors that hold an engine each."""
    import ray

    cpus, gpus, resource = engine_resources(options)
    data = _data([{"row": row.to_json()} for row in rows], options.batch_size)
    data = data.map_batches(
        SyncActor,
        fn_constructor_kwargs={"spec": spec, "place": place},
        batch_size=options.batch_size,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=options.engines),
        **ray_options(cpus, gpus, resource),
        runtime_env=_runtime_env(options, gpus),
    )
    _run(data)


class SyncActor:
    """What ``map_batches`` calls: one engine, a batch a call, and nothing else until that is done."""

    def __init__(self, spec: EngineSpec, place: Place) -> None:
        self._channel = Channel(place)
        self._engine = SyncEngine(spec, self._channel.emit, f"pid {os.getpid()}")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        rows = [Work.from_json(str(text)) for text in batch["row"]]
        self._engine.generate(rows)
        return {"key": [row.key for row in rows]}


def run_ray_data_llm(rows: Sequence[Work], options: BatchOptions, spec: EngineSpec, place: Place) -> None:
    """Ray Data LLM's processor. Its stages for templates and tokens are off: rows are tokens already, and
    were looked at, which those stages would end the whole job for."""
    from ray.data import llm

    cpus, gpus, resource = engine_resources(options)
    arguments = {name: value for name, value in spec.arguments.items() if name != "model"}
    workers = options.vllm.workers
    bundle = {"CPU": cpus / workers} | ({resource: gpus / workers} if gpus else {})
    config = llm.vLLMEngineProcessorConfig(
        model_source=str(spec.arguments["model"]),
        engine_kwargs=arguments,
        batch_size=options.batch_size,
        # An int n would mean up to n engines, as Ray sees fit.
        concurrency=(options.engines, options.engines),
        max_concurrent_batches=math.ceil(spec.made.concurrency / options.batch_size) + _SPARE_BATCHES,
        should_continue_on_error=True,
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        placement_group_config={"bundle_per_worker": bundle},  # without it Ray waits for a GPU for ever
        runtime_env=_runtime_env(options, gpus),
    )
    small = {"num_cpus": _TASK_CPUS}
    processor = llm.build_processor(config, preprocess_map_kwargs=small, postprocess_map_kwargs=small)
    stage = processor.get_stage_by_name("vLLMEngineStage")
    # Around pydantic, which would have the stage work out its resources again, without what it has used up.
    object.__setattr__(stage, "fn", _told_of(stage.fn))
    stage.fn_constructor_kwargs["place"] = place
    table = [
        {"key": row.key, "tokenized_prompt": row.token_ids, "sampling_params": row.sampling} for row in rows
    ]
    _run(processor(_data(table, options.batch_size)))


def _told_of(engine_stage: Any) -> Any:
    """Ray Data LLM's engine stage, which also tells of each row when it is done."""

    class ToldStage(engine_stage):
        def __init__(self, *args: Any, place: Place, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._channel = Channel(place)
            self._outputs: dict[int, Any] = {}
            name, slots = f"pid {os.getpid()}", self.llm.get_scheduler_config().max_num_seqs
            self._meter = Meter(name, slots, self._channel.emit)
            watch(self.llm.engine.logger_manager, self._meter)
            self._generate, self.llm._generate_async = self.llm._generate_async, self._kept
            self._channel.emit("engine", engine=name, pid=os.getpid(), slots=slots)
            self._meter.start()

        async def _kept(self, request: Any) -> Any:
            """The engine's answer; what Ray makes of it has no reason for its end."""
            output = self._outputs[request.request_id] = await self._generate(request)
            return output

        async def _generate_with_error_handling(self, row: dict[str, Any], batch_uuid: uuid.UUID) -> Any:
            key = int(row["key"])
            made = await super()._generate_with_error_handling(row, batch_uuid)
            if reason := made["__inference_error__"]:
                self._channel.emit("refused", key=key, reason=reason[:300])
            else:
                self._channel.emit("row", key=key, **row_fields(self._outputs.pop(made["request_id"])))
            return made

    return ToldStage


def engine_resources(options: BatchOptions) -> tuple[float, float, str]:
    """CPUs and accelerators that Ray reserves for each engine, and what Ray calls those: where there are some
    as many as it computes on, else its part of the CPUs, less what Ray's own tasks need. Raises UsageError
    where there are fewer accelerators: Ray would wait for more."""
    import ray

    found = ray.cluster_resources()
    resource = resource_of(found)
    if there := found.get(resource):
        needed = options.engines * options.vllm.workers
        if there < needed:
            told = f"they need {needed} {resource}s, the cluster has {there:g}"
            raise UsageError(f"--engines {options.engines}: {told}")
        return 1.0, float(options.vllm.workers), resource
    cpus = (found.get("CPU", 1.0) - _TASKS_CPUS) / options.engines
    return (float(int(cpus)) if cpus >= 1 else math.floor(cpus * 1e4) / 1e4), 0.0, resource


def _data(table: Iterable[dict[str, Any]], batch_size: int) -> Any:
    """A dataset of the rows, a block a batch."""
    import ray

    rows = list(table)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the log is no terminal
    return ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / batch_size))


def _run(data: Any) -> None:
    """Runs it to its end. What comes out of it was told of by the engines."""
    for _ in data.iter_batches(batch_size=None):
        pass


def _runtime_env(options: BatchOptions, gpus: float) -> dict[str, Any]:
    """What engines need in their environment, where they are started by a Ray that is not ours."""
    from backends.batch.process import engine_environment
    from backends.settings import environment

    given = environment.public()
    return {"env_vars": engine_environment(given, options, on_gpu=gpus > 0, folder=None)}
