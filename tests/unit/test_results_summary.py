"""summary.json from hand-made folders: every figure of it worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.results import summary
from rvtop.stats.distribution import Distribution
from rvtop.stats.histogram import bucket_of
from tests.unit.run_folder import command, jsonl, make, phase, request, second

TOP = [
    "schema",
    "name",
    "topology",
    "target",
    "models",
    "started_at",
    "duration_s",
    "end",
    "requests",
    "rate",
    "client_limited",
    "client",
    "kpm",
    "ttft_ms",
    "ttft_parts",
    "ttft_service_ms",
    "itl_ms",
    "tpot_ms",
    "e2e_ms",
    "schedule_lag_ms",
    "tokens",
    "goodput_rps",
    "server",
    "replicas",
    "kv_map",
    "energy",
    "cost",
    "ttft_histogram",
    "prompts_digest",
    "unread",
    "find_max",
    "capacity",
    "probes",
    "steady_from_s",
    "warm_up",
    "phases",
    "by_model",
    "by_arm",
    "tasks",
    "findings",
    "blocks",
]
PART = TOP[8:25]
DIST = ["mean", "p50", "p90", "p95", "p99", "p999", "min", "max", "count"]

GAP = bucket_of(10_000_000).item()


def gpu(used: float, util: float, index: int = 0) -> dict[str, Any]:
    return {
        "node": "n1",
        "index": index,
        "name": "H200",
        "memory_used": used,
        "memory_total": 141.0,
        "util": util,
    }


def engine(kv: float | None, **figures: float) -> dict[str, Any]:
    return {"name": "0", "kv_usage": kv, "figures": figures}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A warm-up of one slow request, then 4 s at 2 rps on two models with one of most things that happen."""
    hist = [[GAP, 4]]
    rows = [
        request(0, "warm", 100, lag=0, first=5000, last=9000, tokens=50),
        # TTFT 100, E2E 140, TPOT 10; sent 2 ms late
        request(1, "hold", 2000, lag=2, first=100, last=140, itl_hist=hist, cached_tokens=8),
        # TTFT 200 breaks the SLO
        request(2, "hold", 2500, lag=4, first=200, last=240, model="b", itl_hist=hist, cached_tokens=0),
        # one token: no TPOT, and the SLO on it is not broken
        request(3, "hold", 3000, lag=0, first=120, last=120, tokens=1),
        # TPOT (220-100)/4 = 30 breaks the SLO
        request(4, "hold", 3500, lag=0, first=100, last=220, model="b", itl_hist=hist),
        request(5, "hold", 4000, error="dropped"),
        request(6, "hold", 4500, lag=0, error="http_429", model="b"),
        # failed after tokens: in no latency and no token count
        request(7, "hold", 5000, lag=0, first=90, last=9000, error="truncated", tokens=7, itl_hist=[[3, 6]]),
        request(8, "hold", 5500, lag=10, error="unfinished", model="b"),
    ]
    commands = [
        phase("warm", 0.0, 1.0, warmup=True),
        phase("hold", 2.0, 4.0),
        command(3.0, "rate", value=2.0),
        command(7.0, "cut"),
        command(7.2, "stop"),
    ]
    timeline = [
        second(0.5, kv_usage=0.9, running=99, gpus=[gpu(140, 1.0)], totals={"preemptions": 5}),
        second(
            1.9,
            totals={
                "preemptions": 7,
                "prefix_hits": 10,
                "prefix_queries": 100,
                "prompt_tokens_by_source/local_compute": 100,
                "queue_time.sum": 0.5,
                "queue_time.count": 10,
            },
        ),
        second(
            3.0, kv_usage=0.2, running=3, waiting=1, engines=[engine(0.1), engine(0.3)], gpus=[gpu(80, 0.5)]
        ),
        second(
            4.0,
            kv_usage=None,
            running=None,
            waiting=4,
            engines=[engine(None, fragmentation=0.4)],
            gpus=[gpu(90, 0.04)],
            figures={"fragmentation": 0.3, "waiting_by_reason/capacity": 3, "waiting_by_reason/deferred": 0},
        ),
        second(
            4.5,
            gpus=[gpu(90, 0.0)],
            figures={"fragmentation": 0.1, "prompt_tokens_by_source/local_compute": 1},
        ),  # nothing in flight: not idle
        second(
            6.5,
            kv_usage=0.4,
            running=5,
            engines=[engine(0.8)],
            totals={
                "preemptions": 9,
                "prefix_hits": 40,
                "prefix_queries": 160,
                "queue_time.sum": 0.7,
                "queue_time.count": 14,
                "prompt_tokens_by_source/local_compute": 160,
            },
        ),
        second(99.0, kv_usage=1.0, running=1000, totals={"preemptions": 500}),
    ]
    return make(tmp_path / "run", rows, commands, timeline)


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-9)


