"""Turns a scenario's workload into ``prompts.jsonl`` and the fields of every request, before the load starts.

Workers only read the file: nothing is retrieved, embedded or expanded while the clock runs, unless
the scenario asks the server to do it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from rvtop.contract.run_files import PROMPTS
from rvtop.contract.snapshot import StartStep
from rvtop.ipc import child
from rvtop.scenario.workload import (
    PluginWorkload,
    PromptsWorkload,
    RagWorkload,
    SyntheticWorkload,
    TasksWorkload,
    TraceWorkload,
    Workload,
)
from rvtop.text import printable
from rvtop.workload import added, aiperf, files, replay, sharegpt, synthetic, tasks
from rvtop.workload.rows import Stopped, WorkloadError, encode, save, user_row

__all__ = ["Prepared", "WorkloadError", "prepare", "write_prompts"]

_TELL_S = 0.5
_LOOK_EVERY = 256


@dataclass(frozen=True)
class Prepared:
    """What workers need of a workload."""

    prompts: Path
    body: dict[str, Any]
    digest: str  # sha256 of prompts.jsonl


async def prepare(
    workload: Workload, folder: Path, seed: int, ours: bool, on_step: Callable[[StartStep], None]
) -> Prepared:
    """Writes ``folder``/prompts.jsonl. ``ours``: the target is a backend of rvtop, which is asked for its
    timings. ``on_step`` is only called from this loop's thread. Raises WorkloadError."""
    path = folder / PROMPTS
    body: dict[str, Any] = {}
    if workload.output_limit is not None:
        body["max_tokens"] = workload.output_limit
    if workload.temperature is not None:
        body["temperature"] = workload.temperature
    if workload.ignore_eos:
        body["ignore_eos"] = True
    if ours:
        body["rvtop"] = {"timings": True}
    if isinstance(workload, RagWorkload) and workload.where == "client":
        await _expand(workload, path, on_step)
        return Prepared(path, body, hashlib.sha256(path.read_bytes()).hexdigest())
    if isinstance(workload, RagWorkload):
        if not ours:
            raise WorkloadError("workload.where: server needs one of rvtop's own backends; use where: client")
        body["rag"] = {"top_k": workload.top_k}
    return Prepared(path, body, await write_prompts(workload, path, seed, on_step))


async def write_prompts(
    workload: Workload, path: Path, seed: int, on_step: Callable[[StartStep], None]
) -> str:
    """Writes the prompts of a workload that retrieves nothing to ``path`` and returns their digest. Raises
    WorkloadError."""
    return await _in_thread(_Making(workload, path, seed, on_step))


