"""A quality check with topologies that answer from a table: what is asked, kept, compared and told."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from rvtop.cli.quality import report_quality
from rvtop.errors import UserError
from rvtop.results.answers import Reply
from rvtop.results.html.quality import quality_page
from rvtop.results.quality import quality_of_run, read_quality, text_lines
from rvtop.session.request import find
from rvtop.study.asking import Asker
from rvtop.study.entries import entries
from rvtop.study.quality import QualityPlan, QualityRun, Server, ask_all
from rvtop.study.turns import Say, write_study
from rvtop.target.backend import BackendOptions
from tests.conftest import Rvtop

SCENARIO = """\
name: asked
workload: {kind: rag, where: server, questions: questions.jsonl, max_tokens: 8, ignore_eos: true}
phases: [{name: hold, rate: 1, duration: 1s}]
"""
QUESTIONS = ("재택근무는 며칠인가요?", "How large is a home directory?")

Answers = Callable[[dict[str, Any]], Reply | Exception]


def plan(folder: Path, *names: str, text: str = SCENARIO, **more: Any) -> QualityPlan:
    (folder / "asked.yaml").write_text(text)
    rows = [{"question": question, "answer": "500 gigabytes"} for question in QUESTIONS]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scenario = find(str(folder / "asked.yaml"))
    return QualityPlan(scenario, entries(names), "rac", folder / "out", **more)


class Topologies:
    """Topologies that are up at once; ``answers`` by topology, ``asked`` the bodies that came, ``up`` those
    that have not been ended."""

    def __init__(self, answers: dict[str, Answers], models: tuple[str, ...] = ("m",)) -> None:
        self.answers, self.models = answers, models
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.up: set[str] = set()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def start(self, options: BackendOptions, log: Path, say: Say) -> AsyncIterator[Server]:
        async def ask(path: str, body: bytes) -> Reply:
            self.asked.append((options.topology, path, json.loads(body)))
            reply = self.answers[options.topology](json.loads(body))
            if isinstance(reply, Exception):
                if isinstance(reply, EOFError):  # it ends while it answers
                    self.ended.set_result(9)
                    await asyncio.Event().wait()
                raise reply
            return reply

        self.up.add(options.topology)
        try:
            yield Server(self.models, ask, self.ended)
        finally:
            self.up.discard(options.topology)


def fine(options: BackendOptions) -> None:
    """Refuses nothing."""


def silent(text: str) -> None:
    """Says nothing."""


def always(text: str, finish: str = "stop") -> Answers:
    return lambda body: Reply(text, finish, 3)


async def test_every_topology_is_asked_the_same_greedily_and_one_at_a_time(tmp_path: Path) -> None:
    topologies = Topologies({"rac": always("a b"), "baseline": always("a c", "length")}, ("m1", "m2"))
    run = QualityRun(plan(tmp_path, "rac", "baseline", max_tokens=5))
    await ask_all(run, topologies.start, fine, silent)
    assert topologies.up == set()
    assert run.exit_code == 0
    bodies = [body for name, _, body in topologies.asked if name == "rac"]
    assert bodies == [body for name, _, body in topologies.asked if name == "baseline"]
    assert [body["model"] for body in bodies] == ["m1", "m1", "m2", "m2"]
    assert [body["messages"][-1]["content"] for body in bodies[:2]] == list(QUESTIONS)
    first = {
        key: value for key, value in bodies[0].items() if key not in ("model", "messages", "stream_options")
    }
    assert first == {"max_tokens": 5, "temperature": 0, "stream": True, "rag": {"top_k": 4}}
    found = read_quality(tmp_path / "out")
    assert found is not None
    assert found["retrieval"] == {"known": 0, "hit": 0}  # the server retrieves: it is not seen here
    row = found["rows"][2]
    assert (row["name"], row["model"], row["compared"], row["identical"]) == ("baseline", "m1", 2, 0)
    assert (row["overlap_mean"], row["first_divergence_median"], row["cut_off"]) == (0.5, 1, 2)
    kept = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [(one["name"], one["model"], one["text"]) for one in kept[::2]] == [
        ("rac", "m1", "a b"),
        ("rac", "m2", "a b"),
        ("baseline", "m1", "a c"),
        ("baseline", "m2", "a c"),
    ]


async def test_what_was_retrieved_is_judged_where_the_prompt_holds_it(tmp_path: Path) -> None:
    from rvtop.study.questions import questions_of

    asked = plan(tmp_path, "rac", text=SCENARIO.replace("where: server", "where: client"))
    prompts = tmp_path / "prompts.jsonl"
    contexts = ("nothing of it", "Each holds 500\n gigabytes.")
    rows = [{"id": "q", "messages": [{"role": "user", "content": context}]} for context in contexts]
    prompts.write_text("\n".join(map(json.dumps, rows)))
    found = questions_of(asked.scenario.workload, prompts)
    assert [(one.id, one.text, one.hit) for one in found] == [
        ("q", QUESTIONS[0], False),
        ("q (2)", QUESTIONS[1], True),
    ]


async def test_one_that_does_not_start_or_ends_does_not_keep_the_next_from_its_turn(tmp_path: Path) -> None:
    def ends(body: dict[str, Any]) -> Reply | Exception:
        return EOFError() if body["messages"][-1]["content"] == QUESTIONS[1] else Reply("a", "stop", 1)

    def check(options: BackendOptions) -> None:
        if options.topology == "rsc":
            raise UserError("ray is not installed")

    topologies = Topologies({"baseline": ends, "rac": always("a")})
    run = QualityRun(plan(tmp_path, "rsc", "baseline", "rac"))
    said: list[str] = []
    topologies_up = topologies.up

    @asynccontextmanager
    async def start(options: BackendOptions, log: Path, say: Say) -> AsyncIterator[Server]:
        if topologies.ended.done():
            topologies.ended = asyncio.get_running_loop().create_future()
        async with topologies.start(options, log, say) as server:
            yield server

    await ask_all(run, start, check, said.append)
    assert topologies_up == set()
    assert run.reasons["rsc"] == "ray is not installed"
    assert "its server ended by itself (exit code 9); see" in run.reasons["baseline"]
    assert "backend-baseline.log" in run.reasons["baseline"]
    assert "rac" not in run.reasons
    assert run.exit_code == 3
    assert said[-1] == "quality: rac: 2 of 2 answered"
    found = read_quality(tmp_path / "out")
    assert found is not None
    assert [(row["name"], row["asked"], row["compared"]) for row in found["rows"]] == [
        ("baseline", 1, 1),
        ("rac", 2, 0),
    ]


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.ENOSPC, 5)])
async def test_a_folder_that_takes_nothing_ends_it_with_the_exit_code_of_every_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def refused(self: Path, *args: Any, **more: Any) -> None:
        raise OSError(number, os.strerror(number))

    run = QualityRun(plan(tmp_path, "rac", "baseline"))
    with monkeypatch.context() as patch:

        def full(body: dict[str, Any]) -> Reply:
            for name in ("open", "write_text"):  # from the first answer on
                patch.setattr(Path, name, refused)
            return Reply("a", "stop", 1)

        topologies = Topologies({"rac": full, "baseline": full})
        with pytest.raises(UserError, match=r"answers\.jsonl: can't be written: .*; ") as quality:
            await ask_all(run, topologies.start, fine, silent)
        with pytest.raises(UserError, match=r"showdown\.json: can't be written: .*; ") as study:
            write_study(tmp_path / "showdown.json", {})
    assert (quality.value.exit_code, study.value.exit_code) == (code, code)
    assert {name for name, *_ in topologies.asked} == {"rac"}


async def test_none_that_starts_and_none_that_answers_have_their_exit_codes(tmp_path: Path) -> None:
    def refused(options: BackendOptions) -> None:
        raise UserError("no")

    run = QualityRun(plan(tmp_path, "rac"))
    await ask_all(run, Topologies({}).start, refused, silent)
    assert run.exit_code == 4
    failing = QualityRun(plan(tmp_path, "rac"))
    topologies = Topologies({"rac": lambda body: Reply(error="http_500", error_text="no")})
    await ask_all(failing, topologies.start, fine, silent)
    assert failing.exit_code == 1
    assert failing.result()["rows"][0]["errors"] == {"http_500": 2}


async def test_a_cancelled_check_ends_its_topology_and_keeps_its_answers(tmp_path: Path) -> None:
    asking: asyncio.Task[None]

    def stops(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == QUESTIONS[1]:
            asking.cancel()
        return Reply("a", "stop", 1)

    topologies = Topologies({"rac": stops})
    run = QualityRun(plan(tmp_path, "rac", "baseline"))
    asking = asyncio.create_task(ask_all(run, topologies.start, fine, silent))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert topologies.up == set()
    assert (tmp_path / "out" / "answers.jsonl").read_text().count("\n") == len(run.answers) >= 1


async def test_the_table_and_the_page_show_what_differs_and_nothing_of_a_server_raw(tmp_path: Path) -> None:
    nasty = "<b>a</b> \x1b[31mred"
    topologies = Topologies({"rac": always("a b"), "baseline": always(nasty)})
    run = QualityRun(plan(tmp_path, "rac", "baseline"))
    await ask_all(run, topologies.start, fine, silent)
    found = read_quality(tmp_path / "out")
    assert found is not None
    lines = text_lines(found)
    assert lines[0] == "2 questions of asked; retrieved contexts: --"
    assert lines[2].split() == ["rac", "(reference)", "m", "2/2", *["--"] * 4, "0", "0", "1/2", "2", "3"]
    assert lines[3].split()[:4] == ["baseline", "m", "2/2", "0/2"]
    assert "2 of the answers differ from rac's; the least alike:" in lines
    page = quality_page(found)
    assert "\x1b" not in "\n".join(lines) + page
    assert "<b>a" not in page
    assert "&lt;b&gt;a" in page
    folder = tmp_path / "out" / "rac"
    folder.mkdir()
    assert quality_of_run(folder) == found  # a run of the same study
    (tmp_path / "out" / "quality.json").write_text('{"rows": [{"name": 1}]}')
    assert read_quality(tmp_path / "out") is None


async def test_a_quality_folder_is_reported_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = QualityRun(plan(tmp_path, "rac"))
    await ask_all(run, Topologies({"rac": always("a")}).start, fine, silent)
    assert report_quality(tmp_path / "out", tmp_path / "page.html")
    assert "2 questions of asked" in capsys.readouterr().out
    assert "Quality: asked" in (tmp_path / "page.html").read_text()
    assert not report_quality(tmp_path, None)


STREAM = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"\xeb\x91\x90 "},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"days"},"finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
)
COMPLETION = b'data: {"choices":[{"index":0,"text":"two","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
NOTHING = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda request: httpx.Response(200, content=STREAM), Reply("두 days", "length", 7)),
        (lambda request: httpx.Response(200, content=COMPLETION), Reply("two", "stop")),
        (lambda request: httpx.Response(200, content=NOTHING), Reply("", "stop")),
        (
            lambda request: httpx.Response(500, content=b"out\nof memory"),
            Reply(error="http_500", error_text="out of memory"),
        ),
        (unreachable, Reply(error="refused", error_text="refused")),
        (
            lambda request: httpx.Response(200, content=b"<html>"),
            Reply(error="bad_stream", error_text="the body holds no server-sent event: b'<html>'"),
        ),
    ],
)
async def test_an_answer_is_read_as_the_load_reads_it(
    answer: Callable[[httpx.Request], httpx.Response], expected: Reply
) -> None:
    async with Asker("http://server", httpx.MockTransport(answer)) as asker:
        assert await asker.ask("/v1/chat/completions", b"{}") == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--limit", "0"), "--limit 0: must be 1 or more"),
        (("--max-tokens", "0"), "--max-tokens 0: must be 1 or more"),
        (("--topologies", "nope"), "--topologies: 'nope' is unknown"),
        (("--topologies", "rac", "--reference", "rsc"), "--reference rsc: is not among what runs: rac"),
        (("--ui", "dashboard"), "--ui dashboard: must be plain or none"),
        (("--out", "run"), "--out run: holds a run"),
        (("--out", "checked"), "--out checked: holds a quality check already"),
    ],
)
def test_what_can_not_be_asked_is_refused_in_one_line(
    rvtop_here: Rvtop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("run/requests.jsonl", "checked/answers.jsonl"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    code, out, err = rvtop_here("quality", "smoke", *words)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