def test_every_key_and_its_figure(folder: Path) -> None:
    s = summary.write(folder)
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(s))
    assert list(s) == TOP
    assert (s["schema"], s["name"], s["topology"], s["target"]) == (
        1,
        "made",
        "baseline",
        "http://127.0.0.1:8000",
    )
    assert (s["models"], s["started_at"]) == (["a", "b"], "2026-01-01T00:00:00Z")
    assert s["prompts_digest"] == "0" * 64
    told = s["ttft_histogram"]
    ttft = Distribution(
        tuple((at, n) for at, n in told["buckets"]), told["sum_ns"], told["min_ns"], told["max_ns"]
    )
    assert ttft.count == s["ttft_ms"]["count"]
    assert ttft.mean_ns == pytest.approx(1e6 * s["ttft_ms"]["mean"])
    assert (ttft.min_ns, ttft.max_ns) == pytest.approx((1e6 * s["ttft_ms"]["min"], 1e6 * s["ttft_ms"]["max"]))
    assert s["duration_s"] == close(14.0)  # the failed request's last byte
    assert s["requests"] == {
        "planned": 8,
        "sent": 7,
        "ok": 4,
        "errors": {"dropped": 1, "http_429": 1, "truncated": 1, "unfinished": 1},
        "dropped": 1,
    }
    # 8 in the 4 s of the phase; 4 ok, the last of which ended within them
    assert s["rate"] == {
        "requested_rps": close(2.0),
        "sent_rps": close(7 / 4),
        "completed_rps": close(4 / 4),
    }
    assert s["kpm"] == {
        "ttft_ms": close((100 + 200 + 120 + 100) / 4),
        "latency_avg_ms": close((140 + 240 + 120 + 220) / 4),
        "latency_total_s": close(1.72),
        "tps": close(16 / 1.72),
        "completed_pct": close(50.0),
    }
    for name in ("ttft_ms", "ttft_service_ms", "itl_ms", "tpot_ms", "e2e_ms", "schedule_lag_ms"):
        assert list(s[name]) == DIST
    assert {k: s["ttft_ms"][k] for k in ("mean", "p50", "p90", "min", "max", "count")} == {
        "mean": close(130.0),
        "p50": close(110.0),
        "p90": close(176.0),  # 120 + 0.7 * (200 - 120), as NumPy interpolates
        "min": close(100.0),
        "max": close(200.0),
        "count": 4,
    }
    assert s["ttft_service_ms"]["mean"] == close((98 + 196 + 120 + 100) / 4)
    assert (s["tpot_ms"]["count"], s["tpot_ms"]["mean"]) == (3, close((10 + 10 + 30) / 3))
    assert (s["e2e_ms"]["max"], s["e2e_ms"]["p50"]) == (close(240.0), close(180.0))
    # of all that were sent, also of those that failed; the dropped one never was
    assert (s["schedule_lag_ms"]["count"], s["schedule_lag_ms"]["mean"]) == (7, close(16 / 7))
    # 12 gaps of ok requests in the buckets; their mean is exact: (40 + 40 + 0 + 120) ms over 4 + 4 + 0 + 4
    assert (s["itl_ms"]["count"], s["itl_ms"]["mean"]) == (12, close(200 / 12))
    assert s["itl_ms"]["p50"] == pytest.approx(10.0, rel=0.01)
    assert s["tokens"] == {"input": 40, "output": 16, "cached": 8, "source": "usage"}
    assert s["goodput_rps"] == close(2 / 4)  # requests 1 and 3
    assert s["client_limited"] is True  # the p99 of the lag is 9.64 ms
    assert s["server"] == {
        "kv_cache_usage": {"mean": close(0.3), "max": close(0.8)},
        "running_max": 5,
        "waiting_max": 4,
        "preemptions": 2,
        "prefix_cache_hit_rate": close(0.5),
        "draft_acceptance_rate": None,
        "draft_acceptance_by_position": None,
        "allocator_fragmentation": {"mean": close(0.2), "max": close(0.4)},
        "queue_time_ms_mean": close(50.0),
        "prefill_time_ms_mean": None,
        "decode_time_ms_mean": None,
        "waiting_by_reason_max": {"capacity": 3, "deferred": 0},
        "prompt_tokens_by_source": {"local_compute": 60},
        "gpus": [
            {
                "node": "n1",
                "index": 0,
                "name": "H200",
                "memory_used_max": 90,
                "memory_total": 141.0,
                "util_mean": close(0.18),
                "idle_share": close(0.5),
            }
        ],
        "nodes": [],
        "deployments": [],
    }


