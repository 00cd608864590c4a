"""The engines' side of a batch, without an engine: options, rows as tokens, the way of an engine's lines."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.batch.channel import Channel, Listener
from backends.batch.options import parse_options
from backends.batch.rows import Work, prepare
from backends.errors import UsageError

SAMPLING = {"temperature": 0.0, "min_tokens": 0, "stop": []}


class Tokenizer:
    """A token a letter; a chat is its letters between two."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> Any:
        text.encode()
        return SimpleNamespace(input_ids=[ord(letter) for letter in text])

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        if messages[0]["role"] == "tool":
            raise TypeError("a tool\nbegins nothing")
        return f"<{messages[0]['content']}>"


def prepared(tmp_path: Path, *rows: dict[str, Any]) -> tuple[list[Work], dict[int, str]]:
    path, refused, looked_at = tmp_path / "work.jsonl", dict[int, str](), list[int]()
    lines = [{"max_tokens": None, "sampling": SAMPLING, "key": key, **row} for key, row in enumerate(rows, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def check(sampling: Mapping[str, Any]) -> None:
        if sampling["temperature"] > 2:
            raise ValueError("temperature\nis too high")

    made = list(prepare(path, Tokenizer(), 32, check, refused.__setitem__, looked_at.append))
    assert looked_at == list(range(1, len(rows) + 1))
    return made, refused


def test_rows_get_their_tokens_and_the_room_that_is_left(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hello"}]
    rows, refused = prepared(
        tmp_path,
        {"messages": chat},
        {"messages": chat, "max_tokens": 25},
        {"prompt": "ab"},
        {"prompt": "a" * 30},
        {"prompt": "ab", "max_tokens": 3, "sampling": {**SAMPLING, "min_tokens": 3}},
    )
    assert not refused
    assert rows[0].token_ids == [ord(letter) for letter in "<hello>"]
    assert [row.sampling["max_tokens"] for row in rows] == [25, 25, 16, 2, 3]
    assert rows[4].sampling["min_tokens"] == 3
    assert Work.from_json(rows[0].to_json()) == rows[0]


def test_what_no_engine_can_take_is_told_and_left_out(tmp_path: Path) -> None:
    rows, refused = prepared(
        tmp_path,
        {"prompt": "a" * 32},
        {"prompt": "a" * 30, "max_tokens": 3},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"prompt": ""},
        {"prompt": "a", "sampling": {**SAMPLING, "temperature": 3.0}},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"prompt": "good"},
    )
    assert [row.key for row in rows] == [7]
    assert refused.pop(6).startswith("the model's tokenizer refuses it: 'utf-8' codec can't encode")
    assert refused == {
        1: "too long: 32 tokens of prompt, the model takes 32",
        2: "too long: 30 tokens of prompt and 3 of output, the model takes 32",
        3: "the model's chat template refuses it: a tool begins nothing",
        4: "the prompt has no tokens",
        5: "temperature is too high",
    }


def test_all_that_an_engine_says_arrives_and_nothing_of_others() -> None:
    lines: list[bytes] = []
    arrived = threading.Event()

    def forward(line: bytes) -> None:
        lines.append(line)
        arrived.set()

    listener = Listener("127.0.0.1", forward)
    assert listener.place.secret not in repr(listener.place)
    with socket.create_connection((listener.place.host, listener.place.port)) as other:
        other.sendall(b'guess\n{"event": "row"}\n')
        assert other.recv(10) == b""  # it is closed
    channel = Channel(listener.place)
    for key in range(1000):
        channel.emit("row", key=key, text="é" * 100)
    channel.close()
    assert arrived.wait(60)
    listener.close()
    assert [json.loads(line)["key"] for line in lines] == list(range(1000))
    with pytest.raises(ConnectionRefusedError):
        Channel(listener.place)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("other",), "invalid choice: 'other'"),
        (("generate", "--engines", "0"), "--engines: 0 must be at least 1"),
        (("generate", "--tensor-parallel", "0"), "--tensor-parallel 0: must be at least 1"),
    ],
)
def test_options_are_refused_in_one_line(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_options([*words, "--work", "w", "--model", "m"])


def test_more_engines_than_accelerators_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    from backends.batch.ray_data import engine_resources

    options = parse_options(["map-batches", "--work", "w", "--model", "m", "--engines", "2"])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "NPU": 2.0})
    assert engine_resources(options) == (1.0, 1.0, "NPU")
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "NPU": 1.0})
    with pytest.raises(UsageError, match="--engines 2: they need 2 NPUs, the cluster has 1"):
        engine_resources(options)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 9.0})
    assert engine_resources(options) == (4.0, 0.0, "GPU")


def test_options_of_vllm_are_those_of_the_topologies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = (
        "generate",
        "--work",
        "w",
        "--model",
        "m",
        "--engine-arg",
        "block_size=16",
        "--max-num-seqs",
        "8",
    )
    options = parse_options(words)
    assert (options.vllm.max_num_seqs, options.vllm.extra) == (8, (("block-size", "16"),))
    assert options.ray_address is None
