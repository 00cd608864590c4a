"""What servers and files say is shown as text: it acts on no terminal, pipe, file or screen."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rvtop.cli.app
from rvtop.contract.command import Stop
from rvtop.contract.snapshot import Snapshot, StartStep
from rvtop.lifecycle.health import health
from rvtop.plain import Narrator
from rvtop.scenario.load import ScenarioError, load_scenario
from rvtop.system.log_tail import last_lines
from rvtop.target.backend import Backend, BackendOptions
from rvtop.ui.app import RvtopApp
from tests.faults.sessions import Watched, content, request
from tests.mock.hostile import ACTS, MODEL, RAW, WAYS, HostileServer, evil

#: What the pages of the server name, as a snapshot has it.
NAMES = ("MODEL", "TOPOLOGY", "ENGINE", "LABEL", "NODE", "GPU", "GPUHOST", "RAYNODE", "DEPLOYMENT")
PHASE = {"name": "p", "rate": 20, "duration": "10m", "drain": "5s"}


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as running:
        yield running


def assert_safe(text: str, what: str) -> None:
    """No character of ``text`` acts on a terminal or hides."""
    for raw in RAW:
        assert raw not in text, f"{what} has {raw!r} beside {text[max(0, text.index(raw) - 60) :][:90]!r}"
    control = {char for char in text if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")} - {"\n"}
    assert not control, (what, control)


class Held:
    """A handle for the screen that shows one picture."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now = snapshot

    def snapshot(self) -> Snapshot:
        return self.now

    def send(self, command: object) -> None:
        """Nobody follows."""

    async def close(self) -> None:
        """Nothing to close."""


async def screen(snapshot: Snapshot, width: int, height: int, *keys: str) -> str:
    """What the dashboard draws of the picture."""
    app = RvtopApp(Held(snapshot))
    async with app.run_test(size=(width, height)) as pilot:
        async with asyncio.timeout(240):
            while not app.hears or app.live is None or app.live.snapshot is None:
                await pilot.pause(0.02)
        await pilot.press(*keys)
        await pilot.pause()
        return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def test_nothing_that_a_server_says_acts_on_lines_files_or_screen(
    server: HostileServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    narrator = Narrator(lines.append)
    watched = Watched(request(server.url, tmp_path / "run", PHASE))

    def all_is_told(s: Snapshot) -> bool:
        """Each page was read, and each way to answer came to its end: they are taken in turn, and end in any
        order."""
        ended = s.load.ok + sum(count for _, count in s.load.errors)
        return ended >= 4 * len(WAYS) and all(f"{name}\\\\x1b[2J" in repr(s) for name in NAMES)

    told = await watched.until(all_is_told, "all was told", limit_s=200.0)
    watched.send(Stop("quit"))
    for snapshot in watched.seen:
        narrator.look(snapshot)
    outcome = await watched.end()
    narrator.look(watched.now, last=True)
    assert set(server.models) == {MODEL}  # a request has the id as the server named it

    # What it said is there, as text.
    shown = repr(told)
    for name in NAMES:
        assert f"{name}\\\\x1b[2J" in shown, name
    assert "[bold red][link=x]" in told.target.models[0]
    rows = watched.rows()
    texts = " ".join(f"{row['error_text']} {row['finish']} {row['engine']} {row['server']}" for row in rows)
    for name in ("HTTP_ERROR", "STREAM_ERROR", "ODD_ERROR", "FINISH", "USAGE_ENGINE", "KEY", "VALUE"):
        assert name in texts, name

    # Plain lines, the report, and every file of the run but the prompts, which are the user's own.
    summed = rvtop.cli.app.app(["report", str(tmp_path / "run")], standalone_mode=False)
    assert not summed
    out, err = capfd.readouterr()
    assert "TOPOLOGY\\x1b[2J" in out
    assert_safe("\n".join(lines) + outcome.message, "plain lines")
    assert_safe(out, "the report")
    assert_safe(err, "stderr")
    for path in (tmp_path / "run").iterdir():
        if path.name != "prompts.jsonl":
            assert_safe(content(path).decode(), path.name)
            if path.suffix == ".json":
                assert_safe(repr(json.loads(path.read_text())), path.name)
    assert list(json.loads((tmp_path / "run/summary.json").read_text())["by_model"]) == list(
        told.target.models
    )

    # The screen, large and small, each panel zoomed.
    failed = replace(told, state="failed", message=outcome.message, steps=(StartStep("session", "run"),))
    for picture, size, keys in (
        (told, (160, 50), ()),
        (told, (80, 24), ()),
        (told, (120, 40), ("tab", "enter")),
        (failed, (120, 40), ()),
    ):
        drawn = await screen(picture, *size, *keys)
        assert_safe(drawn, f"the screen at {size} {keys}")
    for limited in (None, "late"):  # wide enough for the model's name, whatever the header says of the client
        wide = replace(told, load=replace(told.load, client_limited=limited))
        assert "MODEL\\x1b[2J" in await screen(wide, 240, 50)


async def test_what_a_refusal_quotes_of_a_server_is_text(
    server: HostileServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [
        "run",
        "--target",
        server.url,
        "--model",
        "other\x1b[2J",
        "--rate",
        "1",
        "--out",
        str(tmp_path / "x"),
    ]
    monkeypatch.setattr("sys.argv", ["rvtop", *words])
    assert await asyncio.to_thread(rvtop.cli.app.command) == 2
    out, err = capfd.readouterr()
    assert "MODEL\\x1b[2J" in err
    assert "[bold red]" in err
    assert err.count("\n") == 1
    assert_safe(out + err, "stderr")


def test_a_folder_of_somebody_else_is_reported_as_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    row = {
        "phase": evil("PHASE"), "model": evil("MODEL"), "error": evil("ERROR"), "intended_ns": 1,
        "sent_ns": 1, "first_token_ns": None, "last_token_ns": 5, "output_tokens": None,
        "prompt_tokens": None, "cached_tokens": None, "chunks": 0, "token_source": "chunks", "itl_hist": [],
    }  # fmt: skip
    around = {
        "name": evil("NAME"),
        "target": evil("URL"),
        "topology": evil("TOPOLOGY"),
        "started_at": "",
        "flags": {},
    }
    around["models"] = [evil("MODEL")]
    (tmp_path / "environment.json").write_text(json.dumps(around))
    (tmp_path / "requests.jsonl").write_text(json.dumps(row) + "\n")
    phase = {
        "at_ns": 0,
        "cmd": "phase",
        "index": 0,
        "name": evil("PHASE"),
        "warmup": False,
        "burst": 0,
        "duration_s": 1.0,
    }
    (tmp_path / "commands.jsonl").write_text(json.dumps(phase) + "\n")
    (tmp_path / "timeline.jsonl").write_text("")
    assert not rvtop.cli.app.app(["report", str(tmp_path)], standalone_mode=False)
    out, _ = capfd.readouterr()
    assert "ERROR\\x1b[2J" in out
    assert_safe(out, "the report")
    assert_safe((tmp_path / "summary.json").read_text(), "summary.json")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("name", 'name: "a\\e[2J"\n'),
        ("phases[0].name", 'name: a\nphases: [{name: "p\\u202e", rate: 1, duration: 1s}]\n'),
        ("phases[0].name", 'name: a\nphases: [{name: "p\\x9b2J", rate: 1, duration: 1s}]\n'),
        ("models[0]", 'name: a\nmodels: ["m\\u200b"]\n'),
    ],
)
def test_a_scenarios_names_hold_nothing_that_acts(tmp_path: Path, key: str, text: str) -> None:
    """Refused with file, line and key."""
    more = "" if "phases" in text else "phases: [{name: p, rate: 1, duration: 1s}]\n"
    path = tmp_path / "s.yaml"
    path.write_text(f"{text}workload: {{kind: synthetic, prompt_tokens: 5, output_tokens: 5}}\n{more}")
    with pytest.raises(ScenarioError) as refused:
        load_scenario(path)
    assert refused.value.key == key
    assert refused.value.line is not None
    assert "control or invisible character" in str(refused.value)
    assert_safe(str(refused.value), "the refusal")