def test_phases_and_models_have_the_same_keys(folder: Path) -> None:
    s = summary.summarise(folder)
    assert [p["name"] for p in s["phases"]] == ["warm", "hold"]
    for p in s["phases"]:
        assert list(p) == ["name", "warmup", *PART, "energy", "cost"]
    warm, hold = s["phases"]
    assert (warm["warmup"], hold["warmup"]) == (True, False)
    assert {k: hold[k] for k in PART} == {k: s[k] for k in PART}
    assert (warm["requests"]["planned"], warm["kpm"]["ttft_ms"]) == (1, close(5000.0))
    assert warm["rate"]["requested_rps"] == close(1.0)
    assert warm["server"]["running_max"] == 99
    assert list(s["by_model"]) == ["a", "b"]
    a, b = s["by_model"]["a"], s["by_model"]["b"]
    assert list(a) == list(b) == PART
    assert (a["requests"]["planned"], b["requests"]["planned"]) == (4, 4)
    assert (a["requests"]["ok"], b["requests"]["ok"]) == (2, 2)
    assert a["requests"]["errors"] == {"dropped": 1, "truncated": 1}
    assert b["requests"]["errors"] == {"http_429": 1, "unfinished": 1}
    assert (a["kpm"]["ttft_ms"], b["kpm"]["ttft_ms"]) == (close(110.0), close(150.0))
    assert (a["itl_ms"]["count"], b["itl_ms"]["count"]) == (4, 8)
    assert (a["tokens"]["cached"], b["tokens"]["cached"]) == (8, 0)


def test_latencies_count_from_the_intended_time(tmp_path: Path) -> None:
    """A client that sends late does not flatter the server: the clock ran."""
    rows = [request(0, "p", 0, lag=900, first=1000, last=1400)]
    commands = [phase("p", 0, 1), command(2, "stop")]
    s = summary.summarise(make(tmp_path, rows, commands, flags={"workers": "ray:3"}))
    assert s["kpm"]["ttft_ms"] == close(1000.0)
    assert s["ttft_service_ms"]["mean"] == close(100.0)
    assert s["schedule_lag_ms"]["max"] == close(900.0)
    assert s["client_limited"] is True
    assert "a larger N than --workers ray:3" in s["client"]["limited_by"]


def test_a_round_is_its_own_phase_and_lasts_as_long_as_its_requests(tmp_path: Path) -> None:
    rows = [
        request(0, "paper/n=2#1", 1000, lag=0, first=100, last=500),
        request(1, "paper/n=2#1", 1000, lag=0, first=200, last=2000),
        request(2, "paper/n=2#2", 4000, lag=0, first=300, last=1000),
        request(3, "paper/n=2#2", 4000, lag=0, error="reset"),
    ]
    commands = [
        phase("paper/n=2#1", 1.0, None, burst=2, drain_s=None),
        phase("paper/n=2#2", 4.0, None, burst=2, drain_s=None),
        command(9.0, "stop"),
    ]
    s = summary.summarise(make(tmp_path, rows, commands))
    one, two = s["phases"]
    assert (one["name"], two["name"]) == ("paper/n=2#1", "paper/n=2#2")
    assert one["kpm"] == {
        "ttft_ms": close(150.0),
        "latency_avg_ms": close(1250.0),
        "latency_total_s": close(2.0),
        "tps": close(5.0),
        "completed_pct": close(100.0),
    }
    assert one["rate"]["requested_rps"] == close(1.0)
    assert two["rate"]["requested_rps"] == close(2.0)
    assert two["kpm"]["completed_pct"] == close(50.0)
    assert s["kpm"]["latency_total_s"] == close(4.0)


