"""Bad input at the command line: one line that says what, where and how to mend it; nothing left behind."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import rvtop.cli.app
import rvtop.target.probe
from tests.mock.faulty import refusing_port
from tests.unit.processes import children

#: Path of /v1/models below the server -> what it answers.
ANSWERS: dict[str, tuple[int, bytes]] = {
    "one": (200, b'{"object":"list","data":[{"id":"m1","owned_by":"x"}]}'),
    "two": (200, b'{"object":"list","data":[{"id":"m1"},{"id":"m2"}]}'),
    "many": (200, json.dumps({"data": [{"id": f"m{n}"} for n in range(500)]}).encode()),
    "html": (200, b"<html>hello</html>"),
    "absent": (404, b"not here"),
    "moved": (307, b""),
    "empty": (200, b'{"data":[]}'),
    "named": (200, b'{"data":{"id":"m1"}}'),
    "texts": (200, b'{"data":["id"]}'),
    "null": (200, b"null"),
    "locked": (401, b'{"error":{}}'),
}


class Servers:
    """One server for each answer, by name."""

    def __init__(self) -> None:
        self._running: dict[str, socketserver.TCPServer] = {}

    def url(self, name: str) -> str:
        """Its base URL."""
        if name not in self._running:
            status, body = ANSWERS[name]

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    here = self.path == "/v1/models"
                    self.send_response(status if here else 404)
                    self.send_header("content-length", str(len(body) if here else 0))
                    self.end_headers()
                    self.wfile.write(body if here else b"")

                def log_message(self, *args: object) -> None: ...

            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self._running[name] = server
        return f"http://127.0.0.1:{self._running[name].server_address[1]}"

    def close(self) -> None:
        for server in self._running.values():
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()


class Talker(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


class Mute(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)
        self.request.recv(65536)  # until the client gives up


@pytest.fixture(scope="module")
def odd_servers() -> Iterator[dict[str, str]]:
    running = [socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) for handler in (Talker, Mute)]
    for server in running:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    names = ("ssh", "mute")
    yield {n: f"http://127.0.0.1:{s.server_address[1]}" for n, s in zip(names, running, strict=True)}
    for server in running:
        server.shutdown()
        server.server_close()


GOOD = "name: x\nworkload: {kind: synthetic, prompt_tokens: 5, output_tokens: 5}\n"
FILES = {
    "typo.yaml": GOOD + "phases:\n  - {name: a, rate: 1, duratoin: 5s}\n",
    "impossible.yaml": GOOD + "phases:\n  - {name: a, rate: -4, duration: 5s}\n",
    "yaml.yaml": GOOD + "phases: [\n",
    "binary.yaml": "name: \x00\n",
    "good.yaml": GOOD + "phases:\n  - {name: a, rate: 50, duration: 5s}\n",
    "noprompts.yaml": "name: x\nworkload: {kind: prompts, file: gone.jsonl}\nphases:\n"
    "  - {name: a, rate: 1, duration: 5s}\n",
    "damaged.yaml": "name: x\nworkload: {kind: prompts, file: damaged.jsonl}\nphases:\n"
    "  - {name: a, rate: 1, duration: 5s}\n",
    "damaged.jsonl": '{"prompt":"a"}\n{"prompt":\n',
    "server.yaml": "name: x\nworkload: {kind: rag, where: server}\nphases:\n"
    "  - {name: a, rate: 1, duration: 5s}\n",
    "afile": "",
    "pair.yaml": "name: pair\nmodels: [a, b]\n" + GOOD[8:] + "phases:\n  - {name: a, rate: 1, duration: 5}\n",
    "flood.yaml": GOOD + "phases:\n  - {name: flood, rounds: {sizes: [100000]}}\n",
    "fifoprompts.yaml": "workload: {kind: prompts, file: fifo.txt}\nphases:\n"
    "  - {name: a, rate: 1, duration: 5}\n",
    "fifotrace.yaml": "workload: {kind: trace, file: fifo.csv}\nphases:\n  - {name: a, trace: {}}\n",
    "fifoquestions.yaml": "workload: {kind: rag, questions: fifo.txt}\nphases:\n"
    "  - {name: a, rate: 1, duration: 5}\n",
    "loopprompts.yaml": "workload: {kind: prompts, file: loop.txt}\nphases:\n"
    "  - {name: a, rate: 1, duration: 5}\n",
    "arun/requests.jsonl": "precious\n",
    "arun/prompts.jsonl": "precious\n",
}
STEADY = "run --rate 5 --duration 1s"

#: name -> (arguments, exit code, what the line must say). {name} is a server's URL.
REFUSED: dict[str, tuple[str, int, str]] = {
    "unknown command": ("fly", 2, "fly"),
    "unknown option": ("run smoke --rat 5", 2, "--rat"),
    "unknown option of a command": ("replay --rat x", 2, "(rvtop replay --help lists what there is)"),
    "option of a topology": (
        "run smoke --topology baseline --max-num-seqs 8",
        2,
        '--max-num-seqs (a topology\'s own: --backend-options "--max-num-seqs …"; rvtop run --help lists',
    ),
    "port that is no number": ("attach 127.0.0.1:80x", 2, "not a URL (a port is a number up to 65535)"),
    "argument that is missing": ("deploy k8s", 2, "(rvtop deploy k8s --help lists what there is)"),
    "option without value": ("run smoke --target", 2, "--target"),
    "no terminal": ("", 2, "the dashboard needs a terminal"),
    "unknown topology": ("run smoke --topology nope", 2, "--topology nope: unknown; known are: baseline"),
    "loop, and a number": ("showdown smoke --loop --repeat 3", 2, "--loop runs without end"),
    "showdown of none": ("showdown smoke --repeat 0", 2, "--repeat 0: must be 1 or more"),
    "showdown drawn how": ("showdown smoke --ui pretty", 2, "--ui pretty: must be dashboard, plain or none"),
    "dtype of a showdown": ("showdown smoke --dtype int3", 2, "--dtype int3: must be one of auto"),
    "threads of a showdown": ("showdown smoke --threads 0", 2, "--threads 0: must be 1 or more"),
    "demo of all, and of one": ("demo --all --topology rac", 2, "demo --all runs every topology in turn"),
    "demo of an unknown topology": ("demo --topology nope", 2, "--topology nope: unknown"),
    "target and topology": ("run smoke --target {one} --topology baseline", 2, "either --target"),
    "neither target nor topology": ("run smoke", 2, "either --target URL or --topology NAME"),
    "scenario and rate": ("run smoke --rate 5 --target {one}", 2, "either a scenario"),
    "neither scenario nor rate": ("run --target {one}", 2, "either a scenario"),
    "wrong ui": ("run smoke --target {one} --ui x", 2, "--ui x: must be dashboard, plain or none"),
    "negative rate": ("run --rate -1 --target {one}", 2, "rate"),
    "rate that is none": ("run --rate nan --target {one}", 2, "rate"),
    "rate that is no number": ("run --rate fast --target {one}", 2, "--rate"),
    "endless rate": ("run --rate inf --target {one}", 2, "rate"),
    "no such unit": (
        "run --rate 1 --duration 5sec --target {one}",
        2,
        "rvtop: --duration: unknown unit 'sec' in '5sec'",
    ),
    "duration in part without unit": (
        "run --rate 1 --duration 1m30 --target {one}",
        2,
        "rvtop: --duration: 30 in '1m30' needs a unit",
    ),
    "no duration": (
        "run --rate 1 --duration 0 --target {one}",
        2,
        "rvtop: --duration: must be longer than 0",
    ),
    "no such arrivals": ("run --rate 1 --arrivals magic --target {one}", 2, "rvtop: --arrivals: must be"),
    "burstiness without gamma": ("run --rate 1 --burstiness 2 --target {one}", 2, "rvtop: --burstiness: is"),
    "no tokens": ("run --rate 1 --prompt-tokens 0 --target {one}", 2, "rvtop: --prompt-tokens: must be ≥ 1"),
    "no answer": ("run --rate 1 --output-tokens 0 --target {one}", 2, "rvtop: --output-tokens: must be ≥ 1"),
    "negative seed": ("run --rate 1 --seed -1 --target {one}", 2, "rvtop: --seed: must be ≥ 0"),
    "step of no length": (
        "run smoke --find-max --slo ttft_p99=9 --step x --target {one}",
        2,
        "rvtop: --step x: must be a time",
    ),
    "hold of no length": (
        "run smoke --find-max --slo ttft_p99=9 --hold 0 --target {one}",
        2,
        "rvtop: --hold 0: must be",
    ),
    "stop when saturated in a search": (
        "run smoke --find-max --slo ttft_p99=9 --stop-when-saturated --target {one}",
        2,
        "--stop-when-saturated goes not with --find-max, which steps beyond what the server holds",
    ),
    "probe rate of none": (
        f"{STEADY} --probe-rate 0 --target {{one}}",
        2,
        "--probe-rate 0: must be a number",
    ),
    "probe rate of a load": (
        f"{STEADY} --probe-rate 21 --target {{one}}",
        2,
        "--probe-rate 21: must be 20 at most, or it is a load",
    ),
    "warm-up by time": (
        f"{STEADY} --exclude-warm-up 5s --target {{one}}",
        2,
        "--exclude-warm-up 5s: must be auto or none",
    ),
    "time to stop that is none": ("down --timeout soon", 2, "rvtop: --timeout soon: must be a time"),
    "open quotation mark": (
        "run smoke --topology rac --backend-options '--threads",
        2,
        "--backend-options: No closing quotation",
    ),
    "model of no name": (
        "run smoke --topology rac --model =tiny",
        2,
        "rvtop: --model '=tiny': write NAME=SOURCE",
    ),
    "model of no source": ("run smoke --topology rac --model a=", 2, "--model 'a=': write NAME=SOURCE"),
    "two models of one name": (
        "run smoke --topology rvc --model a=tiny --model a=owner/name",
        2,
        "the name 'a' is given twice",
    ),
    "model that is not there": (
        "run smoke --topology rac --model a=tiny --model b=/gone/model",
        2,
        "--model b: there is no model '/gone/model'",
    ),
    "demo of a model that is not there": ("demo --model b=/gone/model", 2, "--model b: there is no model"),
    "option of another topology": (
        "run smoke --topology rac --engine-arg a=b",
        2,
        "--engine-arg",
    ),
    "API servers of a topology without them": (
        "run smoke --topology rvc --api-server-count 2",
        2,
        "--api-server-count is for vLLM's own server: topology rvc does not run it (vllm does)",
    ),
    "front processes of a topology without them": (
        "run smoke --topology vllm --front-processes 2",
        2,
        "--front-processes is for topology rvc: vllm has --api-server-count",
    ),
    "no front process": (
        "run smoke --topology rvc --front-processes 0",
        2,
        "--front-processes 0: must be a whole number of at least 1, or auto",
    ),
    "no API server": (
        "run smoke --topology vllm --api-server-count 0",
        2,
        "--api-server-count 0: must be at least 1",
    ),
    "a front end for a server that runs": (
        "run smoke --target {one} --rust-frontend",
        2,
        "rvtop: --rust-frontend goes with --topology, not with --target",
    ),
    "scenario with a model that is not given": (
        "run pair.yaml --topology rac --model a=tiny",
        2,
        "scenario pair: models: names b, and what starts would serve a; add --model b=PATH",
    ),
    "scenario with models, none given": (
        "run pair.yaml --topology baseline --model tiny",
        2,
        "names a, b, and what starts would serve tiny; add --model a=PATH --model b=PATH",
    ),
    "model named twice": (
        f"{STEADY} --target {{two}} --model m1 --model m1",
        2,
        "--model m1: is given twice",
    ),
    "many models left open": (
        f"{STEADY} --target {{many}}",
        2,
        "name one or more with --model: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, … and 490 more\n",
    ),
    "wrong model of many": (
        f"{STEADY} --target {{many}} --model x",
        2,
        "it serves: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, … and 490 more\n",
    ),
    "empty key file": (
        f"{STEADY} --api-key-file afile --target {{one}}",
        2,
        "--api-key-file afile: holds no key",
    ),
    "key file that is a FIFO": (
        f"{STEADY} --api-key-file fifo.txt --target {{one}}",
        2,
        "--api-key-file fifo.txt: can't be read: not a regular file",
    ),
    "header file that is a FIFO": (
        f"{STEADY} --header-file fifo.txt --target {{one}}",
        2,
        "--header-file fifo.txt: can't be read: not a regular file",
    ),
    "authority that is a FIFO": (
        f"{STEADY} --ca fifo.txt --target https://127.0.0.1:9",
        2,
        "--ca fifo.txt: can't be read: not a regular file",
    ),
    "certificate that is a FIFO": (
        f"{STEADY} --cert fifo.txt --target https://127.0.0.1:9",
        2,
        "--cert fifo.txt: can't be read: not a regular file",
    ),
    "scenario that is a FIFO": (
        "run fifo.txt --target {one}",
        2,
        "fifo.txt: can't read it: not a regular file",
    ),
    "prompts that are a FIFO": ("run fifoprompts.yaml --target {one}", 2, "fifo.txt: not a regular file"),
    "trace that is a FIFO": ("run fifotrace.yaml --target {one}", 2, "fifo.csv: not a regular file"),
    "questions that are a FIFO": ("run fifoquestions.yaml --target {one}", 2, "fifo.txt: not a regular file"),
    "scenario that is a loop of links": (
        "run loop.txt --target {one}",
        2,
        "loop.txt: can't read it: Too many levels of symbolic links",
    ),
    "prompts that are a loop of links": (
        "run loopprompts.yaml --target {one}",
        2,
        "loop.txt: Too many levels of symbolic links",
    ),
    "scenario whose name no file can have": (f"run {'x' * 5000} --target {{one}}", 2, "File name too long"),
    "more at once than connections": (
        "run flood.yaml --target {one} --out r",
        2,
        "phase flood asks for 100,000 requests at once, and the load workers here hold",
    ),
    "rate beyond all connections": (
        "run --rate 1e6 --duration 1 --target {one} --out r",
        2,
        "phase steady asks for 1,000,000 requests a second, and the load workers here hold",
    ),
    "no workers": (
        f"{STEADY} --workers 0 --target {{one}}",
        2,
        "--workers 0: must be a number",
    ),
    "no time to connect": (f"{STEADY} --connect-timeout 0 --target {{one}}", 2, "--connect-timeout 0"),
    "endless time to connect": (
        f"{STEADY} --connect-timeout inf --target {{one}}",
        2,
        "--connect-timeout inf",
    ),
    "no number of seconds": (f"{STEADY} --ttft-timeout nan --target {{one}}", 2, "--ttft-timeout nan"),
    "negative stall": (f"{STEADY} --stall-timeout -1 --target {{one}}", 2, "--stall-timeout -1"),
    "a scenario has its own times": (
        "run good.yaml --duration 5m --target {one} --out r",
        2,
        "--duration goes with --rate",
    ),
    "and its own lengths": (
        "run good.yaml --output-tokens 5 --target {one} --out r",
        2,
        "--output-tokens goes with",
    ),
    "pairs with what is no server": ("ab {one} nowhere --out r", 2, "nowhere: neither a URL nor the name of"),
    "pairs with a dead URL": ("ab {one} {dead} --out r", 3, "connection refused"),
    "pairs of an unknown figure": ("ab {one} {one} --figure p99 --out r", 2, "--figure p99: must be one of"),
    "pairs by a scenario and a rate": ("ab {one} {one} --scenario smoke --rate 5", 2, "--scenario or --rate"),
    "pairs in rounds": ("ab {one} {one} --scenario paper-rounds", 2, "has no rate"),
    "pairs from Ray": ("ab {one} {one} --workers ray:2 --out r", 2, "--workers ray:N"),
    "fewer than no pairs": ("ab {one} {one} --same -1 --out r", 2, "--same -1"),
    "no greatest rate": (f"{STEADY} --max-rate 0 --target {{one}}", 2, "--max-rate 0"),
    "rate above the greatest": (
        "run good.yaml --max-rate 5 --target {one} --out r",
        2,
        "phase a asks for 50 requests",
    ),
    "no such key file": (f"{STEADY} --api-key-file gone --target {{one}}", 2, "--api-key-file gone"),
    "no such scenario": ("run smok --target {one}", 2, "did you mean smoke?"),
    "no such scenario file": ("run gone.yaml --target {one}", 2, "gone.yaml"),
    "scenario that is a folder": ("run arun/ --target {one}", 2, "is a folder"),
    "scenario with a typo": (
        "run typo.yaml --target {one}",
        2,
        "typo.yaml:4: phases[0].duratoin: unknown key",
    ),
    "scenario out of range": ("run impossible.yaml --target {one}", 2, "impossible.yaml:4: phases[0].rate"),
    "scenario that is no YAML": ("run yaml.yaml --target {one}", 2, "yaml.yaml:4: not YAML"),
    "scenario that is no text": ("run binary.yaml --target {one}", 2, "binary.yaml:1: not YAML"),
    "scenario check": ("scenario check typo.yaml", 2, "typo.yaml:4"),
    "scenario without its prompts": (
        "run noprompts.yaml --target {one}",
        2,
        "noprompts.yaml:2: workload.file",
    ),
    "damaged prompts": ("run damaged.yaml --target {one} --out r", 2, "damaged.jsonl:2: not JSON"),
    "retrieval by a server that has none": ("run server.yaml --target {one} --out r", 2, "where: client"),
    "folder of another run": (f"{STEADY} --target {{one}} --out arun", 2, "arun: holds a run already"),
    "folder that is a file": (f"{STEADY} --target {{one}} --out afile", 2, "--out afile: afile is a file"),
    "folder in a file": (f"{STEADY} --target {{one}} --out afile/x", 2, "--out afile/x: afile is a file"),
    "no URL": (f"{STEADY} --target ftp://x", 2, "not an http URL"),
    "port out of range": (f"{STEADY} --target http://127.0.0.1:99999", 2, "not a URL"),
    "impossible host": (f"{STEADY} --target http://{'a' * 70}.example", 2, "no host can have that name"),
    "dead URL": (f"{STEADY} --target {{dead}}", 3, "connection refused"),
    "attach to a dead URL": ("attach {dead}", 3, "connection refused"),
    "host that is none": (f"{STEADY} --target http://nowhere.invalid", 3, "can't be reached"),
    "page instead of a list": (f"{STEADY} --target {{html}}", 3, "not an OpenAI-compatible server"),
    "no such page": (f"{STEADY} --target {{absent}}", 3, "HTTP 404"),
    "moved": (f"{STEADY} --target {{moved}}", 3, "HTTP 307"),
    "no models": (f"{STEADY} --target {{empty}}", 3, "no list of models"),
    "models that are no list": (f"{STEADY} --target {{named}}", 3, "no list of models"),
    "models that are texts": (f"{STEADY} --target {{texts}}", 3, "no list of models"),
    "null": (f"{STEADY} --target {{null}}", 3, "no list of models"),
    "locked": (f"{STEADY} --target {{locked}}", 3, "needs an API key (HTTP 401); set RVTOP_API_KEY"),
    "what is no HTTP": (f"{STEADY} --target {{ssh}}", 3, "not HTTP"),
    "server that says nothing": (f"{STEADY} --target {{mute}}", 3, "no answer within"),
    "wrong model": (f"{STEADY} --target {{one}} --model gpt", 2, "serves no model 'gpt'; it serves: m1"),
    "model left open": (f"{STEADY} --target {{two}}", 2, "name one or more with --model: m1, m2"),
    "attach, model left open": ("attach {two}", 2, "name one or more with --model: m1, m2"),
    "replay at a speed that is none": ("replay gone --speed 3", 2, "--speed 3: must be one of 0.25, 0.5, 1,"),
    "report of nothing": ("report gone", 2, "gone: no such folder; give the folder of a run"),
    "report of a damaged run": ("report arun", 2, "environment.json is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_line(
    name: str,
    servers: Servers,
    odd_servers: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments, code, says = REFUSED[name]
    for file, text in FILES.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    for fifo in ("fifo.txt", "fifo.csv"):
        os.mkfifo(tmp_path / fifo)
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    running = children()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rvtop.target.probe, "_PROBE_TIMEOUT_S", 0.5 if "{mute}" in arguments else 20.0)
    with refusing_port() as port:
        urls = {"dead": f"http://127.0.0.1:{port}", **odd_servers}
        urls |= {answer: servers.url(answer) for answer in ANSWERS if f"{{{answer}}}" in arguments}
        words = [word.format(**urls) for word in arguments.split()]
        monkeypatch.setattr(sys, "argv", ["rvtop", *words])
        ended = rvtop.cli.app.command()
    out, err = capfd.readouterr()
    assert (ended, out) == (code, ""), err
    assert err.startswith("rvtop: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert says in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert {path for path in tmp_path.rglob("*") if path.is_dir()} == {tmp_path / "arun"}
    assert set(children()) <= set(running)


@pytest.mark.parametrize("key", ["sec ret", "sec\nret", "sécret", "sec\x7fret"])
def test_a_key_that_no_header_can_carry_is_never_shown(
    key: str,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RVTOP_API_KEY", key)
    monkeypatch.setattr(sys, "argv", ["rvtop", *STEADY.split(), "--target", servers.url("one")])
    ended = rvtop.cli.app.command()
    out, err = capfd.readouterr()
    assert (ended, out) == (2, "")
    assert err == "rvtop: RVTOP_API_KEY: holds a character that no HTTP header can carry\n"


def test_the_command_itself_refuses_in_one_line(tmp_path: Path) -> None:
    """As a process of its own, without a terminal: nothing of Python's own is printed."""
    ended = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "rvtop.cli",
            "run",
            "--rate",
            "-1",
            "--target",
            "http://127.0.0.1:9",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("rvtop: --rate: must be ≥ 0, got -1")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_answers_of_the_test_are_what_they_pretend() -> None:
    assert json.loads(ANSWERS["one"][1])["data"][0]["id"] == "m1"
    for name in ("one", "two", "empty", "named", "texts", "null"):
        json.loads(ANSWERS[name][1])
