"""Messages as lines: what goes in comes out, in strict JSON, of other versions, damaged."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvtop.contract.codec import Codec, CodecError, UnknownType
from rvtop.contract.command import (
    COMMANDS,
    Cancel,
    Mark,
    NextPhase,
    Pause,
    Record,
    Resume,
    Retarget,
    SetConcurrency,
    SetRate,
    SetSlo,
    SetSplit,
    SetWorkload,
    Stop,
    Undo,
)
from rvtop.contract.messages import CODEC
from rvtop.contract.snapshot import Event, Load, ServerHist, Snapshot, Target
from rvtop.load.fleet.workers import Workers
from rvtop.net.transport import Transport
from rvtop.session.messages import UP, down_codec, request_lines, with_secrets
from rvtop.session.request import Outcome, SessionRequest, find
from rvtop.session.search import SearchOptions, parse_slo
from rvtop.stats.distribution import BUCKETS
from rvtop.stats.histogram import Histogram
from rvtop.target.backend import BackendOptions
from tests.ui import made

PICTURES = {
    "live": made.live(),
    "watching": made.watching(),
    "starting": made.starting(),
    "failed": made.failed(),
    "stale": made.stale(),
    "crowded": made.crowded(),
    "full": made.full(),
    "closed": made.closed(),
    "bound": made.bound(),
}
SMALL = Snapshot(1, 0.5, 2.5, "running", "x", Target("http://a", None, ("m",)))


def strict(line: bytes) -> Any:
    """The JSON of a line; NaN and Infinity are none."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return json.loads(line, parse_constant=refuse)


def line_of(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def changed(**fields: Any) -> bytes:
    """The line of a small snapshot with other fields."""
    return json.dumps({**strict(CODEC.encode(SMALL)), **fields}).encode()


def bad_buckets(*buckets: list[int]) -> bytes:
    return changed(latency={"ttft_recent": {"buckets": list(buckets)}})


@pytest.mark.parametrize("name", PICTURES)
def test_a_snapshot_comes_back_as_it_was(name: str) -> None:
    line = CODEC.encode(PICTURES[name])
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert next(iter(strict(line).items())) == ("type", "snapshot")
    assert CODEC.decode(line) == PICTURES[name]


def test_every_command_comes_back_as_it_was() -> None:
    commands = [
        *(
            SetRate(12.5),
            SetConcurrency(32),
            Pause(),
            Resume(),
            NextPhase("again"),
            Mark("é → \U0001f600"),
            Cancel(),
            Undo(),
        ),
        *(SetSlo(200.0, None, 3.5), Retarget("http://b", ("m",)), SetWorkload(64), Record(file="a.yaml")),
        SetSplit("v2", 50.0, "chat"),
        Stop("quit"),
    ]
    assert {type(command) for command in commands} == set(COMMANDS.values())
    assert [CODEC.decode(CODEC.encode(command)) for command in commands] == commands


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 10**13), max_size=60))
def test_a_histogram_is_sparse_and_exact(values: list[int]) -> None:
    histogram = Histogram.of(values).distribution()
    picture = replace(SMALL, latency=replace(SMALL.latency, ttft_phase=histogram))
    line = CODEC.encode(picture)
    assert len(strict(line)["latency"]["ttft_phase"]["buckets"]) <= len(values)
    back = CODEC.decode(line).latency.ttft_phase
    assert back == histogram
    assert back.count == len(values)


def test_what_json_has_no_number_for_is_null() -> None:
    hist = ServerHist((1.0, math.inf), (2.0, 3.0), mean=math.nan)
    picture = replace(SMALL, latency=replace(SMALL.latency, server_ttft=hist), load=Load(lag_p99_ms=math.inf))
    line = CODEC.encode(picture)
    assert strict(line)["latency"]["server_ttft"]["le_ms"] == [1.0, None]
    back = CODEC.decode(line)
    assert back.latency.server_ttft == ServerHist((1.0, math.inf), (2.0, 3.0), mean=None)
    assert back.load.lag_p99_ms is None


