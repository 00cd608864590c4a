"""Where the TTFT went, on a mock in virtual time whose parts are known: what the client makes of what the
mock tells, request by request and of the typical ones, live and in the summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.record import Record, lines
from rvtop.results.parts_text import parts_lines
from rvtop.results.summary import summarise
from rvtop.session.request_log import RequestLog, parts_of
from rvtop.stats.typical import TtftParts
from rvtop.stats.waterfall import NOTHING, told_of
from tests.unit.run_folder import jsonl, make, phase, second

MS = 1_000_000
SECOND = 1000 * MS
T0 = 5 * SECOND
COUNT = 1000
WITHIN_MS = 1.0


@dataclass(frozen=True)
class Truth:
    """What a request went through, ms."""

    intended_ms: float
    late: float
    network: float
    router: float
    queue: float
    retrieve: float | None
    prefill: float
    decode: float

    @property
    def ttft(self) -> float:
        return sum((self.late, self.network, self.router, self.queue, self.retrieve or 0.0, self.prefill))

    @property
    def parts(self) -> dict[str, float]:
        names = ("late", "network", "router", "queue", "retrieve", "prefill")
        return {name: getattr(self, name) or 0.0 for name in names}


def served(rag: bool, seed: int = 5) -> list[Truth]:
    """A server with one place: requests wait for those before them."""
    random, made, at, free_at = Random(seed), [], 0.0, 0.0
    for _ in range(COUNT):
        at += random.expovariate(1 / 25.0)
        late, network = random.expovariate(5.0), random.uniform(0.2, 4.0)
        router, prefill = random.expovariate(1.0), random.lognormvariate(2.5, 0.5)
        retrieve = random.uniform(1.0, 6.0) if rag else None
        arrives = at + late + network + router + (retrieve or 0.0)
        queue = max(0.0, free_at - arrives)
        free_at = arrives + queue + prefill
        made.append(Truth(at, late, network, router, queue, retrieve, prefill, 80.0))
    return made


def by_rvtop(truth: Truth) -> dict[str, Any]:
    """The last chunk of our backends."""
    told = {
        "engine": "e0",
        "queue_ms": round(truth.queue, 3),
        "router_ms": round(truth.router, 3),
        "retrieve_ms": None if truth.retrieve is None else round(truth.retrieve, 3),
        "prefill_ms": round(truth.prefill, 3),
        "decode_ms": truth.decode,
    }
    return {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 9, "rvtop": told}}


def by_vllm(truth: Truth) -> dict[str, Any]:
    """That of `vllm serve --enable-per-request-metrics`, 0.29."""
    metrics = {
        "time_to_first_token_ms": truth.prefill,
        "generation_time_ms": truth.decode,
        "queue_time_ms": truth.queue,
        "mean_itl_ms": truth.decode,
        "tokens_per_second": 9.0,
    }
    return {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 9}, "metrics": metrics}


def silent(truth: Truth) -> dict[str, Any]:
    return {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 9}}


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def token(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return event({"id": "x", "choices": [choice]})


def sent(number: int, truth: Truth, last: dict[str, Any]) -> Record:
    """The request as the client reads its answer, at the times at which it comes."""
    intended = T0 + round(truth.intended_ms * MS)
    record = Record(number, 0, 0, 0, intended)
    record.sent_ns = intended + round(truth.late * MS)
    record.headers_ns = first = intended + round(truth.ttft * MS)
    stream = Completion(record, Fresh())
    stream.feed(token("a"), first)
    end = first + round(truth.decode * MS)
    stream.feed(token("b", "length") + event(last) + b"data: [DONE]\n\n", end)
    stream.end(end)
    assert record.error is None
    return record


def rows_of(truths: list[Truth], tell: Any) -> list[dict[str, Any]]:
    records = [sent(number, truth, tell(truth)) for number, truth in enumerate(truths)]
    return [json.loads(row) for row in lines(records, T0, ["hold"], ["m"], 0).splitlines()]


def near(parts: TtftParts, truth: Truth, told: tuple[str, ...]) -> bool:
    """Whether the parts that are told are the true ones, the residual is all else, and they sum up."""
    untold = sum(value for name, value in truth.parts.items() if name not in (*told, "late"))
    wanted = {name: truth.parts[name] for name in (*told, "late")} | {"network": untold}
    return all(abs((getattr(parts, name) or 0.0) - value) <= WITHIN_MS for name, value in wanted.items())


@pytest.mark.parametrize(
    ("tell", "rag", "told"),
    [
        (by_rvtop, False, ("router", "queue", "prefill")),
        (by_rvtop, True, ("router", "queue", "retrieve", "prefill")),
        (by_vllm, False, ("queue", "prefill")),
        (silent, False, ()),
    ],
)
def test_the_parts_of_a_thousand_requests_sum_to_their_ttft(
    tell: Any, rag: bool, told: tuple[str, ...]
) -> None:
    truths = served(rag)
    for truth, row in zip(truths, rows_of(truths, tell), strict=True):
        parts = parts_of(row)
        ttft = (row["first_token_ns"] - row["intended_ns"]) / 1e6
        assert abs(ttft - truth.ttft) < 1e-3
        assert abs(parts.total - ttft) <= WITHIN_MS
        assert near(parts, truth, told)
        missing = {"router", "queue", "retrieve", "prefill"} - set(told)
        assert all(getattr(parts, name) is None for name in missing)


def run_of(folder: Path, truths: list[Truth], tell: Any, timeline: list[dict[str, Any]]) -> dict[str, Any]:
    end_s = truths[-1].intended_ms / 1e3 + 5.0
    make(folder, [], [phase("hold", 0.0, end_s)], timeline, models=["m"])
    (folder / "requests.jsonl").write_text(jsonl(rows_of(truths, tell)))
    return summarise(folder)


def histograms(truths: list[Truth]) -> list[dict[str, Any]]:
    """What the server's own histograms say at both ends."""
    names = {"queue_time": "queue", "prefill_time": "prefill"}
    grown = {f"{key}.sum": sum(getattr(t, name) for t in truths) / 1e3 for key, name in names.items()}
    grown |= {f"{key}.count": float(len(truths)) for key in names}
    end_s = truths[-1].intended_ms / 1e3 + 5.0
    return [second(0.0, totals=dict.fromkeys(grown, 0.0)), second(end_s, totals=grown)]


