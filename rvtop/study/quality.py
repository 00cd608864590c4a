"""Asks several topologies the same questions, one at a time and greedily, and keeps what they answer.

Nothing is timed here: a showdown compares how fast answers come, this whether they are the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rvtop.contract import run_files
from rvtop.contract.snapshot import StartStep
from rvtop.contract.steps import step_line
from rvtop.errors import UserError
from rvtop.load.plan.prompts import Prompts
from rvtop.results.answers import Answer, Question, Reply, differing, retrieval, rows
from rvtop.scenario.schema import Scenario
from rvtop.session.request import topology_options
from rvtop.study.asking import Asker
from rvtop.study.entries import Entry
from rvtop.study.questions import questions_of
from rvtop.study.turns import Say, exit_code, write_study
from rvtop.system.files import FileFault, unwritable
from rvtop.target.backend import Backend, BackendOptions
from rvtop.target.mix import matching
from rvtop.target.probe import probe
from rvtop.text import printable_json
from rvtop.workload.prepare import prepare

#: What every request carries: the likeliest token each time, and an end where the model ends.
_GREEDY: Mapping[str, Any] = {
    "temperature": 0,
    "top_p": None,
    "ignore_eos": None,
    "min_tokens": None,
    "rvtop": None,
}
#: Answers that differ, of which the file and the page show so many with their text.
MOST_SHOWN = 100

Ask = Callable[[str, bytes], Awaitable[Reply]]
Check = Callable[[BackendOptions], object]


@dataclass(frozen=True)
class Server:
    """A topology that is up. ``ended`` is done once it has ended by itself."""

    models: tuple[str, ...]
    ask: Ask
    ended: Awaitable[int]


Start = Callable[[BackendOptions, Path, Say], AbstractAsyncContextManager[Server]]


@dataclass(frozen=True)
class QualityPlan:
    """What is to be asked of whom. ``most``: questions at most; ``max_tokens`` None: the scenario's."""

    scenario: Scenario
    entries: tuple[Entry, ...]
    reference: str
    out: Path
    models: tuple[str, ...] = ()  # name=path
    most: int | None = None
    max_tokens: int | None = None


@dataclass
class QualityRun:
    """What came of it so far. ``reasons``: why a topology gave no answers, or not all, by its name."""

    plan: QualityPlan
    questions: list[Question] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    body: Mapping[str, Any] = field(default_factory=dict)  # of every request
    digest: str = ""

    @property
    def exit_code(self) -> int:
        return exit_code(self.codes)

    def result(self) -> dict[str, Any]:
        """The content of ``quality.json``, printable."""
        plan = self.plan
        apart = differing(self.answers, plan.reference)
        found: dict[str, Any] = {
            "schema": 1,
            "scenario": plan.scenario.name,
            "prompts_digest": self.digest,
            "reference": plan.reference,
            "arguments": {entry.name: list(entry.arguments) for entry in plan.entries},
            "questions": len(self.questions),
            "retrieval": retrieval(self.questions),
            "rows": rows(self.questions, self.answers, plan.reference),
            "differing": len(apart),
            "shown": apart[:MOST_SHOWN],
            "reasons": self.reasons,
        }
        return dict(printable_json(found))

    def write(self) -> dict[str, Any]:
        """Writes ``quality.json`` and returns what is in it. Raises FileFault."""
        found = self.result()
        write_study(self.plan.out / run_files.QUALITY, found)
        return found


async def ask_all(run: QualityRun, start: Start, check: Check, say: Say) -> None:
    """Starts each topology of the plan in its turn and asks it everything. One that can't start, or ends,
    does not keep the next from its turn. Raises UserError when the prompts can't be made or a file can't be
    written."""
    plan = run.plan
    await _prepare(run, say)
    total = len(plan.entries)
    for number, entry in enumerate(plan.entries, 1):
        say(f"quality: {entry.name} ({number} of {total})")
        log = log_of(plan.out, entry.name)
        options = topology_options(entry.topology, models=plan.models, port=0, arguments=entry.arguments)
        before = len(run.answers)
        try:
            await asyncio.to_thread(check, options)
            async with start(options, log, say) as server:
                await _ask(run, entry.name, server)
        except FileFault:
            raise
        except UserError as error:
            if error.exit_code == 130:
                raise
            run.reasons[entry.name] = str(error)
            run.codes.append(3 if len(run.answers) > before else 4)
            say(f"quality: {entry.name} does not count: {error}")
        else:
            own = run.answers[before:]
            good = sum(not answer.error for answer in own)
            run.codes.append(0 if good or not own else 1)
            say(f"quality: {entry.name}: {good} of {len(own)} answered")
        run.write()


async def _prepare(run: QualityRun, say: Say) -> None:
    """Makes the prompts, once for all."""
    plan = run.plan
    _folder(plan.out)
    made = await prepare(plan.scenario.workload, plan.out, plan.scenario.seed, True, _ended_steps(say))
    run.digest, run.body = made.digest, made.body
    run.questions = questions_of(plan.scenario.workload, made.prompts)[: plan.most]


async def _ask(run: QualityRun, name: str, server: Server) -> None:
    """Asks one topology everything. Raises UserError when it ends meanwhile."""
    ended = asyncio.ensure_future(server.ended)
    asking = asyncio.create_task(_each(run, name, server))
    try:
        await asyncio.wait((asking, ended), return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
            return
        log = log_of(run.plan.out, name)
        raise UserError(f"its server ended by itself (exit code {ended.result()}); see {log}", 3)
    finally:
        for task in (asking, ended):
            task.cancel()
        await asyncio.gather(asking, ended, return_exceptions=True)


async def _each(run: QualityRun, name: str, server: Server) -> None:
    plan = run.plan
    asked = plan.scenario.models
    by_share = isinstance(asked, Mapping)  # each of them is asked all, whatever its share
    models = tuple(matching(list(asked), server.models) if by_share else asked) or server.models
    extra = dict(_GREEDY) | ({} if plan.max_tokens is None else {"max_tokens": plan.max_tokens})
    prompts = Prompts(plan.out / run_files.PROMPTS, models, run.body, extra)
    path = plan.out / run_files.ANSWERS
    for model, shown in enumerate(models):
        for number, question in enumerate(run.questions):
            reply = await server.ask(prompts.path, prompts.body(number, model))
            answer = Answer(**asdict(reply), name=name, model=shown, question=question.id)
            run.answers.append(answer)
            _append(path, asdict(answer))


def log_of(out: Path, name: str) -> Path:
    """The log of a topology; those of a showdown in the same folder are not touched."""
    stem, dot, end = run_files.BACKEND_LOG.partition(".")
    return out / f"{stem}-{name}{dot}{end}"


def _ended_steps(say: Say) -> Callable[[StartStep], None]:
    """Says each step of a start once it has ended."""

    def on_step(step: StartStep) -> None:
        if step.state != "run":
            say(step_line(step))

    return on_step


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Each answer is kept as it comes, so that an end at any time loses none."""
    try:
        with path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise unwritable(path, error) from error


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


@asynccontextmanager
async def started(options: BackendOptions, log: Path, say: Say) -> AsyncIterator[Server]:
    """A topology of ours, which ends with the block. Raises TargetError."""
    backend = Backend(options, log, _ended_steps(say))
    try:
        url = await backend.start()
        info = await probe(url)
        async with Asker(url) as asker:
            yield Server(info.models, asker.ask, backend.wait())
    finally:
        await backend.stop()
