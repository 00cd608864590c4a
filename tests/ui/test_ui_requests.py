"""The requests screen: the bars of parts, the list, its keys, and the command it copies."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import pytest
from driven import opened, screen_text, until
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input

from rvtop.contract.requests import RequestRow
from rvtop.contract.snapshot import Snapshot
from rvtop.load.plan.api import Api
from rvtop.stats.typical import TtftParts, Typical, estimated, split_ttft
from rvtop.ui.app import RvtopApp
from rvtop.ui.request_lines import (
    curl,
    detail_texts,
    head_line,
    matching,
    ordered,
    parts_bar,
    row_line,
    window,
)
from rvtop.ui.screens.requests import RequestsScreen
from rvtop.ui.theme import DARK, Styles
from rvtop.ui.widgets.requests import NONE_YET, ListState

STYLES = Styles(DARK)
ms = st.floats(0, 1e5)


@given(
    st.integers(1, 200),
    ms,
    ms,
    st.none() | ms,
    st.none() | ms,
    st.none() | ms,
    st.none() | ms,
    st.just(0.0) | st.floats(1e-3, 2e5),
)
def test_a_bar_is_as_long_as_its_ttft(
    width: int,
    late: float,
    rest: float,
    router: float | None,
    queue: float | None,
    retrieve: float | None,
    prefill: float | None,
    scale: float,
) -> None:
    parts = split_ttft(late + rest, late, router=router, queue=queue, retrieve=retrieve, prefill=prefill)
    line = parts_bar(STYLES, parts, scale, width)
    assert line.width <= width
    if scale > 0:
        assert line.width == min(width, round(parts.total / scale * width))


def test_each_part_begins_with_its_letter() -> None:
    parts = TtftParts(10.0, 20.0, router=15.0, queue=15.0, prefill=40.0)
    assert parts_bar(STYLES, parts, 100.0, 20).text == "l·n▒▒▒r▒▒q▓▓p███████"
    assert parts_bar(STYLES, TtftParts(0.1, 20.0), 20.0, 4).text == "n▒▒▒"


@given(st.integers(1, 220), st.integers(0, 53), st.booleans(), st.floats(0, 1e6))
def test_rows_fit_every_width(width: int, place: int, chosen: bool, scale: float) -> None:
    requests = made.requests()
    row = [*requests.slowest, *requests.errors][place]
    line = row_line(STYLES, row, width, scale, chosen=chosen)
    assert line.width <= width
    assert head_line(STYLES, width, scale).width <= width
    assert "\n" not in line.text


@given(st.integers(1, 200), st.integers(0, 199), st.integers(1, 60))
def test_the_chosen_row_is_always_in_the_window(total: int, chosen: int, height: int) -> None:
    chosen = min(chosen, total - 1)
    begin = window(total, chosen, height)
    assert 0 <= begin <= chosen < begin + height
    assert begin + height <= total or begin == 0


def test_order_and_filter() -> None:
    rows = made.requests().slowest
    assert ordered(rows[::-1], "TTFT") == list(rows)
    assert ordered(rows, "newest")[0] is rows[-1]
    assert [row.e2e_ms for row in ordered(rows, "E2E")] == sorted((r.e2e_ms or 0 for r in rows), reverse=True)
    assert {row.model for row in matching(rows, "Q15B")} == {"q15b"}
    assert [row.id for row in matching(rows, "9815")] == [9815]
    assert len(matching(made.requests().errors, "queue is FULL")) == 4


def test_the_details_sum_to_the_ttft_and_what_nobody_tells_is_missing() -> None:
    row = made.requests().slowest[0]
    assert row.parts is not None
    assert row.parts.total == pytest.approx(row.ttft_ms, abs=1.0)
    texts = {name: (value, about) for name, value, about in detail_texts(row)}
    assert texts["decode"][0] == "939"
    assert "search" not in texts
    untold = {name: value for name, value, _ in detail_texts(made.requests(told=False).slowest[0])}
    assert untold["queue"] == untold["prefill"] == "--"
    assert detail_texts(made.requests().errors[0]) == []


def test_the_estimate_is_of_the_mean_and_only_where_it_fits() -> None:
    s = made.listing_estimate()
    mean, queue, prefill = s.requests.typical[0], s.figures["queue_time"], s.figures["prefill_time"]
    guess = estimated(mean, queue, prefill)
    assert guess is not None
    assert guess.estimate
    assert guess.parts.total == pytest.approx(mean.ttft_ms)
    assert (guess.parts.queue, guess.parts.prefill) == (12.4, 23.1)
    assert estimated(replace(mean, ttft_ms=20.0), queue, prefill) is None, "the server's requests are others"
    assert estimated(mean, None, prefill) is None


def a_row(**more: object) -> RequestRow:
    return replace(made.requests().slowest[0], **more)  # type: ignore[arg-type]


def test_a_request_as_curl_runs_and_holds_no_key() -> None:
    prompt = {"messages": [{"role": "user", "content": "it's; `rm` $HOME \x1b[31m“”"}], "max_tokens": 7}
    line = curl("http://127.0.0.1:8000/", a_row(), prompt)
    words = shlex.split(line)
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8000/v1/chat/completions"]
    assert json.loads(words[-1]) == {"model": "q3b", **prompt, "stream": True}
    assert "$RVTOP_API_KEY" in line
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(shlex.split(curl("http://h", a_row(), {"prompt": [1, 2]}))[-1])["max_tokens"] == 256
    with pytest.raises(ValueError, match="turn 2"):
        curl("http://h", a_row(turn=1), prompt)


def test_a_call_of_grpc_as_a_command() -> None:
    prompt = {"messages": [{"role": "user", "content": "it's \x1b[31m“”"}], "max_tokens": 7}
    line = curl("grpc://127.0.0.1:50051", a_row(), prompt)
    words = shlex.split(line)
    assert words[0] == "grpcurl"
    assert words[-2:] == ["127.0.0.1:50051", "rvtop.v1.Generation/Generate"]
    said = {"model": "q3b", "max_tokens": 7, "chat": {"messages": prompt["messages"]}}
    assert json.loads(words[-3]) == said
    assert line.isascii()
    assert line.isprintable()
    bare = {
        "messages": [{"role": "assistant", "tool_calls": []}, {"role": "user", "content": [{"text": "q"}]}]
    }
    said = json.loads(shlex.split(curl("grpc://h:1", a_row(), bare))[-3])["chat"]
    assert [one["content"] for one in said["messages"]] == ["", "q"]
    with pytest.raises(ValueError, match="messages of its own"):
        curl("grpc://h:1/vllm.grpc.engine.VllmEngine", a_row(), prompt)


@pytest.mark.parametrize(
    ("api", "row", "path", "body"),
    [
        (
            Api("messages"),
            {"messages": [{"role": "user", "content": "a"}], "max_tokens": 7, "min_tokens": 3},
            "/v1/messages",
            {"messages": [{"role": "user", "content": "a"}], "max_tokens": 7, "stream": True},
        ),
        (
            Api("responses", stream=False),
            {"prompt": "a"},
            "/v1/responses",
            {"input": "a", "max_output_tokens": 256, "stream": False},
        ),
        (Api("embeddings"), {"prompt": "a"}, "/v1/embeddings", {"input": "a"}),
        (
            Api("rerank"),
            {"prompt": "q", "documents": ["x"]},
            "/v1/rerank",
            {"query": "q", "documents": ["x"]},
        ),
        (Api("embeddings"), {"prompt": "q", "documents": ["x"]}, "/v1/embeddings", {"input": "q"}),
    ],
)
def test_curl_goes_to_the_endpoint_of_the_run(
    api: Api, row: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    words = shlex.split(curl("http://h/", a_row(), row, api))
    assert words[2] == f"http://h{path}"
    assert json.loads(words[-1]) == {"model": "q3b", **body}


def test_no_curl_of_a_request_that_held_several_prompts() -> None:
    for api in (Api("rerank"), Api("rerank", batch=1), Api("embeddings", batch=2)):
        with pytest.raises(ValueError, match=f"a request of {api.name} held"):
            curl("http://h", a_row(), {"prompt": "q"}, api)


async def test_the_keys_of_the_list(tmp_path: Path) -> None:
    rows = [
        json.dumps({"id": f"p{i}", "messages": [{"role": "user", "content": f"why {i}?"}]}) for i in range(60)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    app = RvtopApp(made.FakeHandle(replace(made.listing(), out_dir=str(tmp_path))))
    async with opened(app) as pilot:
        await pilot.press("3")
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, RequestsScreen)
        assert "481 of 481 tell" in screen_text(app)
        assert "request 1 of 54" in screen_text(app)
        assert "why" not in screen_text(app), "no prompt unless it is asked for"
        await pilot.press("j", "down", "k", "j")
        assert "request 3 of 54" in screen_text(app)
        await pilot.press("v")
        await until(pilot, lambda: "user: why 2?" in screen_text(app))
        await pilot.press("j")
        assert "why" not in screen_text(app)
        await pilot.press("y")
        await until(pilot, lambda: "as curl" in screen_text(app))
        assert json.loads(shlex.split(app.clipboard)[-1])["messages"][0]["content"] == "why 3?"
        await pilot.press("o")
        assert "by E2E" in screen_text(app)
        await pilot.press("o", "home")
        assert "newest first" in screen_text(app)
        await pilot.press("end")
        assert "request 54 of 54" in screen_text(app)
        await pilot.press("e")
        await pilot.pause()
        assert "4 listed" in screen_text(app)
        assert "http_503 “admission queue is full" in screen_text(app)
        await pilot.press("escape", "slash")
        await pilot.pause()
        app.screen.query_one(Input).value = "q15b"
        await pilot.press("enter")
        await pilot.pause()
        assert "/ q15b" in screen_text(app)
        assert "25 listed" in screen_text(app)
        await pilot.press("escape")
        assert "54 listed" in screen_text(app)


async def test_without_prompts_the_reason_stands_in_the_footer() -> None:
    app = RvtopApp(made.FakeHandle(replace(made.listing(), out_dir=None)))
    async with opened(app) as pilot:
        await pilot.press("3")
        await pilot.press("v")
        await until(pilot, lambda: "keeps no prompts.jsonl" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: "not copied" in screen_text(app))


async def test_no_other_requests_prompt_is_shown_where_there_are_several_files(tmp_path: Path) -> None:
    for name in ("prompts.jsonl", "prompts-2.jsonl"):
        (tmp_path / name).write_text('{"prompt": "hello"}\n' * 20_000)
    app = RvtopApp(made.FakeHandle(replace(made.listing(), out_dir=str(tmp_path))))
    async with opened(app) as pilot:
        await pilot.press("3", "v")
        await until(pilot, lambda: "prompts of several lengths were sent" in screen_text(app))
        assert "hello" not in screen_text(app)


async def test_nothing_listed_is_said_in_words() -> None:
    app = RvtopApp(made.FakeHandle(made.live()))
    async with opened(app, 80, 24) as pilot:
        await pilot.press("3")
        await pilot.pause()
        assert NONE_YET in screen_text(app)
        await pilot.press("y", "j", "v")
        assert "no request is listed" in screen_text(app)


def test_the_chosen_one_stays_chosen_while_others_come() -> None:
    state, s = ListState(chosen=9818), made.listing()
    assert state.row(s) == (2, s.requests.slowest[2])
    slower = replace(s.requests.slowest[0], id=1, ttft_ms=999.0)
    s = replace(s, requests=replace(s.requests, slowest=(slower, *s.requests.slowest)))
    found = state.row(s)
    assert found is not None
    assert found[0] == 3
    gone: Snapshot = replace(s, requests=replace(s.requests, slowest=(slower,)))
    assert state.row(gone) == (0, slower)


async def test_the_typical_parts_say_who_tells_them_and_what_comes_behind() -> None:
    s = made.listing()
    parts = TtftParts(0.2, 10.0, router=20.0, queue=14.8, prefill=20.0)
    typical = tuple(
        Typical(name, 65.0, parts, decode_ms=939.0, source="metrics") for name in ("mean", "p50", "p99")
    )
    app = RvtopApp(made.FakeHandle(replace(s, requests=replace(s.requests, typical=typical))))
    async with opened(app) as pilot:
        await pilot.press("3")
        await pilot.pause()
        shown = screen_text(app)
    assert "481 of 481 tell by metrics" in shown
    assert "r router" in shown
    assert re.search(r"p50 +65\.0 +n▒+r▒+q▓+p█+ │ d 939", shown)
    async with opened(RvtopApp(made.FakeHandle(s))) as pilot:
        await pilot.press("3")
        await pilot.pause()
        assert "r router" not in screen_text(pilot.app)  # nobody tells of one
