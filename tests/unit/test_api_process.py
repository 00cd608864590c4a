"""The process around a topology: command line, events, lease."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from backends import registry
from backends.cli import bind, parse_options
from backends.errors import UsageError
from backends.process.events import Events, Steps
from backends.process.lease import StdinLease
from backends.settings.options import ModelSpec, Options


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RVTOP_API_KEY", "VLLM_MAX_MODEL_LEN"):
        monkeypatch.delenv(name, raising=False)


def parse(*argv: str) -> Options:
    options, _, _ = parse_options(argv)
    options.listener.close()
    return options


def refused(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_options(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    options, lease, check = parse_options(["baseline"])
    with options.listener:
        assert not lease
        assert not check
        assert options.url == f"http://127.0.0.1:{options.listener.getsockname()[1]}"
        assert options.max_queue == 1024
        assert options.engine_concurrency is None
        assert options.models == (ModelSpec("tiny", "tiny"),)


def test_every_flag(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    options = parse(
        *("baseline", "--model", f"a={tmp_path}", "--model", "b=owner/name", "--model", "tiny"),
        *("--engine-concurrency", "2", "--max-queue", "unlimited", "--dtype", "bfloat16", "--threads", "3"),
        *("--max-model-len", "512", "--index", "i", "--embedder", "e", "--seed", "9"),
    )
    assert options.models == (
        ModelSpec("a", str(tmp_path)),
        ModelSpec("b", "owner/name"),
        ModelSpec("tiny", "tiny"),
    )
    assert (options.engine_concurrency, options.max_queue, options.dtype) == (2, None, "bfloat16")
    assert (options.threads, options.max_model_len, options.seed) == (3, 512, 9)
    assert (options.index, options.embedder) == ("i", "e")


def test_max_model_len_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_MAX_MODEL_LEN", "777")
    assert parse("baseline").max_model_len == 777
    assert parse("baseline", "--max-model-len", "9").max_model_len == 9
    monkeypatch.setenv("VLLM_MAX_MODEL_LEN", "many")
    assert "VLLM_MAX_MODEL_LEN" in refused("baseline")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nope"], "known: baseline"),
        ([], "TOPOLOGY"),
        (["baseline", "--port", "70000"], "--port"),
        (["baseline", "--threads", "0"], "at least 1"),
        (["baseline", "--max-queue", "-1"], "--max-queue"),
        (["baseline", "--dtype", "int3"], "--dtype"),
        (["baseline", "--bogus"], "--bogus"),
        (["baseline", "--model", "x=/no/such/folder"], "/no/such/folder"),
        (["baseline", "--model", "=tiny"], "NAME=SOURCE"),
        (["baseline", "--model", "tiny", "--model", "tiny=tiny"], "twice"),
        (["baseline", "--host", "0.0.0.0"], "RVTOP_API_KEY"),
        (["baseline", "--api-key-file", "/no/such/file"], "--api-key-file"),
        (["baseline", "--host", "no-such-host.invalid"], "--host"),
    ],
)
def test_bad_usage_is_one_clear_line(argv: list[str], words: str) -> None:
    assert words in refused(*argv)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refused("baseline", "--model", f"x={tmp_path}")


def test_a_key_opens_other_hosts_and_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("s3cret\n")
    options = parse("baseline", "--host", "0.0.0.0", "--api-key-file", str(key_file))
    assert options.api_key == "s3cret"
    assert "s3cret" not in repr(options)
    monkeypatch.setenv("RVTOP_API_KEY", "other")
    assert parse("baseline", "--host", "0.0.0.0").api_key == "other"
    key_file.write_text("")
    assert "empty" in refused("baseline", "--api-key-file", str(key_file))


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused("baseline", "--port", str(port))
    assert str(port) in message
    assert "--port" in message


def test_a_bound_port_is_ours() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            bind("127.0.0.1", port)


def test_every_registered_topology_is_there() -> None:
    for entry in registry.REGISTRY.values():
        assert importlib.util.find_spec(entry.module) is not None


def test_the_registry_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, backends.registry, backends.cli;"
        "print([m for m in ('torch', 'ray', 'vllm', 'transformers', 'faiss', 'aiohttp') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_steps_are_events() -> None:
    read, write = os.pipe()
    steps = Steps(Events(write).emit)
    with steps.step("weights", "tiny") as step:
        step.detail("50%")
        step.detail("50%")
    with pytest.raises(RuntimeError), steps.step("warm-up"):
        raise RuntimeError
    os.close(write)
    with os.fdopen(read) as lines:
        events = [json.loads(line) for line in lines]
    assert [(event["name"], event["state"], event["detail"]) for event in events] == [
        ("weights", "run", "tiny"),
        ("weights", "run", "50%"),
        ("weights", "done", "50%"),
        ("warm-up", "run", ""),
        ("warm-up", "fail", ""),
    ]
    assert all(event["event"] == "step" and event["elapsed_s"] >= 0 for event in events)


def test_events_survive_a_reader_that_is_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    Events(write).emit("ready")
    os.close(write)


def lease_reason(lapse_s: float, close: bool) -> str:
    read, write = os.pipe()
    ended, reasons = threading.Event(), []

    def on_end(reason: str) -> None:
        reasons.append(reason)
        ended.set()

    StdinLease(read, on_end, lapse_s).start()
    os.write(write, b"\n")
    if close:
        os.close(write)
    assert ended.wait(120)
    if not close:
        os.close(write)
    os.close(read)
    return reasons[0]


def test_a_lease_ends_with_its_pipe() -> None:
    assert "parent" in lease_reason(lapse_s=60.0, close=True)


def test_a_silent_lease_lapses() -> None:
    assert "lapsed" in lease_reason(lapse_s=0.05, close=False)