class _Making:
    """Prompts being written in a thread, so that a long trace holds up neither the screen nor a stop."""

    def __init__(
        self, workload: Workload, path: Path, seed: int, on_step: Callable[[StartStep], None]
    ) -> None:
        self.stop = threading.Event()
        self._workload, self._path, self._seed, self._on_step = workload, path, seed, on_step
        self._loop = asyncio.get_running_loop()
        self._began = self._told = monotonic()
        self._reading = "writing"

    def run(self) -> str:
        """Writes the file and returns its digest."""
        lines, source, detail = self._lines()
        digest = save(self._path, lines, source, self._on_progress)
        if detail or self._told > self._began:  # what was told to run is told to be done
            self._tell("done", detail)
        return digest

    def _lines(self) -> tuple[Iterable[bytes], str, str]:
        """Lines of the file, what they are of, and what there is to tell of them."""
        workload, seed = self._workload, self._seed
        if isinstance(workload, TraceWorkload) and (found := replay.sessions_of(workload, seed)) is not None:
            return map(encode, found), workload.file, ""
        if isinstance(workload, TraceWorkload):
            self._reading = "reading the trace, line"
            made = replay.load(workload, self._on_progress)
            self._reading = f"{len(made.picked):,} prompts to write, at"
            return map(encode, made.rows(seed)), workload.file, made.told()
        if isinstance(workload, SyntheticWorkload):
            return map(encode, synthetic.rows(workload, seed)), "workload", ""
        if isinstance(workload, PromptsWorkload) and workload.sharegpt:
            rows = sharegpt.rows(
                Path(workload.file),
                multi_turn=workload.multi_turn,
                think_s=workload.think_s,
                max_tokens=workload.max_tokens,
                limit=workload.limit,
            )
            return map(encode, rows), workload.file, ""
        if isinstance(workload, PromptsWorkload) and workload.format is not None:
            drawn = aiperf.prompts(Path(workload.file), workload.format, seed, workload.limit)
            return map(encode, drawn), workload.file, ""
        if isinstance(workload, PromptsWorkload):
            return files.lines(Path(workload.file), workload.limit), workload.file, ""
        if isinstance(workload, TasksWorkload):
            return tasks.lines(workload, seed), workload.file or "workload", ""
        if isinstance(workload, PluginWorkload):
            return map(encode, added.rows(workload, seed)), f"plugin {workload.name}", ""
        asked = enumerate(question_rows(workload.questions), 1)
        return (encode(user_row(f"q{i:02d}", row["question"])) for i, row in asked), workload.questions, ""

    def _on_progress(self, count: int) -> None:
        """Looks up from the work now and then: to stop, or to tell how far it is."""
        if count % _LOOK_EVERY:
            return
        if self.stop.is_set():
            raise Stopped()
        if monotonic() - self._told > _TELL_S:
            self._told = monotonic()
            self._tell("run", f"{self._reading} {count:,}")

    def _tell(self, state: str, detail: str) -> None:
        step = StartStep("prompts", state, monotonic() - self._began, detail)
        self._loop.call_soon_threadsafe(self._on_step, step)


async def _in_thread(making: _Making) -> str:
    try:
        return await asyncio.to_thread(making.run)
    except asyncio.CancelledError:
        making.stop.set()
        raise


def question_rows(source: str) -> list[dict[str, Any]]:
    """The questions of ``sample`` or a file, each as ``{"question": …}`` with what else its line tells of
    it. Raises WorkloadError."""
    if source == "sample":
        source = str(_sample())
    try:
        text = Path(source).read_text("utf-8")
        rows = [line for line in text.split("\n") if line.strip()]
        if not source.endswith(".jsonl"):
            return [{"question": row} for row in rows]
        return [{**found, "question": found["question"]} for row in rows for found in (json.loads(row),)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkloadError(f"{source}: questions can't be read: {error}") from error


def _sample() -> Path:
    """The sample questions beside the corpus in ``backends``, a package that is found but not imported."""
    found = find_spec("backends")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(folders[0] if folders else "backends") / "corpus" / "sample" / "questions.jsonl"


async def _expand(workload: RagWorkload, path: Path, on_step: Callable[[StartStep], None]) -> None:
    """Retrieval and prompt building in a process of their own: rvtop itself never imports FAISS or torch."""
    command = child.module_command("backends.rag", "expand", "--events")
    command += ["--questions", workload.questions, "--top-k", str(workload.top_k), "--out", str(path)]
    if workload.index:
        command += ["--index", workload.index]
    began = monotonic()
    on_step(StartStep("prompts", "run", 0.0, "retrieving"))
    process = await child.start(*command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stderr is not None
        problem = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            detail = _detail(line)
            if detail:
                on_step(StartStep("prompts", "run", monotonic() - began, detail))
        code = await process.wait()
    except asyncio.CancelledError:
        child.kill(process)
        await process.wait()
        raise
    if code:
        on_step(StartStep("prompts", "fail", monotonic() - began))
        words = (await problem).decode("utf-8", "replace").strip().splitlines()
        last = next(
            (w for w in words if w.startswith("error: ")), words[-1] if words else f"exit code {code}"
        )
        raise WorkloadError(last.removeprefix("error: "))
    on_step(StartStep("prompts", "done", monotonic() - began))


def _detail(line: bytes) -> str:
    try:
        event = json.loads(line)
        return printable(f"{event['name']} {event.get('detail') or ''}".strip())
    except (ValueError, KeyError, TypeError):
        return ""