def test_unknown_fields_are_left_alone_and_missing_ones_take_their_default() -> None:
    older = strict(CODEC.encode(made.live()))
    del older["latency"], older["nodes"], older["load"]["goodput_rps"]
    newer = {**older, "mood": {"a": [1]}, "slo_ttft_ms": None, "message": None}
    back = CODEC.decode(json.dumps(newer).encode())
    assert back == replace(made.live(), latency=SMALL.latency, slo_ttft_ms=None)
    with pytest.raises(UnknownType, match=r"^unknown type weather$"):
        CODEC.decode(line_of(type="weather"))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"", "not JSON"),
        (b'{"type":"snap', "not JSON"),
        (b'{"type":"rate","rps":NaN}', "not JSON"),
        (b'{"type":"rate","rps":"\\ud800"', "not JSON"),
        (b"[]", "must be an object, not a list"),
        (b"{}", "type: no type"),
        (line_of(type=["rate"]), "type: must be a text, not a list"),
        (line_of(type="rate"), "rate: no rps"),
        (line_of(type="rate", rps=None), "rate: no rps"),
        (line_of(type="rate", rps=True), "rate.rps: must be a number, not true or false"),
        (line_of(type="phase", to="back"), "phase.to: must be one of next, again"),
        (changed(seq=1.5), "snapshot.seq: must be a whole number, not a number"),
        (changed(target=[]), "snapshot.target: must be an object, not a list"),
        (changed(engines=[{"name": "a"}, {"name": 1}]), "snapshot.engines[1].name: must be a text"),
        (changed(load={"errors": [["reset"]]}), "snapshot.load.errors[0]: must be a list of 2"),
        (bad_buckets([1100, 1]), "snapshot.latency.ttft_recent: a histogram has"),
        (bad_buckets([1, -1]), "snapshot.latency.ttft_recent: a histogram has"),
        (bad_buckets([1, 1 << 63]), "snapshot.latency.ttft_recent: a histogram has"),
        (bad_buckets([2, 1], [1, 1]), "snapshot.latency.ttft_recent: a histogram has"),
        (bad_buckets([2]), "snapshot.latency.ttft_recent: a histogram has"),
        (changed(latency={"ttft_recent": 5}), "snapshot.latency.ttft_recent: must be a histogram"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_one_clear_error(line: bytes, what: str) -> None:
    with pytest.raises(CodecError) as caught:
        CODEC.decode(line)
    assert str(caught.value).startswith(what)
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_damage_never_crashes_a_reader(data: st.DataObject) -> None:
    line = bytearray(CODEC.encode(made.watching()).rstrip())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 1))
        kind = data.draw(st.sampled_from(["cut", "flip", "drop"]))
        if kind == "cut":
            del line[max(1, at) :]
        elif kind == "flip":
            line[at] = data.draw(st.sampled_from(b'0123456789-[]{}",:ntfe.\\\x00\xff'))
        else:
            del line[at : at + data.draw(st.integers(1, 30))]
        line = line or bytearray(b"{")
    try:
        found = CODEC.decode(bytes(line))
    except CodecError as error:
        found, text = None, str(error)
    else:
        text = CODEC.encode(found).decode().rstrip("\n")
    assert found is None or isinstance(found, Snapshot)
    assert "\n" not in text


def test_texts_of_a_line_are_safe_to_print() -> None:
    line = line_of(type="event", unix_s=1.0, text="\x1b[2Jgone\u202e", level="info")
    assert CODEC.decode(line) == Event(1.0, "\\x1b[2Jgone\\u202e")


@dataclass(frozen=True)
class Inner:
    pair: tuple[int, str] = (0, "")
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    path: Path
    inner: Inner | None = None
    table: dict[str, list[float] | None] = field(default_factory=dict)
    either: int | str = 0
    anything: Any = None


def test_dataclasses_of_any_shape_have_a_line() -> None:
    codec = Codec({"outer": Outer}, text=str)
    for message in (
        Outer(Path("a/b")),
        Outer(Path("\udcff"), Inner((3, "x"), "b"), {"k": (1.0, 2.5), "n": None}, "text", {"a": [1, None]}),
        Outer(Path("p"), anything=1 << 70),
    ):
        back = codec.decode(codec.encode(message))
        assert replace(back, anything=None) == replace(message, anything=None)
    with pytest.raises(TypeError, match="object has no place in a message"):
        codec.encode(Outer(Path("p"), anything=object()))
    with pytest.raises(KeyError):
        codec.encode(Inner())


@pytest.mark.parametrize("name", ["chat", "paper-rounds", "ramp", "showdown", "smoke", "soak", "spike"])
def test_a_request_comes_back_whole_and_its_secrets_are_not_in_it(name: str) -> None:
    request = SessionRequest(
        scenario=find(name).model_copy(update={"seed": 99}),
        out=Path("runs/\udcff\n"),
        backend=BackendOptions("rvc", models=("a=b",), arguments=("--x",)),
        workers=Workers(3, ray=True),
        search=SearchOptions(parse_slo("ttft_p99=200"), step_s=3.0),
        transport=Transport(headers={"X-Team": "s3cr3t-é"}, ca_file="a.pem"),
        body={"a": [1, {"b": None}]},
        max_rate=3.0,
        live=True,
        metrics_port=("127.0.0.1", 9400),
        otlp="http://127.0.0.1:4318",
    )
    secrets, line, end = request_lines(request).split(b"\n")
    assert end == b""
    assert b"s3cr3t" not in line
    assert with_secrets(down_codec().decode(line), secrets) == request


def test_an_outcome_comes_back_with_its_summary() -> None:
    outcome = Outcome(1, "late", {"kpm": {"ttft_ms": 1.5, "tps": math.nan}, "phases": [{"name": "x"}]})
    back = UP.decode(UP.encode(outcome))
    assert back == Outcome(1, "late", {"kpm": {"ttft_ms": 1.5, "tps": None}, "phases": [{"name": "x"}]})
    assert UP.decode(UP.encode(Outcome(0))) == Outcome(0)


def test_the_last_bucket_fits() -> None:
    histogram = Histogram.of([10**16]).distribution()
    assert histogram.buckets == ((BUCKETS - 1, 1),)
    picture = replace(SMALL, latency=replace(SMALL.latency, ttft_recent=histogram))
    assert CODEC.decode(CODEC.encode(picture)).latency.ttft_recent == histogram