def test_what_was_never_measured_is_none(tmp_path: Path) -> None:
    rows = [request(0, "p", 100, error="refused", lag=0)]
    s = summary.summarise(make(tmp_path, rows, [phase("p", 0, 1), command(2, "stop")], slo={}))
    assert s["kpm"] == {
        "ttft_ms": None,
        "latency_avg_ms": None,
        "latency_total_s": None,
        "tps": None,
        "completed_pct": 0.0,
    }
    assert s["ttft_ms"] == {**dict.fromkeys(DIST), "count": 0}
    assert s["itl_ms"] == {**dict.fromkeys(DIST), "count": 0}
    assert s["tokens"] == {"input": None, "output": None, "cached": None, "source": None}
    assert s["goodput_rps"] is None
    assert s["rate"]["completed_rps"] is None
    assert s["server"] == {
        "kv_cache_usage": {"mean": None, "max": None},
        "running_max": None,
        "waiting_max": None,
        "preemptions": None,
        "prefix_cache_hit_rate": None,
        "draft_acceptance_rate": None,
        "draft_acceptance_by_position": None,
        "allocator_fragmentation": {"mean": None, "max": None},
        "queue_time_ms_mean": None,
        "prefill_time_ms_mean": None,
        "decode_time_ms_mean": None,
        "waiting_by_reason_max": None,
        "prompt_tokens_by_source": None,
        "gpus": [],
        "nodes": [],
        "deployments": [],
    }


def test_an_empty_run_has_no_figures_and_no_crash(tmp_path: Path) -> None:
    s = summary.summarise(make(tmp_path, [], []))
    assert s["requests"] == {"planned": 0, "sent": 0, "ok": 0, "errors": {}, "dropped": 0}
    assert s["kpm"]["completed_pct"] is None
    assert (s["duration_s"], s["phases"]) == (0.0, [])
    assert [part["requests"]["planned"] for part in s["by_model"].values()] == [0, 0]


@pytest.mark.parametrize(
    ("sources", "said"),
    [(["usage"] * 2, "usage"), (["chunks"] * 2, "chunks"), (["usage", "chunks"], "mixed")],
)
def test_the_source_of_token_counts_is_named(tmp_path: Path, sources: list[str], said: str) -> None:
    rows = [
        request(i, "p", 100, lag=0, first=1, last=2, token_source=source) for i, source in enumerate(sources)
    ]
    s = summary.summarise(make(tmp_path, rows, [phase("p", 0, 1), command(2, "stop")]))
    assert s["tokens"]["source"] == said


def test_a_lost_worker_s_requests_are_planned_sent_and_failed_once(tmp_path: Path) -> None:
    rows = [request(0, "p", 100, lag=0, first=1, last=2)]
    lost = command(1.5, "worker_lost", worker=1, in_flight=3, by_model={"a": 1, "b": 2})
    commands = [phase("p", 0, 2), lost, phase("q", 3, 1), command(5, "stop")]
    s = summary.summarise(make(tmp_path, rows, commands))
    assert s["requests"] == {"planned": 4, "sent": 4, "ok": 1, "errors": {"worker_lost": 3}, "dropped": 0}
    assert s["rate"]["sent_rps"] == close(4 / 3)
    assert s["kpm"]["completed_pct"] == close(25.0)
    assert [p["requests"]["errors"] for p in s["phases"]] == [{"worker_lost": 3}, {}]
    assert {m: p["requests"]["errors"] for m, p in s["by_model"].items()} == {
        "a": {"worker_lost": 1},
        "b": {"worker_lost": 2},
    }


def beat(folder: Path, t_s: float, **by_model: int) -> None:
    fields = {"t_s": t_s, "in_flight": sum(by_model.values()), "by_model": by_model}
    (folder / "heartbeat.json").write_text(json.dumps(fields) + "   \n")


def test_a_cut_off_run_says_so_and_counts_what_was_in_flight(tmp_path: Path) -> None:
    rows = [request(0, "w", 100, lag=0, first=1, last=2)]
    folder = make(tmp_path, rows, [phase("w", 0, 1, warmup=True), phase("p", 2, 1000)])
    beat(folder, 6.0, a=43, b=1)
    s = summary.summarise(folder)
    assert (s["end"]["kind"], s["end"]["in_flight"]) == ("cut_off", 44)
    assert s["end"]["text"].startswith("cut off, 44 requests in flight")
    assert s["requests"] == {"planned": 44, "sent": 44, "ok": 0, "errors": {"unfinished": 44}, "dropped": 0}
    assert s["kpm"]["completed_pct"] == 0.0
    assert s["duration_s"] == close(6.0)
    assert s["rate"]["requested_rps"] == close(44 / 4)
    assert [p["requests"]["planned"] for p in s["phases"]] == [1, 44]
    assert [p["requests"]["errors"] for p in s["by_model"].values()] == [
        {"unfinished": 43},
        {"unfinished": 1},
    ]


