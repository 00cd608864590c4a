"""Ray's metrics pages: a real one, discovery by topology and by file, several nodes, fold and summary."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray_session import raylet, session
from telemetry_pages import golden

from rvtop.contract.snapshot import ServeDeployment
from rvtop.results.server import server_summary
from rvtop.session.live import LiveState
from rvtop.session.view import timeline_row
from rvtop.telemetry import discover, ray
from rvtop.telemetry.discover import sources_for
from rvtop.telemetry.metrics import NAMES, RAY_NAMES, RAY_TABLE
from rvtop.telemetry.prometheus import PageReader
from rvtop.telemetry.ray import NotFound, RaySource, file_pages, from_machine, from_topology, topology_pages
from rvtop.telemetry.ray_series import HOLD_S, Held, together
from rvtop.telemetry.sample import DeploymentSample, EngineSample, GpuSample, NodeSample, Sample
from rvtop.telemetry.state import ServerState

S = 1_000_000_000
MIB = 1024.0**2
REAL = "ray_2.60.prom"


def test_the_table_has_each_series_and_each_place_once() -> None:
    counters = [metric for metric in RAY_TABLE if metric.counter]
    assert len(RAY_NAMES) == len(RAY_TABLE) + len(counters)
    assert not any(metric.series.endswith("_total") for metric in counters)
    assert not set(RAY_NAMES) & set(NAMES)
    places = [(metric.of, metric.field) for metric in RAY_TABLE]
    assert len(places) == len(set(places))
    fields = {"node": NodeSample, "deployment": DeploymentSample}
    for metric in RAY_TABLE:
        assert metric.help.endswith(".")
        if metric.of in fields:
            assert metric.field in fields[metric.of].__dataclass_fields__


def test_a_real_page_of_a_node_with_serve() -> None:
    page = PageReader().read(golden(REAL))
    assert page.engines == page.gpus == ()
    (node,) = page.nodes
    assert node == NodeSample("192.0.2.2", 0.29, 8.7957504e08, 2.5274793984e10)
    (deployment,) = page.deployments
    assert deployment == DeploymentSample(
        "demo/D",
        replicas=1,
        target_replicas=1,
        ongoing=0,
        queued=0,
        requests=5,
        latency_sum_ms=375,
        latency_count=5,
        starts=1,
    )


def test_gpus_of_a_node_in_bytes_and_shares() -> None:
    page = PageReader().read(golden("ray_gpu.prom"))
    busy, idle = page.gpus
    assert busy == GpuSample("10.0.0.1", 0, "NVIDIA H200", 71680 * MIB, 143360 * MIB, 0.87)
    assert (idle.index, idle.memory_used, idle.memory_total, idle.util) == (1, 512 * MIB, 143360 * MIB, 0)
    assert page.nodes[0].memory_total == 2**40


#: Version -> what its page tells: the node's memory in use, replicas that Serve wants, sum of latencies.
BUSY = {
    "2.44": (5.371727872e09, None, pytest.approx(314.668, abs=1e-3)),
    "2.52": (3.394256896e09, None, 397.5),
    "2.60_busy": (2.150014976e09, 1.0, 386.0),
}


@pytest.mark.parametrize("version", BUSY)
def test_real_pages_of_three_versions_of_ray_with_requests_at_work_waiting_and_failed(version: str) -> None:
    memory, target, latency_ms = BUSY[version]
    page = PageReader().read(golden(f"ray_{version}.prom"))
    assert page.nodes == (NodeSample("192.0.2.2", 1.0, memory, 2.5276063744e10),)
    (deployment,) = page.deployments
    assert deployment == DeploymentSample(
        "demo/D",
        replicas=1,
        target_replicas=target,
        ongoing=1,
        queued=2,
        requests=5,
        errors=2,
        latency_sum_ms=latency_ms,
        latency_count=7,
        starts=1,
    )


def test_a_real_page_of_a_deployment_that_batches() -> None:
    (deployment,) = PageReader().read(golden("ray_2.60_batch.prom")).deployments
    assert (deployment.name, deployment.starts, deployment.requests) == ("demo/D", 1, 30)
    # Three in a batch. (The histogram of sizes says 2.25: Ray makes up its sum from the middles of buckets.)
    assert deployment.batches == 10
    assert (deployment.batch_wait_sum_ms, deployment.batch_wait_count) == (491, 10)


def test_ray_2_44_tells_each_counter_twice_and_later_versions_once() -> None:
    series = "ray_serve_deployment_request_counter{"
    assert [series in golden(f"ray_{version}.prom") for version in BUSY] == [True, False, False]


async def test_two_pages_of_ray_2_52_the_second_without_gauges_tell_the_same(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "_PERIOD_S", 0.0)
    assert PageReader().read(golden("ray_2.52_next.prom")).nodes == ()
    source = RaySource(from_topology(head, {}))
    for name in ("ray_2.52.prom", "ray_2.52_next.prom"):
        Head.pages["/n1"] = golden(name)
        sample = await source.poll()
        assert sample.nodes[0] == NodeSample("vm/aaaaaa", 1.0, 3.394256896e09, 2.5276063744e10)
        (deployment,) = sample.deployments
        assert deployment == DeploymentSample(
            "demo/D",
            replicas=1,
            ongoing=1,
            queued=2,
            requests=5,
            errors=2,
            latency_sum_ms=397.5,
            latency_count=7,
            starts=1,
        )
    await source.close()


COUNTERS = (
    ("requests", "ray_serve_deployment_request_counter"),
    ("errors", "ray_serve_deployment_error_counter"),
    ("starts", "ray_serve_deployment_replica_starts"),
)


@pytest.mark.parametrize("ends", [("",), ("_total",), ("", "_total"), ("_total", "")])
@pytest.mark.parametrize(("field", "series"), COUNTERS)
def test_counters_are_read_with_and_without_total_and_never_twice(
    field: str, series: str, ends: tuple[str, ...]
) -> None:
    lines = [
        f'{series}{end}{{application="a",deployment="D",replica="{replica}"}} {value}\n'
        for end in ends
        for replica, value in (("r1", 5), ("r2", 7))
    ]
    assert PageReader().read("".join(lines)).deployments == (DeploymentSample("a/D", **{field: 12.0}),)


def test_gauges_that_a_page_leaves_out_stand_until_they_are_too_old() -> None:
    """Ray 2.52 tells each value of a gauge on one page only."""
    held: Held[DeploymentSample] = Held()
    told = DeploymentSample("a/D", replicas=1, queued=2, requests=5)
    assert held.filled([told], 0.0) == (told,)
    assert held.filled([DeploymentSample("a/D", requests=6)], 5.0) == (replace(told, requests=6),)
    assert held.filled([], HOLD_S) == (replace(told, requests=6),)  # nor is it there at all
    later = DeploymentSample("a/D", queued=0)
    assert held.filled([later], HOLD_S + 1) == (replace(later, requests=6),)
    assert held.filled([], 2 * HOLD_S + 1) == (later,)
    assert held.filled([], 2 * HOLD_S + 2) == ()
    assert held.filled([], 0.0) == ()


def test_gpus_that_a_page_leaves_out_keep_their_numbers_apart() -> None:
    held: Held[GpuSample] = Held()
    both = (GpuSample("n", 0, "H200", 1.0, 4.0, 0.5), GpuSample("n", 1, "H200", 2.0, 4.0, 0.6))
    assert held.filled(both, 0.0) == both
    idle = replace(both[1], util=0.0)
    assert set(held.filled([idle], 5.0)) == {both[0], idle}


async def test_a_cluster_whose_pages_take_turns_is_one_steady_answer(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "_PERIOD_S", 0.0)
    source = RaySource(from_topology(head, {}))
    whole = golden(REAL)
    first = await source.poll()
    for part in ("ray_serve_", "ray_node_"):
        lines = [line for line in whole.splitlines() if line.startswith(("#", part))]
        Head.pages["/n1"] = "\n".join(lines) + "\n"
        sample = await source.poll()
        assert replace(sample, t_ns=0) == replace(first, t_ns=0)
    await source.close()


def test_series_without_their_labels_are_left_out() -> None:
    text = "ray_node_gram_used 5\nray_serve_deployment_queued_queries 3\nray_node_mem_used NaN\n"
    page = PageReader().read(text, "n1")
    assert (page.gpus, page.deployments) == ((), ())
    assert page.nodes == (NodeSample("n1"),)


def test_a_deployment_adds_up_over_the_pages_of_all_nodes() -> None:
    head = DeploymentSample("a/D", replicas=2, target_replicas=2, queued=3)
    worker = DeploymentSample("a/D", target_replicas=None, ongoing=1, queued=4, requests=7)
    other = DeploymentSample("a/C", ongoing=1)
    assert together([head, worker, other]) == (
        other,
        DeploymentSample("a/D", replicas=2, target_replicas=2, ongoing=1, queued=7, requests=7),
    )


# -- finding the pages -------------------------------------------------------------------------


def test_pages_that_a_topology_names() -> None:
    one = {"id": "aaaaaaaa", "hostname": "n1", "metrics_url": "http://10.0.0.1:8080/metrics"}
    two = {"id": "bbbbbbbb", "hostname": "n2", "metrics_url": "http://10.0.0.2:8080/metrics"}
    nameless = {"id": "cccccccc", "hostname": "n3", "metrics_url": None}
    text = json.dumps({"topology": "rac", "nodes": [one, two, nameless]})
    assert topology_pages(text) == {one["metrics_url"]: "n1", two["metrics_url"]: "n2"}
    same = json.dumps({"nodes": [one, {**two, "hostname": "n1"}]})
    assert list(topology_pages(same).values()) == ["n1/aaaaaa", "n1/bbbbbb"]
    assert topology_pages("{}") == {}


@pytest.mark.parametrize("text", ["", "[]", "<html>", '{"nodes": [1]}', '{"nodes": 3}'])
def test_no_answer_of_ours_is_one_line(text: str) -> None:
    with pytest.raises(NotFound, match="/rvtop/topology"):
        topology_pages(text)


def test_pages_that_a_service_discovery_file_names() -> None:
    targets = ["203.0.113.7:1", "127.0.0.1:2", "127.0.0.1:2"]
    text = json.dumps([{"labels": {"job": "ray"}, "targets": targets}])
    pages = file_pages(text)
    assert pages == {"http://203.0.113.7:1/metrics": "", "http://127.0.0.1:2/metrics": platform.node()}
    for bad in ("", "[1]", '[{"targets": 3}]'):
        with pytest.raises(NotFound, match="prom_metrics_service_discovery"):
            file_pages(bad)


def test_which_targets_have_a_ray_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(url: str, **options: object) -> list[str]:
        return [source.name for source in sources_for(url, **options)]  # type: ignore[arg-type]

    monkeypatch.setattr(discover, "discovery_file", lambda: tmp_path / "file")
    assert names("http://127.0.0.1:1") == ["metrics", "nvml", "ray"]
    assert names("http://gpu7:1") == ["metrics"]
    assert names("http://127.0.0.1:1", topology="baseline") == ["metrics", "nvml"]
    assert names("http://gpu7:1", topology="rac", on_ray=True) == ["metrics", "ray"]
    monkeypatch.setattr(discover, "discovery_file", lambda: None)
    assert names("http://127.0.0.1:1") == ["metrics", "nvml"]


# -- the source --------------------------------------------------------------------------------


class Head(BaseHTTPRequestHandler):
    """A head with two nodes on it; ``pages`` are its answers by path."""

    pages: dict[str, str]
    keys: dict[str, str | None]

    def do_GET(self) -> None:
        self.keys[self.path] = self.headers.get("Authorization")
        text = self.pages.get(self.path)
        self.send_response(404 if text is None else 200)
        body = (text or "").encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def head() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Head) as made:
        made.daemon_threads = True
        url = f"http://127.0.0.1:{made.server_address[1]}"
        rows = [
            {"id": "aaaaaaaa", "hostname": "vm", "metrics_url": f"{url}/n1"},
            {"id": "bbbbbbbb", "hostname": "vm", "metrics_url": f"{url}/n2"},
        ]
        Head.keys = {}
        Head.pages = {
            "/n1": golden(REAL),
            "/n2": golden("ray_gpu.prom") + golden("ray_vllm.prom"),
            "/rvtop/topology": json.dumps({"topology": "rac", "ray": {}, "nodes": rows}),
        }
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield url
        made.shutdown()
        thread.join()


async def test_all_nodes_of_a_topology_as_one_sample(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "_PERIOD_S", 0.0)
    source = RaySource(from_topology(head, {"Authorization": "Bearer k"}))
    sample = await source.poll()
    assert sample.error is None
    assert sample.engines == ()  # a topology of ours tells of its engines itself
    assert [node.node for node in sample.nodes] == ["vm/aaaaaa", "vm/bbbbbb"]
    assert {gpu.node for gpu in sample.gpus} == {"vm/bbbbbb"}
    assert [deployment.name for deployment in sample.deployments] == ["demo/D"]
    assert Head.keys == {"/rvtop/topology": "Bearer k", "/n1": None, "/n2": None}
    del Head.pages["/n2"]  # the node went away
    sample = await source.poll()
    assert sample.error is None
    assert [node.node for node in sample.nodes] == ["vm/aaaaaa"]
    del Head.pages["/n1"]
    assert (await source.poll()).error == "HTTP 404"
    await source.close()


async def test_pages_are_found_anew(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "_PERIOD_S", 0.0)
    source = RaySource(from_topology(head, {}))
    assert len((await source.poll()).nodes) == 2
    del Head.pages["/rvtop/topology"]  # the head is busy: what was found stays
    assert len((await source.poll()).nodes) == 2
    rows = [{"id": "c", "hostname": "n9", "metrics_url": f"{head}/n1"}]
    Head.pages["/rvtop/topology"] = json.dumps({"nodes": rows})
    assert [node.node for node in (await source.poll()).nodes] == ["n9"]
    await source.close()


async def test_between_two_looks_the_last_answer_is_told_again(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "_PERIOD_S", 3600.0)
    source = RaySource(from_topology(head, {}))
    first = await source.poll()
    Head.pages.clear()
    again = await source.poll()
    assert again.t_ns > first.t_ns
    assert replace(again, t_ns=first.t_ns) == first
    await source.close()


async def test_a_head_that_can_not_be_asked(head: str) -> None:
    del Head.pages["/rvtop/topology"]
    source = RaySource(from_topology(head, {}))
    for _ in range(2):
        assert (await source.poll()).error == "/rvtop/topology: HTTP 404"
    await source.close()


async def test_a_cluster_of_this_machine_while_it_runs_and_after(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "_PERIOD_S", 0.0)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    Head.pages["/metrics"] = Head.pages["/n2"]
    with raylet(session(tmp_path, targets=[head.removeprefix("http://")])):
        source = RaySource(from_machine(), engines=True)
        sample = await source.poll()
        assert sample.second_hand
        assert len(sample.engines) == 2
        assert {node.node for node in sample.nodes} == {gpu.node for gpu in sample.gpus} == {platform.node()}
    never = RaySource(from_machine())
    assert (await never.poll()).error == "no Ray cluster runs on this machine any more"
    del Head.pages["/metrics"]
    assert (await source.poll()).error == "HTTP 404"  # what was found is asked on, and says more
    await source.close()


def rates(*counts: tuple[float, float]) -> list[float | None]:
    """Tokens/s after each (second, tokens so far) told at second hand."""
    state = ServerState()
    seen = []
    for t_s, tokens in counts:
        engine = EngineSample("r1", "m", None, {}, {"generation_tokens": tokens}, {}, "vllm")
        state.apply(at(t_s, engines=(engine,), second_hand=True))
        seen.append(state.view(int(t_s * S)).tokens_per_s)
    return seen


def test_a_rate_stands_between_two_steps_of_counters_that_ray_exports_every_ten_seconds() -> None:
    told = rates((1, 0), (2, 0), (11, 100), (12, 100), (13, 100), (21, 300), (30, 300), (37, 300), (38, 300))
    assert told == [None, None, 10, 10, 10, 20, 20, 0, 0]


# -- the fold ----------------------------------------------------------------------------------


def at(t_s: float, source: str = "ray", **parts: object) -> Sample:
    return replace(Sample(int(t_s * S), source), **parts)  # type: ignore[arg-type]


def test_nodes_go_stale_and_are_forgotten() -> None:
    state = ServerState(["ray"])
    a, b = NodeSample("a", 0.5, 1.0, 4.0), NodeSample("b", 0.1)
    state.apply(at(1, nodes=(a, b)))
    assert [(node.name, node.cpu, node.stale_s) for node in state.view(S).nodes] == [
        ("a", 0.5, None),
        ("b", 0.1, None),
    ]
    state.apply(at(9, nodes=(a,)))
    assert [(node.name, node.stale_s) for node in state.view(9 * S).nodes] == [("a", None), ("b", 8.0)]
    state.apply(at(70, nodes=(a,)))
    assert [node.name for node in state.view(70 * S).nodes] == ["a"]
    (source,) = state.view(70 * S).sources
    assert source.state == "ok"


def test_latency_inside_serve_is_that_of_the_last_twenty_seconds() -> None:
    state = ServerState()

    def told(t_s: float, total: float, count: float) -> float | None:
        sample = DeploymentSample("a/D", replicas=1, queued=2, latency_sum_ms=total, latency_count=count)
        state.apply(at(t_s, deployments=(sample,)))
        (line,) = state.view(int(t_s * S)).deployments
        assert (line.replicas, line.queued) == (1, 2)
        return line.latency_ms

    assert told(1, 1000, 10) is None  # what came before we looked is not ours
    assert told(2, 1000, 10) is None
    assert told(3, 1300, 11) == 300
    assert told(4, 1400, 12) == 200
    assert told(5, 50, 1) == 200  # a replica went away: no figure for this second
    assert told(6, 150, 2) == pytest.approx(500 / 3)
    assert told(30, 150, 2) is None
    assert state.view(40 * S).deployments == ()


def test_batches_of_the_last_twenty_seconds_and_every_start_of_a_replica() -> None:
    state = ServerState()

    def told(t_s: float, requests: float, batches: float | None, filled_ms: float | None) -> ServeDeployment:
        sample = DeploymentSample(
            "a/D",
            requests=requests,
            batches=batches,
            batch_wait_sum_ms=filled_ms,
            batch_wait_count=batches,
            starts=t_s,
        )
        state.apply(at(t_s, deployments=(sample,)))
        return state.view(int(t_s * S)).deployments[0]

    first = told(1, 100, 50, 900)
    assert (first.batch_size, first.batch_wait_ms, first.starts) == (None, None, 1)
    later = told(2, 112, 54, 940)
    assert (later.batch_size, later.batch_wait_ms, later.starts) == (3, 10, 2)
    assert told(30, 120, 54, 940).batch_size is None  # none was made in the last 20 s
    without = told(31, 130, None, None)
    assert (without.batch_size, without.batch_wait_ms) == (None, None)


def test_engines_at_second_hand_count_only_while_no_other_source_has_any() -> None:
    def engine(name: str, tokens: float) -> EngineSample:
        return EngineSample(name, "m", None, {"running": 1}, {"generation_tokens": tokens}, {}, "vllm")

    state = ServerState()
    for t_s in (1, 2):
        state.apply(at(t_s, engines=(engine("r1", 100 * t_s),), second_hand=True))
    view = state.view(2 * S)
    assert ([e.name for e in view.engines], view.tokens_per_s) == (["r1"], 100)
    state.apply(at(3, "metrics", engines=(engine("0", 1000),)))
    state.apply(at(3, engines=(engine("r1", 300),), second_hand=True, nodes=(NodeSample("n"),)))
    state.apply(at(4, "metrics", engines=(engine("0", 1007),)))
    view = state.view(4 * S)
    assert ([e.name for e in view.engines], view.tokens_per_s) == (["0"], 7)
    assert view.running == 1
    assert view.totals == {"generation_tokens": 7}
    assert [node.name for node in view.nodes] == ["n"]


def test_the_timeline_and_the_summary_hold_nodes_and_deployments() -> None:
    state, live = ServerState(), LiveState(0)
    rows = []
    for t_s, cpu in ((1, 0.2), (2, 0.4)):
        page = PageReader().read(golden(REAL))
        nodes = tuple(replace(node, cpu=cpu, memory_used=cpu * 100) for node in page.nodes)
        state.apply(at(t_s, nodes=nodes, deployments=page.deployments))
        rows.append(timeline_row(t_s, t_s * S, live, state.view(t_s * S), 0.0))
    summary = server_summary(json.loads(json.dumps(rows)), [(0.0, 3.0)])
    assert summary["nodes"] == [
        {
            "node": "192.0.2.2",
            "cpu_mean": pytest.approx(0.3),
            "memory_used_max": 40.0,
            "memory_total": 2.5274793984e10,
        }
    ]
    assert summary["deployments"] == [
        {
            "deployment": "demo/D",
            "replicas_max": 1,
            "ongoing_max": 0,
            "queued_max": 0,
            "latency_ms_mean": None,
            "replica_starts": 1,
            "batch_size_mean": None,
            "batch_wait_ms_mean": None,
        }
    ]
    assert server_summary([{"t_s": 1.0}], [(0.0, 3.0)])["nodes"] == []
