"""What binds a system: planted bottlenecks of a queueing model are named, and nothing is on a sound one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from backends.cli import parse_options
from rvtop.stats.verdict import Judge
from rvtop.stats.verdict_figures import Figures, Server
from rvtop.stats.verdict_knobs import knob_of
from rvtop.stats.verdict_rules import RULES
from rvtop.stats.verdict_said import (
    BATCH,
    CLIENT,
    DECODE,
    KV,
    NOTHING,
    ONE_SLOT,
    PREFILL,
    REPLICAS,
    ROUTER,
    Verdict,
)
from rvtop.stats.verdict_told import TOLD
from tests.unit.serving_model import Model, Setup

ROOT = Path(__file__).parents[2]


def server_of(setup: Setup) -> Server:
    places = {str(i): setup.places for i in range(len(setup.slow))} if setup.tells_places else {}
    return Server(places=places, step_tokens=setup.budget if setup.tells_places else None, gpus=True)


def judged(setup: Setup, server: Server | None = None) -> list[Verdict | None]:
    """The verdict that stood at each second."""
    judge = Judge()
    judge.begin_at(server or server_of(setup))
    stood = []
    for row in Model(setup).rows():
        judge.look(row)
        stood.append(judge.now)
    return stood


SOUND = Setup()
PLANTED = {
    "client: its CPU": ("client", replace(SOUND, rates=((30, 30),), send_ms=34)),
    "router: a starved front end": ("router", replace(SOUND, front_ms=118, rates=((30, 7.5),))),
    "router: a proxy that holds tokens": ("router", replace(SOUND, hold_ms=120)),
    "router: a batcher of tokens before engines that tell no times": (
        "router",
        replace(SOUND, hold_ms=50, gathers=True, max_ongoing=64, tells_front_parts=False),
    ),
    "batch": ("batch", replace(SOUND, places=4, rates=((30, 30),))),
    "batch whose places nobody tells": (
        "batch",
        replace(SOUND, places=4, rates=((30, 30),), tells_places=False, prompt=30),
    ),
    "KV cache: preemptions": ("KV cache", replace(SOUND, blocks=40, rates=((30, 20),), output=120)),
    "KV cache: no room to begin": (
        "KV cache",
        replace(SOUND, blocks=120, prompt=600, output=8, rates=((30, 20),), step_ms=20),
    ),
    "prefill": (
        "prefill",
        replace(SOUND, prompt=1500, output=8, budget=512, token_ms=0.06, rates=((30, 14),)),
    ),
    "prefill whose budget nobody tells": (
        "prefill",
        replace(
            SOUND, prompt=1500, output=8, budget=512, token_ms=0.06, rates=((30, 14),), tells_places=False
        ),
    ),
    "batch of long prompts whose places nobody tells": (
        "batch",
        replace(SOUND, places=4, prompt=900, output=24, rates=((30, 34),), tells_places=False),
    ),
    "decode": ("decode", replace(SOUND, rates=((25, 1), (35, 9)), seq_ms=1.5, output=60)),
    "decode in a full batch": ("decode", replace(SOUND, rates=((25, 2), (40, 16)), seq_ms=1.5, output=60)),
    "replicas: a full queue": ("replicas", replace(SOUND, max_ongoing=2, rates=((30, 12),))),
    "replicas: one that starts": (
        "replicas",
        replace(SOUND, max_ongoing=4, wanted=3, places=4, rates=((30, 40),)),
    ),
    "replicas: one of ours that starts": ("replicas", replace(SOUND, wanted=2, places=4, rates=((30, 30),))),
    "one at a time": ("one at a time", replace(SOUND, places=1, rates=((30, 8),))),
    "one engine": (
        "one engine",
        replace(SOUND, slow=(1, 1, 4, 1), places=4, rates=((30, 40),), skewed=(1, 1, 1, 1)),
    ),
}


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 7))])
def test_a_planted_bottleneck_is_named(plant: str, seed: int) -> None:
    name, setup = PLANTED[plant]
    stood = judged(replace(setup, seed=seed))
    last = [verdict.name for verdict in stood[-5:] if verdict is not None]
    assert last == [name] * 5, [(i, v.name, v.figures) for i, v in enumerate(stood) if v is not None][::4]


def test_a_replica_of_ours_that_starts_is_told_with_what_waits() -> None:
    verdict = judged(PLANTED["replicas: one of ours that starts"][1])[-1]
    assert verdict is not None
    replicas, batch, wait = verdict.figures
    assert (replicas, batch) == ("m 1 of 2 replicas", "batch 4/4")
    assert wait.startswith("wait ")
    assert verdict.knob.startswith("replicas that start")


HEALTHY = {
    "replicas of ours that are all there": replace(SOUND, wanted=1),
    "as it is": SOUND,
    "a rate that was raised": replace(SOUND, rates=((25, 4), (35, 12))),
    "four engines": replace(SOUND, slow=(1, 1, 1, 1), rates=((35, 20),)),
    "Ray Serve": replace(SOUND, max_ongoing=64),
    "places that nobody tells": replace(SOUND, tells_places=False),
    "one slot that is enough": replace(SOUND, places=1, rates=((30, 1),)),
    "long prompts": replace(SOUND, prompt=1500, rates=((35, 4),)),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_named_on_a_sound_run(case: str) -> None:
    stood = [verdict for verdict in judged(HEALTHY[case]) if verdict is not None]
    assert [verdict for verdict in stood if verdict.binds] == []
    assert stood[-1].name == "nothing", (stood[-1], stood[-1].rules)


UNKNOWN = {
    "a server without figures of its own": (
        replace(SOUND, places=4, rates=((30, 30),), tells_engine=False),
        "/metrics",
    ),
    "a rate that never stands still": (
        replace(SOUND, rates=tuple((3.0, 2.0 + 0.2 * i) for i in range(12))),
        "20 s of one rate",
    ),
    "a load that has just begun": (replace(SOUND, rates=((8, 8),)), "10 s of load"),
    "a GPU that is always busy, and no lower rate before": (
        replace(SOUND, rates=((30, 16),), seq_ms=1.2, output=40),
        "fit no rule",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_the_figures_do_not_tell_is_not_known(case: str) -> None:
    setup, needs = UNKNOWN[case]
    stood = [verdict for verdict in judged(setup) if verdict is not None]
    assert {verdict.name for verdict in stood} == {"not known yet"}
    assert needs in stood[-1].why


def test_a_verdict_is_replaced_only_by_one_that_holds_for_some_seconds() -> None:
    full = Model(PLANTED["batch"][1]).rows()[-20:]
    starved = Model(PLANTED["router: a proxy that holds tokens"][1]).rows()[-12:]
    judge = Judge()
    judge.begin_at(Server(places={"0": 4}))
    rows = [
        {**row, "t_s": float(second)} for second, row in enumerate([*full, *starved[:3], *full, *starved])
    ]
    names = []
    for row in rows:
        judge.look(row)
        names.append(judge.now.name if judge.now is not None else "")
    assert names[19:43] == ["batch"] * 24  # three seconds of something else are none of its business
    assert names[-1] == "router"
    assert sum(a != b for a, b in pairwise(names[19:])) == 1


def test_a_load_that_is_paused_has_none_and_begins_anew() -> None:
    judge, rows = Judge(), Model(PLANTED["batch"][1]).rows()
    judge.begin_at(Server(places={"0": 4}))
    idle = {**rows[-1], "target_rps": 0.0, "in_flight": 0, "completed_rps": 0.0}
    names = []
    for row in [*rows[-20:], idle, idle, idle, rows[-1]]:
        judge.look(row)
        names.append(judge.now.name if judge.now is not None else None)
    assert names[-6:] == ["batch", "batch", "batch", "batch", None, "not known yet"]


def test_what_was_seen_of_another_server_says_nothing_of_this_one() -> None:
    judge = Judge()
    judge.begin_at(Server(places={"0": 4}))
    rows = Model(PLANTED["batch"][1]).rows()
    for row in rows:
        judge.look(row)
    assert judge.now is not None
    assert judge.now.name == "batch"
    judge.begin_at(Server(places={"0": 8}))
    assert judge.now is None
    judge.look(rows[-1])
    assert judge.now is not None
    assert judge.now.why == "needs 10 s of load, has 1"


LATE = Figures(
    limited="the event loop was blocked for 82 ms (p99): add workers", lag_ms=49.0, worker_cpu=0.02,
    ttft_ms=11_486.0, ttft_p50_ms=12_000.0, queue_ms=10_960.0, prefill_ms=17.0, waiting=153.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "binds"),
    [
        (LATE, False),  # 153 requests wait in the engine for 11 s: no load worker more would help
        (replace(LATE, lag_ms=200.0), True),  # late sends are 2 % of the TTFT
        (replace(LATE, queue_ms=8_000.0), True),  # much of it is not the engine's
        (replace(LATE, waiting=0.0), True),
        (replace(LATE, worker_cpu=0.95), True),
        (replace(LATE, queue_ms=None, prefill_ms=None), True),  # the server tells nothing of its own
        (replace(LATE, limited=None), False),
    ],
)
def test_a_late_client_does_not_bind_requests_that_wait_in_the_engines_for_far_longer(
    figures: Figures, binds: bool
) -> None:
    client = next(rule for rule in RULES if rule.name == CLIENT)
    assert client.holds(figures) is binds


def test_the_figures_of_a_late_client_hold_what_keeps_its_workers() -> None:
    blocked = replace(LATE, loop_ms=82.0)
    assert TOLD["cpu"](blocked) == ("event loop blocked 82 ms", {"loop_lag_ms": 82.0, "worker_cpu": 0.02})
    assert TOLD["cpu"](replace(blocked, worker_cpu=0.95))[0] == "worker 95 % of a core"
    assert TOLD["cpu"](LATE)[0] == "worker 2 % of a core"


def test_each_rule_shows_figures_that_exist_and_has_a_source() -> None:
    for rule in RULES:
        assert set(rule.shows) <= set(TOLD)
        assert rule.source
        assert set(rule.needs) <= set(dir(Figures))


BUSY = Figures(running=4.0, most_running=4.0, limited="sends are late by 9 ms (p99): add workers")
KNOBS = [
    (KV, "vllm", ("--engine-arg", "num_gpu_blocks_override=6"),
     ("--engine-arg", "num_gpu_blocks_override=12")),
    (KV, "rvc", ("--kv-cache-dtype=fp8", "--gpu-memory-utilization", "0.8"),
     ("--kv-cache-dtype=fp8", "--gpu-memory-utilization", "0.95")),
    (KV, "vllm", ("--dtype", "auto"), ("--dtype", "auto", "--kv-cache-dtype", "fp8")),
    (KV, "rac", (), ("--num-replicas", "2")),
    (KV, "graph", (), ("--stage-replicas", "llm=2")),
    (BATCH, "rvc", ("--max-num-seqs=4", "--eager"), ("--eager", "--max-num-seqs", "8")),
    (BATCH, "vllm", ("--engine-concurrency", "4"), ("--engine-concurrency", "8")),
    (BATCH, "rac", (), ("--engine-concurrency", "8")),
    (PREFILL, "vllm", ("--engine-arg=max-num-batched-tokens=512",),
     ("--engine-arg", "max_num_batched_tokens=1024")),
    (ROUTER, "rvc", (), ("--front-processes", "2")),
    (ROUTER, "vllm", ("--api-server-count", "2"), ("--api-server-count", "4")),
    (ROUTER, "rsv", (), ("--stream-batching-ms", "0")),
    (ROUTER, "rsv", ("--stream-batching-ms", "0"), None),
    (REPLICAS, "rsv", ("--max-ongoing", "2"), ("--max-ongoing", "4")),
    (REPLICAS, "rsc", ("--autoscale", "1:2"), ("--autoscale", "1:4")),
    (REPLICAS, "rsc", ("--autoscale", "min=1,max=2,up=3"), ("--autoscale", "min=1,max=4,up=3")),
    (DECODE, "rvc", ("--autoscale", "1:2"), ("--autoscale", "1:4")),
    (DECODE, "rvc", ("--autoscale", "target=4"), ("--autoscale", "target=4,max=2")),
    (DECODE, "rvc", ("--auto-place",), None),
    (BATCH, "rvc", ("--engine-arg", "max-num-seqs=4"), ("--engine-arg", "max-num-seqs=8")),
    (BATCH, "rvc", ("--eager", "--engine-arg=max_num_seqs=4"), ("--eager", "--engine-arg", "max-num-seqs=8")),
    (KV, "vllm", ("--engine-arg=gpu_memory_utilization=.4",), ("--engine-arg", "gpu-memory-utilization=0.8")),
    (DECODE, "rvc", ("--num-replicas", "1"), ("--num-replicas", "2")),
    (DECODE, "graph", (), ("--stage-replicas", "llm=2")),
    (DECODE, "graph", ("--stage-replicas=embed=2, llm=3",), ("--stage-replicas", "embed=2,llm=4")),
    (DECODE, "graph", ("--auto", "5"), None),
    (ONE_SLOT, "baseline", ("--dtype", "float32", "--engine-concurrency", "1"), ("--dtype", "float32")),
    (CLIENT, "vllm", (), None),
    (NOTHING, "vllm", (), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "topology", "before", "after"), KNOBS)
def test_the_knob_is_turned_in_the_options_that_it_was_started_with(
    name: str, topology: str, before: tuple[str, ...], after: tuple[str, ...] | None
) -> None:
    server = Server(topology, True, "vllm", before, {"0": 4}, 512, gpus=True)
    knob = knob_of(name, BUSY, server)
    assert knob.text
    assert knob.arguments == after
    if after is not None:
        assert knob.topology == ("rvc" if name == ONE_SLOT else topology)
        options, _, _ = parse_options((knob.topology, "--model", "tiny", *after))  # which it takes
        options.listener.close()
    theirs = knob_of(name, BUSY, replace(server, owned=False))
    assert theirs.arguments is None
    assert theirs.topology == ""


@pytest.mark.parametrize(
    ("topology", "before", "text", "after"),
    [
        ("rvc", (), "num_replicas 2→3", ("--num-replicas", "3")),  # of each of two models, not of both
        ("graph", (), "llm.replicas 2→3", ("--stage-replicas", "llm=3")),
        ("graph", ("--auto", "5"), "llm.replicas 2→3", None),  # which gave it a second one
        # What it was started with was changed since, by `rvtop set`.
        ("graph", ("--stage-replicas", "llm=4"), "llm.replicas 2→3", ("--stage-replicas", "llm=3")),
    ],
)
def test_a_further_replica_is_one_more_than_a_model_has(
    topology: str, before: tuple[str, ...], text: str, after: tuple[str, ...] | None
) -> None:
    server = Server(topology, True, "vllm", before, dict.fromkeys("0123", 4), 512, gpus=True, replicas=2)
    knob = knob_of(DECODE, BUSY, server)
    assert (knob.text, knob.arguments) == (text, after)
    theirs = knob_of(DECODE, BUSY, replace(server, owned=False, arguments=()))  # started elsewhere
    assert theirs.line == ("rvtop set llm.replicas=3" if topology == "graph" else "")


@pytest.mark.parametrize(
    ("limited", "line"),
    [
        ("late: add workers (--workers auto) or free this machine's cores", "auto"),
        (
            "sends are late: free this machine's cores or use workers on other machines (--workers ray:N)",
            "ray:N",
        ),
        (
            "sends are late: add workers (a larger N than --workers ray:8) or free the cores of their nodes",
            "ray:N",
        ),
    ],
)
def test_the_line_of_a_limited_client_is_what_its_remedy_says(limited: str, line: str) -> None:
    knob = knob_of(CLIENT, replace(BUSY, limited=limited), Server("baseline", True, "hf"))
    assert knob.line == f"rvtop … --workers {line}"


def test_the_model_knows_no_rule_and_the_page_has_every_verdict() -> None:
    model = (ROOT / "tests/unit/serving_model.py").read_text()
    assert "verdict" not in "".join(line for line in model.splitlines() if "import" in line)
    page = (ROOT / "docs/verdict.md").read_text()
    for rule in RULES:
        assert f"\n| {rule.name} |" in page