def test_a_run_cut_off_before_its_first_second_is_cut_off(tmp_path: Path) -> None:
    s = summary.summarise(make(tmp_path, [], [phase("p", 0, 1000)]))
    assert s["end"]["kind"] == "cut_off"
    (tmp_path / "heartbeat.json").write_text('{"t_s": 1, "in_fl')  # torn by a full disk
    assert summary.summarise(tmp_path)["end"]["kind"] == "cut_off"


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (command(2, "stop"), "done"),  # of a version that wrote no end
        (command(2, "ended", kind="done", in_flight=0, text="", by_model={}), "done"),
        (command(2, "ended", kind="interrupted", in_flight=2, text="why", by_model={"a": 1}), "interrupted"),
        (command(2, "ended", kind="target_lost", in_flight=2, text="why", by_model={}), "target_lost"),
    ],
)
def test_a_run_s_own_last_line_is_its_end(tmp_path: Path, last: dict[str, Any], kind: str) -> None:
    rows = [request(0, "p", 100, lag=0, first=1, last=2)]
    s = summary.summarise(make(tmp_path, rows, [phase("p", 0, 2), last], [second(1.0, in_flight=7)]))
    wanted = {"kind": kind, "in_flight": last.get("in_flight", 0), "text": last.get("text", "")}
    assert s["end"] == wanted
    no_line = sum(last.get("by_model", {}).values())  # a worker that hung has told of none of its own
    assert s["requests"]["planned"] == 1 + no_line


def test_a_run_of_failures_alone_says_what_the_server_said(tmp_path: Path) -> None:
    rows = [request(i, "p", i, error="http_500", error_text="no memory" if i else "odd") for i in range(4)]
    ended = command(2, "ended", kind="done", in_flight=0, text="", by_model={})
    s = summary.summarise(make(tmp_path, rows, [phase("p", 0, 2), ended]))
    assert s["end"]["kind"] == "all_failed"
    assert s["end"]["text"] == "every request failed (4 of 4: http_500: no memory)"


@pytest.mark.parametrize(
    ("commands", "ends"),
    [
        ([phase("p", 1.0, 10.0), command(20.0, "stop")], 11.0),
        ([phase("p", 1.0, 10.0), command(4.0, "end"), command(9.0, "stop")], 4.0),
        ([phase("p", 1.0, 10.0), command(4.0, "stop")], 4.0),
        ([phase("p", 1.0, None), command(4.0, "stop")], 4.0),
        ([phase("p", 1.0, None), phase("q", 6.0, 1.0), command(9, "stop")], 6.0),
        ([phase("p", 1.0, 60.0)], 7.5),  # killed: the last sign of life is a second of the timeline
        ([phase("p", 1.0, 2.0)], 3.0),  # killed while it drained
    ],
)
def test_a_phase_ends_as_planned_as_told_or_with_the_run(
    tmp_path: Path, commands: list[dict[str, Any]], ends: float
) -> None:
    rows = [request(i, "p", 1000 + i, lag=0, first=1, last=2) for i in range(10)]
    s = summary.summarise(make(tmp_path, rows, commands, [second(7.5)]))
    assert s["phases"][0]["rate"]["requested_rps"] == close(10 / (ends - 1.0))


def test_a_killed_run_is_summed_up_from_what_is_there(folder: Path) -> None:
    """kill -9: no summary, no stop, and the last line of each file cut in two."""
    whole = summary.summarise(folder)
    for name in ("requests.jsonl", "commands.jsonl", "timeline.jsonl"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-9])
    s = summary.write(folder)
    assert (folder / "summary.json").exists()
    assert [note.partition(":")[0] for note in s["unread"]] == [
        "requests.jsonl",
        "commands.jsonl",
        "timeline.jsonl",
    ]
    assert s["requests"]["planned"] == whole["requests"]["planned"] - 1
    assert s["kpm"] == {**whole["kpm"], "completed_pct": close(100 * 4 / 7)}
    assert [p["name"] for p in s["phases"]] == ["warm", "hold"]


