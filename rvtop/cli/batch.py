"""``rvtop batch``: a file of rows through engines without a server, in one of three ways, or all."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.cli.option_groups import grouped
from rvtop.cli.options import LookOptions, RayAddress, Ui, check_ui, no_screen
from rvtop.errors import UserError, check_limits
from rvtop.system.stdio import say, say_error, say_nothing

if TYPE_CHECKING:
    from rvtop.batch.job import Job

_INTERRUPTED = 130
_POLL_S = 0.25

#: Writes the summary of a batch that ended in that way, and gives the lines to show of it.
End = Callable[[str], list[str]]


@grouped
def batch(
    *,
    file: Annotated[Path, typer.Argument(help="Rows: .jsonl (ours or OpenAI's batch format) or .parquet.")],
    how: Annotated[
        str, typer.Option("--how", help="generate, map-batches, ray-data-llm, several of them (a,b), or all.")
    ] = "ray-data-llm",
    model: Annotated[
        str, typer.Option("--model", help="Folder, Hub id, tiny, or NAME=one of these.")
    ] = "tiny",
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the batch in --out: what is done there stays.")
    ] = False,
    engines: Annotated[int, typer.Option("--engines", help="Engines, each with the whole model.")] = 1,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Rows that Ray Data hands over at a time.")
    ] = 32,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", help="Places of an engine's batch; default vLLM's.")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads of each engine.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Data type of the weights; default float32 on a CPU, else the model's."),
    ] = None,
    max_model_len: Annotated[int | None, typer.Option("--max-model-len", help="Context in tokens.")] = None,
    ray_address: RayAddress = None,
    engine_arg: Annotated[
        list[str] | None, typer.Option("--engine-arg", help="vLLM engine argument k=v; repeat.")
    ] = None,
    stall_after: Annotated[
        float,
        typer.Option("--stall-after", help="Seconds without any progress after which engines start anew."),
    ] = 600.0,
    ui: Ui = "dashboard",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON alone.")] = False,
    look: LookOptions,
) -> None:
    """Answers a file of prompts without a server, one way or three. Compares the three."""
    check_ui(ui)
    hows = _hows(how)
    sizes = {
        "--engines": engines,
        "--batch-size": batch_size,
        "--max-num-seqs": max_num_seqs,
        "--threads": threads,
        "--max-model-len": max_model_len,
    }
    for option, number in sizes.items():
        if number is not None and number < 1:
            raise UserError(f"{option} {number}: must be 1 or more")
    if not stall_after > 0:
        raise UserError(f"--stall-after {stall_after:g}: must be above 0")
    check_limits()
    from rvtop.batch.job import Job, Plan

    name, equals, source = model.partition("=")
    if not equals:
        name, source = "", model
    if not source or (equals and not name):
        raise UserError(f"--model {model!r}: write NAME=SOURCE, or SOURCE alone")
    values: dict[str, int | str | None] = {"--dtype": dtype, "--ray-address": ray_address}
    values |= {option: number for option, number in sizes.items() if option != "--engines"}
    arguments = [
        part for option, value in values.items() if value is not None for part in (option, str(value))
    ]
    arguments += [part for text in engine_arg or () for part in ("--engine-arg", text)]
    plan = Plan(file, hows, source, out, name, engines, resume, stall_after, tuple(arguments))
    job = Job(plan)
    try:
        code = run_batch(job, ui="none" if as_json else ui, as_json=as_json)
    finally:
        job.close()
    raise typer.Exit(code)


def _hows(text: str) -> tuple[str, ...]:
    from rvtop.batch.job import HOWS

    if text == "all":
        return HOWS
    hows = tuple(dict.fromkeys(text.split(",")))
    for how in hows:
        if how not in HOWS:
            raise UserError(f"--how: {how!r} is unknown; give {', '.join(HOWS)}, or all")
    return hows


def run_batch(job: Job, *, ui: str, as_json: bool = False) -> int:
    """Runs it to its end, or until it is interrupted, and writes its summary; returns the exit code. Raises
    UserError."""
    from rvtop.batch.lines import table
    from rvtop.batch.summary import same_lines, summarise, write_summary

    found: dict[str, Any] = {}

    def end(kind: str) -> list[str]:
        found.update(summarise(job, kind))
        write_summary(job, found)
        return [*same_lines(found["same"]), f"results: {job.plan.out}"]

    why = no_screen() if ui == "dashboard" else ""
    if why.startswith("TERM"):
        say_error(f"plain lines instead of the dashboard: {why}")
    if ui == "dashboard" and not why:
        kind, notes = _on_screen(job, end)
    else:
        kind, notes = _in_lines(job, end, quiet=ui == "none")
    if as_json:
        say(json.dumps(found))
    elif ui != "none":
        for line in (*table(job.lanes, job.clock()), *notes):
            say(line)
    _say_what_is_wrong(job, kind)
    return _INTERRUPTED if kind == "interrupted" else job.exit_code


def _on_screen(job: Job, end: End) -> tuple[str, Sequence[str]]:
    from rvtop.cli.dashboard import look_now
    from rvtop.ui.batch_run import show_batch

    return show_batch(job, look_now(), end)


def _in_lines(job: Job, end: End, *, quiet: bool) -> tuple[str, Sequence[str]]:
    """Plain lines; SIGINT, SIGTERM and SIGHUP end it with what is done kept."""
    from rvtop.batch.lines import Narrator

    narrator = Narrator(say_nothing if quiet else say)

    async def main() -> str:
        running = asyncio.create_task(job.run())
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(name) not in (signal.SIG_IGN, None):  # what nohup ignores stays ignored
                loop.add_signal_handler(name, running.cancel)
        while not running.done():
            narrator.look(job.lanes, job.clock(), job.began)
            await asyncio.wait([running], timeout=_POLL_S)
        narrator.look(job.lanes, job.clock(), job.began)
        try:
            running.result()
        except asyncio.CancelledError:
            return "interrupted"
        return "failed" if job.codes else "done"

    kind = asyncio.run(main())
    return kind, end(kind)


def _say_what_is_wrong(job: Job, kind: str) -> None:
    for lane in job.lanes:
        if lane.reason:
            say_error(f"{lane.how}: {lane.reason}")
    bad = max(lane.errors for lane in job.lanes)
    if bad:
        say_error(f"{bad} of {job.lanes[0].total} rows have no answer: errors.jsonl says why")
    if kind == "interrupted":
        say_error("interrupted; what is done is kept: the same command with --resume goes on")
