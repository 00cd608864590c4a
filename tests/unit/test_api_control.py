"""Metrics pages and the control endpoint over several sources."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backends.api.control import ACTIONS, Control
from backends.api.metrics import Metrics, merge_pages
from backends.engines.protocol import Delta, EngineInfo, EngineState, Finish, Timings
from backends.errors import ApiError


def info(engine: str = "hf-0", model: str = "tiny") -> EngineInfo:
    return EngineInfo(
        engine=engine,
        kind="hf",
        model=model,
        node="n",
        pid=1,
        devices=("cpu",),
        dtype="float32",
        concurrency=1,
        max_model_len=64,
    )


def values(page: str) -> dict[tuple[str, str], float]:
    """(sample name, engine label) -> value, buckets left out."""
    return {
        (sample.name, sample.labels["engine"] + sample.labels.get("finished_reason", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_a_request_is_counted_as_vllm_counts_it() -> None:
    metrics = Metrics()
    metrics.add_engine(info())
    record = metrics.request(info(), 0.0)
    record.delta(Delta("a", (1,)), prompt_tokens=5, queue_ms=100.0)
    record.delta(Delta("", (2, 3)), prompt_tokens=5, queue_ms=100.0)
    finish = Finish("stop", timings=Timings(queue_ms=50.0, prefill_ms=20.0, decode_ms=30.0))
    record.delta(Delta("b", (4,), finish), prompt_tokens=5, queue_ms=100.0)
    got = values(metrics.page())
    assert got["rvtop:prompt_tokens_total", "hf-0"] == 5
    assert got["rvtop:generation_tokens_total", "hf-0"] == 4
    assert got["rvtop:request_success_total", "hf-0stop"] == 1
    assert got["rvtop:request_success_total", "hf-0length"] == 0
    assert got["rvtop:time_to_first_token_seconds_count", "hf-0"] == 1
    assert got["rvtop:inter_token_latency_seconds_count", "hf-0"] == 2
    assert got["rvtop:e2e_request_latency_seconds_count", "hf-0"] == 1
    assert got["rvtop:request_queue_time_seconds_sum", "hf-0"] == pytest.approx(0.15)
    assert got["rvtop:request_prefill_time_seconds_sum", "hf-0"] == pytest.approx(0.02)
    assert got["rvtop:request_decode_time_seconds_sum", "hf-0"] == pytest.approx(0.03)


def test_a_request_without_a_token_has_no_latency() -> None:
    metrics = Metrics()
    metrics.add_engine(info())
    metrics.request(info(), 0.0).ended("abort")
    got = values(metrics.page())
    assert got["rvtop:request_success_total", "hf-0abort"] == 1
    assert got["rvtop:time_to_first_token_seconds_count", "hf-0"] == 0
    assert got["rvtop:e2e_request_latency_seconds_count", "hf-0"] == 0


def test_gauges_that_do_not_exist_are_absent() -> None:
    metrics = Metrics()
    metrics.set_state(info(), EngineState("ready", running=1, waiting=0, kv_bytes=25, kv_capacity_bytes=100))
    got = values(metrics.page())
    assert got["rvtop:num_requests_running", "hf-0"] == 1
    assert got["rvtop:kv_cache_bytes", "hf-0"] == 25
    assert got["rvtop:kv_cache_usage_perc", "hf-0"] == 0.25
    assert not any(name.startswith("rvtop:allocator") for name, _ in got)


def test_the_light_reader_knows_every_series() -> None:
    """The telemetry table is written elsewhere; what it expects of our engines must be on our page."""
    from rvtop.contract.figures import BY_KEY

    metrics = Metrics()
    metrics.add_engine(info())
    state = EngineState("ready", 1, 0, 1, 2, allocated_bytes=3, reserved_bytes=4)
    metrics.set_state(info(), state)
    metrics.set_waiting("hf-0", "tiny", 0)
    record = metrics.request(info(), 0.0)
    record.delta(Delta("a", (1,)), 1, 0.0)
    record.delta(Delta("b", (1,), Finish("stop", timings=Timings(1, 1, 1))), 1, 0.0)
    names = {name.removesuffix("_total").removesuffix("_count") for name, _ in values(metrics.page())}
    for key in (
        *("running", "waiting", "kv_usage", "kv_bytes", "alloc_reserved", "alloc_allocated"),
        *("generation_tokens", "prompt_tokens", "requests_ok", "ttft", "itl", "e2e"),
        *("queue_time", "prefill_time", "decode_time"),
    ):
        assert f"rvtop:{BY_KEY[key].suffixes[0]}" in names, key


def test_pages_of_several_engines_become_one() -> None:
    pages = []
    for engine in ("hf-0", "hf-1"):
        metrics = Metrics()
        metrics.add_engine(info(engine))
        metrics.set_waiting(engine, "tiny", 2)
        pages.append(metrics.page())
    page = merge_pages(pages)
    assert page.count("# TYPE rvtop:num_requests_waiting gauge") == 1
    got = values(page)
    assert got["rvtop:num_requests_waiting", "hf-0"] == got["rvtop:num_requests_waiting", "hf-1"] == 2
    assert values(merge_pages([pages[0]])) == values(pages[0])
    assert merge_pages(["", pages[0]]) == merge_pages([pages[0]])
    assert merge_pages([]) == ""


class FakeSource:
    """A source with one model and one engine."""

    def __init__(self, model: str, engine: str, up: bool = True, restarts: int = 0) -> None:
        self.up = up
        self._restarts = restarts
        self.engine = engine
        self.models: Any = {
            model: SimpleNamespace(name=model, created=1, path=f"dir/{model}", max_model_len=64)
        }

    def ready(self) -> bool:
        return self.up

    def restarts(self) -> int:
        return self._restarts

    async def engine_rows(self) -> list[dict[str, Any]]:
        return [{"engine": self.engine, "state": "ready"}]

    async def metrics_page(self) -> str:
        metrics = Metrics()
        metrics.set_waiting(self.engine, "m", 1)
        return metrics.page()


async def answer(control: Control, path: str) -> tuple[str, bytes]:
    found = await control.answer(path)
    assert found is not None
    return found


async def test_control_answers_over_all_sources() -> None:
    control = Control("rac", [FakeSource("a", "e0"), FakeSource("b", "e1")], {"max_queue": None})
    kind, body = await answer(control, "/v1/models")
    assert kind == "application/json"
    assert [(m["id"], m["max_model_len"]) for m in json.loads(body)["data"]] == [("a", 64), ("b", 64)]
    topology = json.loads((await answer(control, "/rvtop/topology"))[1])
    assert topology["topology"] == "rac"
    assert topology["models"] == ["a", "b"]
    assert [row["engine"] for row in topology["engines"]] == ["e0", "e1"]
    assert topology["max_queue"] is None
    kind, body = await answer(control, "/metrics")
    assert kind.startswith("text/plain")
    assert {engine for _, engine in values(body.decode())} == {"e0", "e1"}
    assert (await answer(control, "/health"))[1] == b'{"status":"ok","restarts":0}'
    assert await control.answer("/v1/other") is None


async def test_health_tells_how_often_engines_were_started_anew() -> None:
    sources = [FakeSource("a", "e0", restarts=1), FakeSource("b", "e1", restarts=2)]
    assert json.loads((await answer(Control("rvc", sources), "/health"))[1])["restarts"] == 3


async def test_health_is_503_while_one_source_cannot_answer() -> None:
    control = Control("rac", [FakeSource("a", "e0"), FakeSource("b", "e1", up=False)])
    with pytest.raises(ApiError) as caught:
        await control.answer("/health")
    assert caught.value.status == 503


class ActingSource(FakeSource):
    """A source whose engines answer actions with ``done``."""

    def __init__(self, done: bool | None) -> None:
        super().__init__("a", "vllm-0")
        self.done = done
        self.asked: list[str] = []

    async def act(self, action: str) -> bool | None:
        self.asked.append(action)
        return self.done


@pytest.mark.parametrize("path", ACTIONS)
async def test_an_action_is_for_all_sources_that_can(path: str) -> None:
    sources = [FakeSource("a", "hf-0"), ActingSource(None), ActingSource(True)]
    content_type, body = await Control("rvc", sources).act(path)
    assert (content_type, json.loads(body)) == ("application/json", {"success": True})
    assert [source.asked for source in sources if isinstance(source, ActingSource)] == [[path[1:]]] * 2


@pytest.mark.parametrize(
    ("sources", "status", "says"),
    [
        ([FakeSource("a", "hf-0")], 404, "No engine here has a prefix cache"),
        ([ActingSource(None)], 404, "No engine here has a prefix cache"),
        ([ActingSource(True), ActingSource(False)], 409, "An engine could not"),
    ],
)
async def test_an_action_that_was_not_done_says_why(sources: list[Any], status: int, says: str) -> None:
    with pytest.raises(ApiError) as refused:
        await Control("rvc", sources).act("/reset_prefix_cache")
    assert (refused.value.status, refused.value.message.startswith(says)) == (status, True)
