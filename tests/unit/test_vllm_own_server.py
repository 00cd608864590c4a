"""vLLM's own server as a topology: its options, its GPUs, and what the head reads on its page."""

from __future__ import annotations

import argparse
import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.cluster.allocate import allocate
from backends.engines.vllm_args import REQUEST_METRICS, wants_request_metrics
from backends.engines.vllm_environment import vllm_environment
from backends.engines.vllm_page import relabelled, total
from backends.errors import UsageError
from backends.process.log_tail import LogTail
from backends.settings import vllm_server
from backends.settings.vllm import VllmOptions
from backends.vllm import devices_of, this_machine
from backends.vllm_server.server import in_flight
from tests.unit.processes import wait_for

PAGE = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 5.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 5.0
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 1234.0
"""


def parsed(*argv: str) -> vllm_server.VllmServerOptions:
    return vllm_server.from_args(flags(*argv))


def flags(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    vllm_server.add_arguments(parser)
    return parser.parse_args(argv)


def test_options_and_what_of_them_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert parsed() == vllm_server.VllmServerOptions(None, False)
    assert parsed("--api-server-count", "4").api_server_count == 4
    with pytest.raises(UsageError, match="--api-server-count 0: must be at least 1"):
        parsed("--api-server-count", "0")
    spec = ModuleSpec("vllm", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(vllm_server, "find_spec", lambda name: spec)
    with pytest.raises(UsageError, match="--rust-frontend: the vLLM installed here comes without one"):
        parsed("--rust-frontend")
    (tmp_path / "vllm-rs").touch()
    assert parsed("--rust-frontend").rust_frontend
    with pytest.raises(UsageError, match="the Rust front end is one process"):
        parsed("--rust-frontend", "--api-server-count", "2")
    for argv in (("--api-server-count", "1"), ("--rust-frontend",)):
        with pytest.raises(UsageError, match=r"topology rvc does not run it \(vllm does\)"):
            vllm_server.refuse_flags(flags(*argv), "rvc")
    vllm_server.refuse_flags(flags(), "rvc")


def test_its_page_names_the_engine_and_holds_only_vllms_series() -> None:
    page = relabelled(PAGE, "vllm-3")
    assert 'vllm:num_requests_running{engine="vllm-3",model_name="m"} 2.0' in page
    assert 'vllm:num_requests_running{engine="vllm-3.1",model_name="m"} 1.0' in page
    assert "python_gc" not in page
    assert in_flight(page) == (3, 5)
    assert total("", "vllm:num_requests_running") == 0


@pytest.mark.parametrize(
    ("given", "known", "wanted"),
    [
        ([], {REQUEST_METRICS}, True),
        ([("seed", "0")], {REQUEST_METRICS, "seed"}, True),
        ([], {"seed"}, False),  # an older release
        ([("enable_per_request_metrics", "false")], {REQUEST_METRICS}, False),
        ([("disable-log-stats", "true")], {REQUEST_METRICS}, False),  # it would refuse to start
    ],
)
def test_a_server_is_asked_for_the_times_of_each_request_where_it_can_tell(
    given: list[tuple[str, str]], known: set[str], wanted: bool
) -> None:
    assert wants_request_metrics(given, known) is wanted


def test_whole_gpus_are_nobody_elses_and_parts_share_one() -> None:
    def dealt(models: list[str], gpus: tuple[str, ...], replicas: int | None = None) -> list[tuple[str, ...]]:
        return devices_of(allocate(models, [this_machine(gpus)], replicas=replicas), gpus)

    assert dealt(["a"], ()) == [()]
    assert dealt(["a", "b"], ("2", "5")) == [("2",), ("5",)]
    assert dealt(["a", "b", "c"], ("0", "1")) == [("0",), ("0",), ("1",)]
    assert dealt(["a"], ("7",), replicas=3) == [("7",)] * 3


@given(st.integers(1, 4), st.integers(1, 8), st.none() | st.integers(1, 6))
def test_no_gpu_is_dealt_beyond_what_it_has(models: int, gpus: int, replicas: int | None) -> None:
    names = tuple(f"GPU-{number}" for number in range(gpus))
    shares = allocate([f"m{number}" for number in range(models)], [this_machine(names)], replicas=replicas)
    used = dict.fromkeys(names, 0.0)
    for share, devices in zip(shares, devices_of(shares, names), strict=True):
        assert len(devices) == 1
        used[devices[0]] += share.num_gpus
    assert all(amount <= 1.0 + 1e-9 for amount in used.values())


def test_what_a_user_set_goes_before_what_we_set() -> None:
    given = {"VLLM_CPU_OMP_THREADS_BIND": "0-3", "VLLM_QUANT": "awq", "HOME": "/h"}
    environ = vllm_environment(given, VllmOptions(), folder="/f", cpu_threads=2)
    assert environ["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
    assert (environ["TMPDIR"], environ["OMP_NUM_THREADS"], environ["HOME"]) == ("/f", "2", "/h")
    assert "VLLM_QUANT" not in environ  # an argument of ours
    on_gpu = vllm_environment({}, VllmOptions(), folder="/f", cpu_threads=None)
    assert not {"OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE", "VLLM_CPU_OMP_THREADS_BIND"} & set(on_gpu)
    assert "TORCHDYNAMO_DISABLE" not in vllm_environment(
        {}, VllmOptions(eager=False), folder="/f", cpu_threads=1
    )


def test_the_last_lines_of_a_process_say_why_it_ended(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    out = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    tail = LogTail(reader, out)
    os.write(writer, b"INFO loads\n(EngineCore) ValueError: no room for a block\nRuntimeError: initializ")
    os.write(writer, b"ation failed: see above\nthe last, without an end")
    os.close(writer)
    tail.wait(60.0)
    assert tail.lines()[-1] == "the last, without an end"
    assert tail.reason() == "vLLM: ValueError: no room for a block"
    wait_for(lambda: (tmp_path / "log").read_bytes().endswith(b"without an end"), "the copy")
    os.close(out)
