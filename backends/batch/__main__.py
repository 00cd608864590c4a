"""``python -P -m backends.batch HOW --work FILE --model SOURCE …``: computes the rows of a file in one way.

stdout carries JSON lines only (:mod:`backends.process.events`): ``step`` of the start, ``engine`` that is up,
``row`` that is done, ``refused`` row, ``occupied`` (:mod:`backends.batch.meter`), ``done`` or ``error``.
Exit codes: 0 done, 2 bad usage, 4 an engine did not start, 5 something broke on the way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from backends.batch.options import BatchOptions, parse_options
from backends.batch.process import engine_environment
from backends.batch.rows import Work, prepare
from backends.errors import StartFailure, UsageError
from backends.errors.text import log_to_stderr, visible
from backends.models.load import ModelError, check_weights, resolve_model
from backends.process.events import Events, StartStep, Steps
from backends.process.lease import StdinLease
from backends.process.scratch_dir import OwnedTempDir
from backends.settings.accelerators import any_here, visible_accelerators

log = logging.getLogger("backends.batch")

_BROKE = 5


def main() -> NoReturn:
    events = Events.on_stdout()
    try:
        options = parse_options(sys.argv[1:])
    except UsageError as error:
        events.emit("error", kind=error.kind, message=str(error))
        print(f"backends.batch: {visible(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    log_to_stderr()
    signal.signal(signal.SIGTERM, _end)
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)  # started by hand: the shell's group is none of ours
    # The reaper ends our group, vLLM's processes in it, when we end, in whatever way.
    folder = OwnedTempDir("rvtop-batch-", group=os.getpgid(0))
    if options.lease:
        StdinLease(sys.stdin.fileno(), lambda reason: os._exit(0)).start()
    code = _reported(options, events, folder)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)  # a thread inside a native call must not hold up the end


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _reported(options: BatchOptions, events: Events, folder: OwnedTempDir) -> int:
    """Runs it; what goes wrong becomes an ``error`` event, and the exit code."""
    try:
        run(options, events, folder)
    except (StartFailure, ModuleNotFoundError) as error:
        return events.failed(error)
    except Exception as error:
        log.exception("the batch broke")
        text = " ".join(str(error).split())[:300]
        events.emit("error", kind="broke", message=f"{type(error).__name__}: {text}")
        return _BROKE
    events.emit("done")
    return 0


def run(options: BatchOptions, events: Events, folder: OwnedTempDir) -> None:
    """Computes the rows. Raises StartFailure, or whatever breaks."""
    steps = Steps(events.emit)
    os.environ.update(folder.env)  # marks all that we start for the reaper
    path = _model(options, steps)
    if options.how == "generate":
        _generate(options, path, steps, events, folder)
    else:
        asyncio.run(_over_ray(options, path, steps, events))


def _model(options: BatchOptions, steps: Steps) -> str:
    try:
        with steps.step("model", options.source) as step:
            path = resolve_model(options.source, step.progress)
            check_weights(path)
    except ModelError as error:
        raise UsageError(f"--model: {error}") from None
    return str(Path(path).absolute()) if isinstance(path, Path) else path


def _generate(options: BatchOptions, path: str, steps: Steps, events: Events, folder: OwnedTempDir) -> None:
    """``LLM.generate``, in this process, with all rows in one call."""
    on_gpu = any_here(os.environ)
    environ = engine_environment(os.environ, options, on_gpu=on_gpu, folder=str(folder.path))
    os.environ.update(environ)
    if on_gpu:
        _take_gpus(options)
    with steps.step("import", "vLLM"):
        from backends.batch.engine import SyncEngine, engine_spec
    spec = engine_spec(options, path, float(options.vllm.workers) if on_gpu else 0.0)
    rows = _rows(options, path, spec.made.max_model_len, steps, events)
    if not rows:
        return
    with steps.step("engine", "LLM"):
        engine = SyncEngine(spec, events.emit, f"pid {os.getpid()}")
    engine.generate(rows)
    engine.close()


async def _over_ray(options: BatchOptions, path: str, steps: Steps, events: Events) -> None:
    """One of the two ways with Ray Data, on a cluster of ours or on one that is up."""
    # Ray's workers take our environment, where the cluster is ours.
    os.environ.update(engine_environment(os.environ, options, on_gpu=any_here(os.environ), folder=None))
    from backends.cluster.cluster import open_cluster

    cluster = await open_cluster(options, steps)
    try:
        with steps.step("import", "vLLM, Ray Data"):
            from backends.batch import ray_data
            from backends.batch.engine import engine_spec
        gpus = ray_data.engine_resources(options)[1]
        spec = engine_spec(options, path, gpus)
        rows = _rows(options, path, spec.made.max_model_len, steps, events)
        if rows:
            await asyncio.to_thread(_with_lines, options, spec, rows, events, cluster.ours)
    finally:
        await cluster.close()


def _with_lines(options: BatchOptions, spec: Any, rows: list[Work], events: Events, ours: bool) -> None:
    import ray

    from backends.batch import ray_data
    from backends.batch.channel import Listener

    host = "127.0.0.1" if ours else ray.util.get_node_ip_address()
    listener = Listener(host, events.write)
    try:
        way = ray_data.run_map_batches if options.how == "map-batches" else ray_data.run_ray_data_llm
        way(rows, options, spec, listener.place)
    finally:
        listener.close()


def _rows(options: BatchOptions, path: str, longest: int, steps: Steps, events: Events) -> list[Work]:
    """The rows that engines can take; of the others is told why not."""
    from transformers import AutoTokenizer

    from backends.batch.engine import check_sampling

    with steps.step("rows") as step:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=options.trust_remote_code)

        def refused(key: int, reason: str) -> None:
            events.emit("refused", key=key, reason=reason)

        def looked_at(number: int) -> None:
            _told(step, number)

        return list(prepare(options.work, tokenizer, longest, check_sampling, refused, looked_at))


def _told(step: StartStep, number: int) -> None:
    if number % 1000 == 0:
        step.detail(f"{number} looked at")


def _take_gpus(options: BatchOptions) -> None:
    """Of the GPUs that this process may use it keeps those of its own engine. Raises UsageError."""
    variable, gpus = visible_accelerators()
    each = options.vllm.workers
    if variable is None or len(gpus) < options.engines * each:
        wanted = f"{options.engines} engines of {each}" if each > 1 else f"{options.engines} engines"
        raise UsageError(f"--engines {options.engines}: {wanted} need as many GPUs, here are {len(gpus)}")
    os.environ[variable] = ",".join(gpus[options.part * each : (options.part + 1) * each])


if __name__ == "__main__":
    main()
