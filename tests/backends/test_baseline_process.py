"""The baseline as a process: it ends when it should, leaves nothing, and says what is wrong in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.backends.backend_process import STOP_LIMIT_S
from tests.backends.conftest import Launch
from tests.unit.processes import wait_for

BODY = {
    "model": "a",
    "messages": [{"role": "user", "content": "휴가는 며칠입니까?"}],
    "temperature": 0,
    "ignore_eos": True,
}


def gone(pid: int) -> bool:
    """Whether no such process lives (a zombie that nobody reaped yet counts as gone)."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + STOP_LIMIT_S
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.05)


def group_members(pgid: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != pgid:
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == pgid:
                    members.append(int(entry.name))
    return members


@pytest.mark.slow
def test_two_models_a_key_and_sigterm_in_a_stream(launch: Launch, tiny_model: Path) -> None:
    backend = launch(
        *("baseline", "--model", f"a={tiny_model}", "--model", f"b={tiny_model}"),
        *("--max-model-len", "256", "--threads", "1", "--host", "0.0.0.0"),
        env={"RVTOP_API_KEY": "s3cret-key"},
    )
    url = backend.url.replace("0.0.0.0", "127.0.0.1")
    headers = {"Authorization": "Bearer s3cret-key"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/health").status_code == 200
        models = client.get("/v1/models", headers=headers).json()["data"]
        assert [(m["id"], m["max_model_len"]) for m in models] == [("a", 256), ("b", 256)]
        engines = client.get("/rvtop/topology", headers=headers).json()["engines"]
        assert [(e["engine"], e["model"], e["threads"]) for e in engines] == [
            ("hf-0", "a", 1),
            ("hf-1", "b", 1),
        ]
        for model in ("a", "b"):
            body = {**BODY, "model": model, "max_tokens": 5}
            answer = client.post("/v1/chat/completions", json=body, headers=headers).json()
            assert answer["model"] == model
            assert answer["usage"]["completion_tokens"] == 5
        page = client.get("/metrics", headers=headers).text
        assert 'rvtop:generation_tokens_total{engine="hf-0",model_name="a"} 5.0' in page
        assert 'rvtop:generation_tokens_total{engine="hf-1",model_name="b"} 5.0' in page

        body = {**BODY, "max_tokens": 200, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(backend.pid, signal.SIGTERM)
            rest = [line for line in lines if line]
    # What runs is let go on for a while: it either ended well or says that it was cut.
    last = json.loads(rest[-2].removeprefix("data: "))
    assert rest[-1] == "data: [DONE]"
    assert "error" in last or last["choices"][0]["finish_reason"] == "length"
    assert backend.wait() == 0
    assert backend.events[-2] == {"event": "stopped"}
    assert backend.garbage == []
    wait_for(lambda: not group_members(backend.pid), "the end of its process group")
    assert "s3cret" not in backend.log.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health", trust_env=False)


PARENT = """
import subprocess, sys, threading, time
child = subprocess.Popen(
    [sys.executable, "-P", "-m", "backends", *sys.argv[1:]],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
)

def renew():  # from the first second on: on a busy machine a step of the start outlasts the lease
    while True:
        child.stdin.write(b"\\n")
        child.stdin.flush()
        time.sleep(1)

threading.Thread(target=renew, daemon=True).start()
for line in child.stdout:
    print(line.decode(), end="", flush=True)
"""


def test_killing_the_parent_ends_it(tiny_model: Path) -> None:
    args = ["baseline", "--lease", "--model", f"tiny={tiny_model}", "--threads", "1"]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert parent.stdout is not None
        ready = next(event for event in map(json.loads, parent.stdout) if event["event"] == "ready")
        assert not gone(ready["pid"])
        parent.kill()
        wait_until_gone(ready["pid"])
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{ready['url']}/health", trust_env=False)
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "lease"])
def test_stopping_while_it_starts(launch: Launch, tiny_model: Path, how: signal.Signals | str) -> None:
    backend = launch("baseline", "--lease", "--model", f"tiny={tiny_model}")
    backend.wait_for("step", name="import", state="run")
    if isinstance(how, signal.Signals):
        os.kill(backend.pid, how)
    else:
        backend.end_lease()
    assert backend.wait() == 0
    assert backend.wait_for("stopped")
    assert not any(event["event"] in ("ready", "error") for event in backend.events)


def test_a_taken_port_is_one_line_and_nothing_loads(launch: Launch, tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        backend = launch("baseline", "--port", str(port), "--model", f"tiny={tiny_model}")
        assert backend.wait() == 2
    event = backend.wait_for("error")
    assert event["kind"] == "usage"
    assert str(port) in event["message"]
    assert "--port" in event["message"]
    backend.wait_for("end")  # its events are read by a thread
    assert [event["event"] for event in backend.events] == ["error", "end"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nope"], "unknown topology 'nope'; known: baseline"),
        (["baseline", "--model", "x=/no/such/folder"], "/no/such/folder"),
        (["baseline", "--host", "0.0.0.0"], "RVTOP_API_KEY"),
    ],
)
def test_bad_usage_is_exit_2(launch: Launch, args: list[str], words: str) -> None:
    backend = launch(*args)
    assert backend.wait() == 2
    event = backend.wait_for("error")
    assert event["kind"] == "usage"
    assert words in event["message"]
    assert "\n" not in event["message"]
    assert "Traceback" not in backend.log.read_text()


@pytest.mark.slow
def test_a_broken_model_is_exit_4(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    backend = launch("baseline", "--model", f"broken={tmp_path}")
    assert backend.wait(120) == 4
    event = backend.wait_for("error")
    assert event["kind"] == "start"
    assert "broken" in event["message"]
    assert "\n" not in event["message"]
    assert backend.wait_for("step", name="weights", state="fail")
