"""The benchmarks' arithmetic: what they say of arrivals and logs that were made to be known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tests.backends.backend_process import BackendProcess
from tests.bench import gpu_fronts, gpu_scale, peers, rates, soak, topologies
from tests.mock.log import Log


def arrivals_of(stretches: list[tuple[float, float, float]]) -> np.ndarray:
    """Constant arrivals of (since, until, rate): one unit-rate stream through the integral of the rate."""
    times, level = [], 0.0
    for since, until, rate in stretches:
        area = level + rate * (until - since)
        if rate:
            first, last = int(np.ceil(level - 1e-9)), int(np.ceil(area - 1e-9))
            times += [since + (n - level) / rate for n in range(first, last)]
        level = area
    return np.array(times)


def test_a_switch_is_found_to_the_fraction_of_a_gap() -> None:
    sent = [rates.Sent("rate", 10.0, 40.0), rates.Sent("rate", 11.0, 100.0)]
    arrivals = arrivals_of([(10.0, 11.05, 40.0), (11.05, 12.0, 100.0)])
    found = rates.examine(arrivals, sent, 12.0)
    assert found.switch == pytest.approx([50.0], abs=0.01)
    assert 50.0 <= found.felt[0] <= 60.0
    assert max(found.off) < 0.001


@pytest.mark.parametrize(
    ("shift_s", "why"), [(0.12, "a gap"), (-0.12, "a burst")], ids=lambda v: str(v).replace(" ", "_")
)
def test_a_gap_or_a_burst_moves_the_switch_away(shift_s: float, why: str) -> None:
    sent = [rates.Sent("rate", 10.0, 40.0), rates.Sent("rate", 11.0, 100.0)]
    arrivals = arrivals_of([(10.0, 11.05, 40.0), (11.05, 12.5, 100.0)])
    late = arrivals > 11.05
    arrivals[late] += shift_s
    found = rates.examine(np.sort(arrivals), sent, 12.3)
    assert not 0.0 <= found.switch[0] <= rates.LIMIT_MS, why


def test_a_pause_takes_out_its_own_length_and_what_is_caught_up_shows() -> None:
    sent = [
        rates.Sent("rate", 10.0, 200.0),
        rates.Sent("pause", 11.0, 200.0),
        rates.Sent("resume", 11.5, 200.0),
    ]
    plan = [(10.0, 11.05, 200.0), (11.05, 11.55, 0.0), (11.55, 12.5, 200.0)]
    found = rates.examine(arrivals_of(plan), sent, 12.5)
    assert found.silence == pytest.approx([0.0], abs=0.01)
    assert found.last[0] == pytest.approx(50.0, abs=5.01)
    assert 49.9 <= found.first[0] <= 55.1
    caught_up = arrivals_of([(10.0, 11.05, 200.0), (11.05, 11.53, 0.0), (11.53, 12.5, 200.0)])
    assert rates.examine(caught_up, sent, 12.5).silence == pytest.approx([-20.0], abs=0.01)


def test_the_plan_of_a_command_log(tmp_path: Path) -> None:
    entries = [
        {"at_ns": 10**9, "cmd": "phase", "rate_from": 10.0},
        {"at_ns": 2 * 10**9 + 5 * 10**7, "cmd": "rate", "value": 20.0},
        {"at_ns": 3 * 10**9, "cmd": "pause"},
        {"at_ns": 4 * 10**9, "cmd": "resume"},
        {"at_ns": 5 * 10**9, "cmd": "stop"},
    ]
    file = tmp_path / "commands.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    expected = arrivals_of([(1, 2.05, 10), (2.05, 3, 20), (3, 4, 0), (4, 5, 20)])
    assert rates.planned(file) == pytest.approx(expected)


def log_of(arrival_ms: list[float], ends: list[str]) -> Log:
    n = len(ends)
    zeros = np.zeros(n, dtype=np.int64)
    arrival = (np.array(arrival_ms) * 1e6).astype(np.int64)
    return Log(
        [str(i) for i in range(n)], ends, arrival, zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros
    )


def test_delivered_counts_what_came_in_time_and_was_answered() -> None:
    log = log_of([5000, 5100, 5200, 5300, 5900], ["done", "done", "cut", "done", "done"])
    assert peers.delivered(log, 4, 10.0) == 3  # one was cut, one came half a second late
    assert peers.delivered(log_of([], []), 4, 10.0) == 0


def test_memory_of_this_process_is_read() -> None:
    import os

    held = soak.memory(os.getpid())
    assert held is not None
    assert 0 < held.private <= held.rss
    assert soak.memory(2**22 + 1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_tree_is_counted_with_children_that_lost_their_parent(tmp_path: Path) -> None:
    import subprocess

    spun = tmp_path / "spun"
    spin = (
        "import pathlib, sys, time\nwhile time.process_time() < 0.3: pass\npathlib.Path(sys.argv[1]).touch()"
    )
    # The middle process ends at once: its child would be init's, and nobody's CPU time.
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {spin!r}, sys.argv[1]])"
    report = tmp_path / "report.json"
    code = (
        "import pathlib, subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {orphan!r}, {str(spun)!r}])\n"
        f"while not pathlib.Path({str(spun)!r}).exists(): time.sleep(0.02)"
    )
    tree = [
        sys.executable,
        peers.TREE,
        "--limit",
        "120",
        "--report",
        str(report),
        "--",
        sys.executable,
        "-c",
        code,
    ]
    subprocess.run(tree, check=True)
    told = json.loads(report.read_bytes())
    assert told["code"] == 0
    assert told["cpu_s"] >= 0.3


def server(name: str, **ttft_p50: list[float | None]) -> topologies.Server:
    """One with these TTFT by turn, ``c1`` and so on."""
    turns = {
        int(level[1:]): [
            {"ttft_p50": at, "ttft_p99": 9.0, "itl_p50": 5.0, "itl_p99": 6.0, "tps": 70.0} for at in values
        ]
        for level, values in ttft_p50.items()
    }
    return topologies.Server(name, cast(BackendProcess, None), "", 40.0, 300 * 2**20, turns)


def test_topologies_are_held_to_what_is_demanded() -> None:
    vllm = server("vllm", c1=[20.0, 21.0, 40.0], c8=[100.0], c32=[200.0])
    rvc = server("rvc", c1=[22.9, 22.0, 80.0], c8=[111.0], c32=[None])
    rsv, off = (server(name, c1=[at]) for name, at in ((topologies.RSV, 73.0), (topologies.OFF, 24.0)))
    servers = [vllm, rvc, rsv, off]
    beside = {topologies.RSV: server("vllm", c1=[19.0]), topologies.OFF: server("vllm", c1=[18.0])}
    assert topologies.demands(servers, beside) == [
        "rvc's TTFT p50 against vllm's at c = 1: +1.90 ms (demand: at most +2 ms): held",
        "rvc's TTFT p50 against vllm's at c = 8: x 1.110 (demand: at most 1.10): MISSED",
        "rvc's TTFT p50 against vllm's at c = 32: --",
        "rsv's TTFT p50 against vllm's at c = 1: +54.00 ms, of which the batcher +48.00 ms; left +6.00 ms "
        "(demand: ± 5 ms): MISSED",
    ]
    lines = topologies.table([rvc])
    assert "22.90" in lines[1]
    assert lines[1].endswith("300 MiB     40 s")
    assert "--" in lines[3]


@pytest.mark.parametrize(
    ("name", "topology", "flags"),
    [
        ("rvc-4x2", "rvc", "--front-processes 4 --max-queue unlimited --num-replicas 2"),
        (
            "rvc-1tp2pp2",
            "rvc",
            "--front-processes 1 --max-queue unlimited --tensor-parallel 2 --pipeline-parallel 2",
        ),
        ("vllm-rust", "vllm", "--rust-frontend"),
        ("rsv-0", "rsv", "--stream-batching-ms 0"),
    ],
)
def test_a_servers_name_says_its_flags(name: str, topology: str, flags: str) -> None:
    assert gpu_fronts.server_arguments(name) == (topology, flags.split())


@pytest.mark.parametrize("name", ["rvc-rust", "rvc-", "vllm-4y2", "rac-1"])
def test_a_name_of_no_server_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: write rvc-N"):
        gpu_fronts.server_arguments(name)


def test_the_share_of_many_engines_is_of_the_mean_of_one_before_and_after() -> None:
    def row(server: str, tps: float, limited: str | None = None) -> dict[str, object]:
        load = {"load": "burst", "kpm": {"tps": tps}, "client": {"limited_by": limited}}
        return {"server": server, "loads": [load]}

    rows = [row("rvc-4x1", 900.0), row("rvc-4x2", 1960.0, "cores"), row("rvc-4x1", 1100.0)]
    found = gpu_scale.shares([*rows, {"server": "rvc-4tp2", "failed": "no"}], 2)
    assert found == {"burst": {"share": pytest.approx(0.98), "client_limited": ["cores"]}}