def test_a_folder_of_runs_says_so_and_names_one(folder: Path) -> None:
    with pytest.raises(
        UserError, match="no run itself; its folders are runs, 1 of them: give one"
    ) as refused:
        summary.write(folder.parent)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("environment.json", None, "holds no run (environment.json is missing)"),
        ("environment.json", "{", "environment.json: can't be read"),
        ("environment.json", "[]", "environment.json: not a JSON object"),
        ("environment.json", '{"name": "\\ud800"}', "environment.json: can't be read: not JSON"),
        ("requests.jsonl", None, "requests.jsonl: No such file"),
        ("requests.jsonl", '{"id": 1}\n', "requests.jsonl: not a file of requests of this version"),
    ],
)
def test_damage_is_one_line_that_names_it(folder: Path, name: str, content: str | None, says: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(UserError) as refused:
        summary.write(folder)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert not (folder / "summary.json").exists()


@pytest.mark.parametrize(
    ("name", "line", "why"),
    [
        ("commands.jsonl", "{]", "not JSON"),
        ("commands.jsonl", '{"cmd": "phase"}', "no at_ns"),
        ("commands.jsonl", '{"at_ns": 5}', "no cmd"),
        ("commands.jsonl", '{"at_ns": 5, "cmd": "phase", "name": 7}', "name: not a text"),
        ("commands.jsonl", '{"at_ns": 5, "cmd": "phase", "name": "x", "duration_s": 1}', "no burst"),
        ("commands.jsonl", '{"at_ns": -5, "cmd": "stop"}', "at_ns: not a number of this version"),
        (
            "commands.jsonl",
            '{"at_ns": 5, "cmd": "worker_lost", "by_model": {"a": 1.5}}',
            "by_model: a: not a",
        ),
        ("commands.jsonl", '{"at_ns": 5, "cmd": "step", "rps": 1, "figures": [1]}', "figures: not an object"),
        ("commands.jsonl", '{"at_ns": 5, "cmd": "found", "rps": null}', "no slo"),
        ("timeline.jsonl", "7", "not a JSON object"),
        ("timeline.jsonl", "{}", "no t_s"),
        ("timeline.jsonl", '{"t_s": "1"}', "t_s: not a number"),
        ("timeline.jsonl", '{"t_s": 3, "running": [1]}', "running: not a number"),
        ("timeline.jsonl", '{"t_s": 3, "running": 1e300}', "running: not a number"),
        ("timeline.jsonl", '{"t_s": 3, "totals": 7}', "totals: not an object"),
        ("timeline.jsonl", '{"t_s": 3, "nodes": [{"cpu": 1}]}', "no name"),
        ("timeline.jsonl", '{"t_s": 3, "gpus": [{"node": "n", "index": "0"}]}', "index: not a number"),
        ("timeline.jsonl", '{"t_s": 3, "engines": [3]}', "engines: not a list of objects"),
    ],
)
def test_a_bad_line_of_a_log_is_left_out_and_named(folder: Path, name: str, line: str, why: str) -> None:
    whole = summary.summarise(folder)
    first, *rest = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join([first, line, *rest, ""]))
    s = summary.write(folder)
    (said,) = s["unread"]
    count = len(rest) + 2
    assert said.startswith(f"{name}: 1 line of {count} can't be read (line 2: {why}")
    assert said.endswith("); left out")
    assert {**s, "unread": []} == whole


def test_what_the_environment_lacks_is_named_and_the_rest_is_summed_up(folder: Path) -> None:
    whole = summary.summarise(folder)
    (folder / "environment.json").write_text(
        '{"name": "x", "models": "a", "slo": {"ttft_ms": "1"}, "cpus": 2}'
    )
    s = summary.summarise(folder)
    lost = "target, models, started_at, slo"
    assert s["unread"] == [f"environment.json: can't use or find {lost}; left out"]
    assert (s["name"], s["target"], s["goodput_rps"]) == ("x", None, None)
    assert s["models"] == ["a", "b"]  # as the requests have them
    assert (s["kpm"], s["requests"]) == (whole["kpm"], whole["requests"])


def test_requests_of_a_phase_that_no_command_began_are_told_of(folder: Path) -> None:
    rows = (folder / "commands.jsonl").read_text().splitlines(keepends=True)
    (folder / "commands.jsonl").write_text("".join(row for row in rows if '"hold"' not in row))
    s = summary.summarise(folder)
    assert s["unread"] == ["commands.jsonl: doesn't say when phase hold began; its 8 requests are left out"]


def test_files_that_were_never_written_are_empty(folder: Path) -> None:
    (folder / "timeline.jsonl").unlink()
    (folder / "commands.jsonl").write_text(jsonl([]))
    s = summary.summarise(folder)
    assert s["phases"] == []
    assert s["requests"]["planned"] == 0
    assert len(s["unread"]) == 2  # the requests of both phases