@pytest.mark.parametrize(("tell", "source"), [(by_rvtop, "usage.rvtop"), (by_vllm, "metrics")])
def test_typical_parts_live_and_in_the_summary_are_those_of_the_requests(
    tmp_path: Path, tell: Any, source: str
) -> None:
    truths = served(rag=False)
    told = run_of(tmp_path / "run", truths, tell, histograms(truths))["ttft_parts"]
    lines = parts_lines(told)
    assert [line.partition(" = ")[0].split()[1] for line in lines] == ["p50", "p99"]
    assert all(line.endswith(f" ms ({source})") and "queue" in line for line in lines)
    assert (told["source"], told["requests"], told["told"]) == (source, COUNT, COUNT)
    assert told["mean"]["ttft_ms"] == pytest.approx(fmean(t.ttft for t in truths), abs=0.01)
    for name in ("late", "queue", "prefill"):
        key = "lag_ms" if name == "late" else f"{name}_ms"
        assert told["mean"][key] == pytest.approx(fmean(getattr(t, name) for t in truths), abs=0.01)
    ranked = sorted(truths, key=lambda t: t.ttft)
    slow = ranked[round(0.99 * (COUNT - 1)) - 10 :][:20]
    assert told["p99"]["queue_ms"] == pytest.approx(fmean(t.queue for t in slow), abs=0.01)
    for one in ("mean", "p50", "p99"):
        parts = told[one]
        names = ("lag_ms", "network_ms", "router_ms", "queue_ms", "retrieve_ms", "prefill_ms")
        assert sum(parts[name] or 0.0 for name in names) == pytest.approx(parts["ttft_ms"], abs=WITHIN_MS)
        assert parts["decode_ms"] == pytest.approx(80.0)
        assert parts["estimate"] is False
    # Live has a sample of each second: here all of it, in one.
    log = RequestLog(T0, 0.0)
    log.add(jsonl(rows_of(truths[:100], tell)).encode(), T0)
    log.end_second(T0)
    mean = log.requests.typical[0]
    assert (mean.source, log.requests.told) == (source, 100)
    assert mean.parts.queue == pytest.approx(fmean(t.queue for t in truths[:100]), abs=0.01)


