"""What the Start screen finds on this machine; and each of its rows starts what its command line starts."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import rvtop.cli.app
import rvtop.cli.options
from backends.models.load import default_models
from rvtop.cli import dashboard, start_facts
from rvtop.contract.handle import Choice, ConnectFailed
from rvtop.contract.start import GpuRow, ModelRow, UpRow, command_line, model_options, report_line
from rvtop.doctor import gpus
from rvtop.doctor.gpus import Gpus
from rvtop.errors import UserError
from rvtop.lifecycle import state
from rvtop.lifecycle.processes import process
from rvtop.lifecycle.start_times import StartTimes
from rvtop.lifecycle.state import Deployment
from rvtop.session.request import Outcome, SessionRequest
from rvtop.settings.recent import remember_target
from rvtop.target.backend import BackendOptions
from rvtop.target.models import found_models
from rvtop.target.probe import TargetInfo

GIB = 2.0**30


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("RVTOP_SHARED", str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- what is found ---------------------------------------------------------------------------------


def test_on_an_empty_machine_there_are_topologies_and_the_tiny_model() -> None:
    facts = start_facts.look_around()
    assert facts.complete
    assert [offer.name for offer in facts.offers] == ["baseline", "rac", "rsc", "rvc", "rsv", "vllm", "graph"]
    assert facts.models == (ModelRow("tiny", "tiny", "built here", None, by_default=True),)
    assert (facts.up, facts.recent) == ((), ())
    assert (facts.machine.name, facts.machine.cores) == (platform.node(), os.cpu_count())
    assert facts.machine.ray == "no Ray cluster"


def test_the_models_are_those_that_a_backend_would_serve(here: Path) -> None:
    assert {m.name: m.source for m in found_models() if m.by_default} == default_models()
    for folder, size in (("qwen25_3b", 7), ("qwen25_1_5b_instruct", 5)):
        path = here / "shared" / "models" / folder
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"x" * size)
        (path / "config.json").write_text("{}")
        assert {m.name: m.source for m in found_models() if m.by_default} == default_models()
    assert [(m.name, m.size, m.by_default) for m in found_models()] == [
        *(("q3b", 7.0, True), ("q15b", 5.0, True), ("tiny", None, False)),
    ]


def test_what_is_up_is_listed_with_what_keeps_it_from_being_watched() -> None:
    now = time.time()
    up = {"state": "ready", "url": "http://127.0.0.1:9", "models": ("tiny",), "started_at": now - 60}
    for name, more in {"good": up, "new": {"state": "starting", "message": "weights: run"}}.items():
        deployment = Deployment(name=name, topology="rac", supervisor=process(os.getpid()), **more)  # type: ignore[arg-type]
        state.write(state.make_folder(name), deployment)
    state.write(state.make_folder("dead"), Deployment("dead", "rac", "ready", url="http://127.0.0.1:8"))
    good, new = start_facts.look_around().up
    assert (good.name, good.url, good.models, good.why) == ("good", "http://127.0.0.1:9", ("tiny",), "")
    assert good.up_s is not None
    assert good.up_s >= 60
    assert (new.name, new.url, new.why) == ("new", "", "weights: run")


def test_the_last_starts_are_those_of_this_topology() -> None:
    starts = StartTimes(BackendOptions("rac"), os.environ)
    starts.watch(lambda step: None)
    starts.keep(21.0)
    offers = {offer.name: offer.last_start_s for offer in start_facts.first_facts().offers}
    assert offers == {
        "baseline": None,
        "rac": 21.0,
        "rsc": None,
        "rvc": None,
        "rsv": None,
        "vllm": None,
        "graph": None,
    }


@pytest.mark.parametrize(
    ("used", "free", "note"),
    [
        ((90 * GIB, 1 * GIB), [False, True], ""),
        ((90 * GIB, 80 * GIB), [False, False], "no GPU is free"),
        ((), [None, None], ""),
    ],
)
def test_gpus_are_free_or_not(
    monkeypatch: pytest.MonkeyPatch, used: tuple[float, ...], free: list[bool | None], note: str
) -> None:
    two = Gpus("580.65", (13, 0), ("NVIDIA H200",) * 2, (141 * GIB,) * 2, used)
    monkeypatch.setattr(gpus, "probe", lambda: (two, ""))
    facts = start_facts.look_around()
    assert [gpu.free for gpu in facts.gpus] == free
    assert {offer.note for offer in facts.offers} == {note}
    assert facts.gpus[1] == GpuRow(1, "NVIDIA H200", used[1] if used else None, 141 * GIB)


def test_recent_are_servers_and_runs_whatever_lies_in_runs(here: Path) -> None:
    remember_target(os.environ, "http://gpu-b:8000")
    texts = {
        "good": json.dumps({"topology": "rac", "target": "http://a"}),
        "attached": json.dumps({"topology": None, "target": "http://b:1\x1b[2J"}),
        "broken": "{",
        "list": "[1]",
    }
    for number, (name, text) in enumerate(texts.items()):
        file = here / "runs" / name / "summary.json"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        os.utime(file, (1000.0 + number, 1000.0 + number))
    (here / "runs" / "unfinished").mkdir()
    rows = start_facts.look_around().recent
    assert [(row.name, row.about) for row in rows] == [
        ("http://gpu-b:8000", ""),
        *(("runs/list", ""), ("runs/broken", "")),
        *(("runs/attached", "http://b:1\\x1b[2J"), ("runs/good", "rac")),
    ]


def test_a_server_of_before_that_gives_no_answer_is_not_up(here: Path) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        remember_target(os.environ, url)
        assert [(row.url, row.why) for row in start_facts._targets(os.environ)] == [(url, "")]
    finally:
        server.shutdown()
        server.server_close()
    assert [(row.url, row.why) for row in start_facts._targets(os.environ)] == [(url, "not up")]


# -- a row is a command line -----------------------------------------------------------------------

MODELS = (ModelRow("q3b", "/m/q 3b", by_default=True), ModelRow("tiny", "tiny"))


@pytest.mark.parametrize(
    ("ticked", "options"),
    [
        ({"q3b"}, ()),
        (set(), ()),
        ({"tiny"}, ("tiny=tiny",)),
        ({"q3b", "tiny"}, ("q3b=/m/q 3b", "tiny=tiny")),
    ],
)
def test_models_are_named_where_they_are_not_those_by_default(ticked: set[str], options: object) -> None:
    assert model_options(MODELS, frozenset(ticked)) == options


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], SessionRequest]:
    """Runs the command line of ``argv`` where there is a terminal; the session that it asks for."""

    def run(argv: list[str]) -> SessionRequest:
        requests: list[SessionRequest] = []

        class Remote:
            outcome = Outcome(0)
            request: SessionRequest | None = None

            async def start(self, request: SessionRequest) -> Remote:
                self.request = request
                requests.append(request)
                return self

            def snapshot(self) -> None:
                return None

        async def screen(*_: object, **__: object) -> int:
            return 0

        monkeypatch.setattr(dashboard, "RemoteSession", Remote)
        monkeypatch.setattr(dashboard, "run_app_async", screen)
        for module in (rvtop.cli.app, rvtop.cli.options):
            monkeypatch.setattr(module, "no_screen", lambda: "")
        monkeypatch.setattr(sys, "argv", argv)
        assert rvtop.cli.app.command() == 0
        (request,) = requests
        return request

    return run


def same(request: SessionRequest) -> SessionRequest:
    """Without the folder, which is named after the time."""
    return replace(request, out=Path())


@pytest.mark.parametrize(
    "choice",
    [
        Choice(topology="rac"),
        Choice(topology="baseline", models=("q3b=/m/q 3b", "tiny=tiny")),
        Choice(url="http://127.0.0.1:9"),
        UpRow("x", "http://127.0.0.1:9", "rac", ("q3b", "it's")).choice,
    ],
    ids=["topology", "with models", "url", "up"],
)
async def test_what_is_chosen_is_what_its_command_line_starts(
    choice: Choice, asked: Callable[[list[str]], SessionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[BackendOptions] = []

    async def probed(url: str, *_: object) -> TargetInfo:
        return TargetInfo(url, choice.models or ("only",), "rac", "hf")

    monkeypatch.setattr(dashboard, "check_backend", lambda options: checked.append(options))
    monkeypatch.setattr(dashboard, "probe", probed)
    monkeypatch.setattr("rvtop.target.probe.probe", probed)
    started: list[SessionRequest] = []

    class Remote:
        async def start(self, request: SessionRequest) -> Remote:
            started.append(request)
            return self

    monkeypatch.setattr(dashboard, "RemoteSession", Remote)
    await dashboard._connect(choice)
    from_shell = await in_thread(lambda: asked(shlex.split(command_line(choice))))
    assert same(started[0]) == same(from_shell)
    assert len(checked) == (2 if choice.topology else 0)
    backend = started[0].backend
    assert (backend.topology, backend.models) == (choice.topology, choice.models) if backend else choice.url


async def in_thread(call: Callable[[], Any]) -> Any:
    """The command line has an event loop of its own."""
    import asyncio

    return await asyncio.to_thread(call)


async def test_options_that_a_backend_refuses_are_told_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(options: BackendOptions) -> None:
        raise UserError(f"{options.models[0]}: no such folder")

    monkeypatch.setattr(dashboard, "check_backend", refuse)
    with pytest.raises(ConnectFailed, match="q3b=/gone: no such folder"):
        await dashboard._connect(Choice(topology="rac", models=("q3b=/gone",)))


def test_a_run_is_reported() -> None:
    assert shlex.split(report_line("runs/it's here")) == ["rvtop", "report", "runs/it's here"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--topology", "abc"], "--topology abc: unknown; known are: baseline, rac, rsc, rvc"),
        (["--model", "a=b"], "--model goes with --topology NAME here"),
        (["--topology", "rac", "ps"], "--topology stands behind the command: rvtop ps"),
        (["--model", "a=b", "ps"], "--model stands behind the command: rvtop ps"),
    ],
)
def test_options_without_a_command(
    argv: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rvtop", *argv])
    monkeypatch.setattr(rvtop.cli.app, "no_screen", lambda: "")
    assert rvtop.cli.app.command() == 2
    assert capsys.readouterr().err.startswith(f"rvtop: {says}")