async def test_what_a_backend_says_of_its_start_is_text(tmp_path: Path) -> None:
    steps: list[StartStep] = []
    log = tmp_path / "backend.log"
    log.write_text(f"first\n\x1b[32mlast{ACTS.replace(chr(0x2028), '')}".replace("\r", ""))
    backend = Backend(BackendOptions("baseline"), log, steps.append)
    reader = asyncio.StreamReader()
    events: list[dict[str, Any]] = [
        {"event": "step", "name": evil("STEP"), "state": "run", "detail": evil("DETAIL")},
        {"event": "error", "message": evil("WHY")},
    ]
    reader.feed_data("".join(json.dumps(event) + "\n" for event in events).encode())
    reader.feed_eof()

    class Ended:
        stdout = reader

        async def wait(self) -> int:
            return 4

    backend._process = Ended()  # type: ignore[assignment]
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await backend._read_events(ready)
    assert steps[0].name.startswith("STEP\\x1b[2J")
    assert "DETAIL\\x1b[2J" in steps[0].detail
    assert "WHY\\x1b[2J" in str(ready.exception())
    for text in (steps[0].name, steps[0].detail, str(ready.exception()), backend.log_tail(9)):
        assert_safe(text, "a step")
    assert last_lines(log, 1)[0].startswith("last\\x1b[2J")  # its colour is dropped


def test_what_health_answers_is_text() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Sick(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": {"message": evil("SICK")}}).encode()
            self.send_response(503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Sick) as made:
        thread = Thread(target=made.handle_request)
        thread.start()
        found = health(f"http://127.0.0.1:{made.server_port}")
        thread.join()
    assert "SICK\\x1b[2J" in found.message
    assert_safe(found.message, "health")