def test_where_answers_tell_nothing_the_mean_is_an_estimate_and_ranks_have_none(tmp_path: Path) -> None:
    truths = served(rag=False)
    result = run_of(tmp_path / "run", truths, silent, histograms(truths))
    told = result["ttft_parts"]
    assert (told["source"], told["told"]) == ("histograms", 0)
    assert told["mean"]["estimate"] is True
    assert told["mean"]["queue_ms"] == pytest.approx(fmean(t.queue for t in truths))
    assert told["mean"]["router_ms"] is None
    for rank in ("p50", "p99"):
        assert told[rank]["estimate"] is False
        assert told[rank]["queue_ms"] is told[rank]["prefill_ms"] is None
    assert result["by_model"]["m"]["ttft_parts"] == told
    (line,) = parts_lines(told)
    assert line.startswith("TTFT mean ")
    assert line.endswith("(ESTIMATE by the server's histograms)")
    nothing = run_of(tmp_path / "none", truths, silent, [])["ttft_parts"]
    assert (nothing["source"], nothing["mean"]["queue_ms"]) == (None, None)
    assert parts_lines(nothing) == []


def test_means_over_several_models_are_no_estimate_of_one(tmp_path: Path) -> None:
    truths = served(rag=False)
    rows = rows_of(truths, silent)
    for row in rows[::2]:
        row["model"] = "other"
    folder = make(tmp_path, rows, [phase("hold", 0.0, 60.0)], histograms(truths), models=["m", "other"])
    result = summarise(folder)
    assert result["ttft_parts"]["source"] == "histograms"
    assert [one["ttft_parts"]["source"] for one in result["by_model"].values()] == [None, None]


@pytest.mark.parametrize(
    "server",
    [None, {}, [], "x", 5, {"queue_ms": "4"}, {"queue_ms": True}, {"queue_ms": -1.0}, {"queue_ms": 1e300}],
)
def test_what_is_no_timing_is_told_by_nobody(server: Any) -> None:
    assert told_of(server) is NOTHING


@pytest.mark.parametrize(
    ("chunk", "server"),
    [
        ({"metrics": {"queue_time_ms": 1.5, "mean_itl_ms": 2}}, {"queue_ms": 1.5, "source": "metrics"}),
        ({"metrics": {}}, None),
        ({"metrics": None}, None),
        ({"metrics": [1]}, None),
        ({"metrics": {"queue_time_ms": 10**30}}, None),
        ({"metrics": {"queue_time_ms": "4"}}, None),
        (
            {"usage": {"rvtop": {"a": 10**30, "queue_ms": 2.0}}, "metrics": {"queue_time_ms": 9}},
            {"queue_ms": 2.0},
        ),
    ],
)
def test_the_last_chunk_is_others_and_fits_into_a_line(
    chunk: dict[str, Any], server: dict[str, Any] | None
) -> None:
    record = Record(0, 0, 0, 0, 1)
    stream = Completion(record, Fresh())
    # NaN is what orjson does not read, and Python's reader takes integers of any size.
    stream.feed(token("a", "stop") + event({"x": float("nan"), **chunk}) + b"data: [DONE]\n\n", 2)
    stream.end(3)
    (row,) = lines([record], 0, ["p"], ["m"], 0).splitlines()
    assert json.loads(row)["server"] == server
