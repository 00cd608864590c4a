"""Accelerators by name: one table, whatever their exporters tell, and what ``rvtop doctor`` finds of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from telemetry_pages import golden

from backends.cluster.allocate import allocate
from backends.cluster.cluster import Node, ResourceShare, describe
from backends.cluster.places import bundle_of
from backends.settings import accelerators as settings
from rvtop.doctor import accelerators as doctor
from rvtop.target.accelerators import accelerators, visible_variables, with_toolkit
from rvtop.telemetry.exporters import EXPORTERS, SERIES
from rvtop.telemetry.prometheus import PageReader
from rvtop.telemetry.sample import GpuSample

ROOT = Path(__file__).parents[2]
TABLE = "backends/accelerators.json"
MIB = 1024.0 * 1024.0
PAGES = {
    "dcgm": "dcgm.prom",
    "amd": "amd.prom",
    "npu-exporter": "npu_exporter.prom",
    "all-smi": "all_smi.prom",
}


def node(name: str, resource: str, devices: float, cpus: float = 4.0) -> Node:
    return Node(name, name, name, cpus, devices, cpus, devices, None, False, None, resource=resource)


# -- the table ---------------------------------------------------------------------------------


def test_no_word_of_one_makers_toolkit_stands_outside_the_table() -> None:
    """Neither ``cuda:0`` nor a variable nor a library's name: who adds a device edits one file."""
    sources = [path for top in ("rvtop", "backends") for path in sorted((ROOT / top).rglob("*"))]
    sources = [path for path in sources if path.is_file() and path.suffix not in (".pyc", ".so")]
    assert len(sources) > 500
    word = re.compile(rb"cuda|hip_visible|[\"'](rocm|npu|tpu|xpu|hpu):", re.IGNORECASE)
    found = [str(path.relative_to(ROOT)) for path in sources if word.search(path.read_bytes())]
    assert found == [TABLE]


def test_files_of_devices_count_unless_a_variable_hides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dev0").touch()
    table = {"x": {"visible": "SEES", "files": f"{tmp_path}/dev[0-9]*"}, "y": {"visible": "Y"}}
    monkeypatch.setattr(settings, "table", lambda: table)
    assert [settings.any_here(env) for env in ({}, {"SEES": "0,1"}, {"SEES": ""}, {"SEES": "-1"})] == [
        True,
        True,
        False,
        False,
    ]


def test_both_packages_read_the_same_table() -> None:
    table = settings.table()
    assert [kind.name for kind in accelerators()] == list(table)
    known = {field.name for field in fields(accelerators()[0])}
    for name, entry in table.items():
        assert set(entry) <= known, name
        assert set(entry.get("exporters", ())) <= {exporter.name for exporter in EXPORTERS}
    assert len(set(visible_variables())) == len(table)
    assert (toolkit := with_toolkit()) is not None
    assert toolkit[0].run  # the only kind that rvtop was run on
    assert [kind.name for kind in accelerators() if kind.run] == [toolkit[0].name]


def test_rays_resources_are_those_of_its_own_managers() -> None:
    managers = pytest.importorskip("ray._private.accelerators")
    assert set(managers.get_all_accelerator_resource_names()) <= set(settings.ray_resources())
    for kind in accelerators():
        manager = managers.get_accelerator_manager_for_resource(kind.resource)
        assert manager is not None, kind.name
        if kind.resource != settings.GPU:
            assert manager.get_visible_accelerator_ids_env_var() == kind.visible


# -- placing -----------------------------------------------------------------------------------


def test_engines_are_put_on_whatever_the_nodes_have() -> None:
    nodes = [node("a", "NPU", 2), node("b", "GPU", 0)]
    shares = allocate(["m"], nodes)
    assert [share.resource for share in shares] == ["NPU", "NPU"]
    assert bundle_of(shares[0]) == {"CPU": 1.0, "NPU": 1.0}
    assert shares[0].options == {"num_cpus": 1.0, "num_gpus": 0, "resources": {"NPU": 1.0}}
    assert settings.reserved(shares[0].options) == {"CPU": 1.0, "NPU": 1.0}
    assert "2 × NPU" in describe(nodes)


def test_of_two_kinds_of_nodes_one_is_used() -> None:
    shares = allocate(["m"], [node("a", "TPU", 4), node("b", "GPU", 1)])
    assert [(share.resource, share.num_gpus) for share in shares] == [("GPU", 1.0)]
    assert shares[0].options == {"num_cpus": 1.0, "num_gpus": 1.0}
    assert ResourceShare("m", 2.0, 0.0, 2, resource="NPU").options == {"num_cpus": 2.0, "num_gpus": 0.0}


def test_names_of_devices_are_their_platforms() -> None:
    assert settings.named("npu", ("0", "3")) == ("npu:0", "npu:3")
    assert settings.named("npu", ()) == ("cpu",)
    assert settings.visible_variable("npu") == "ASCEND_RT_VISIBLE_DEVICES"
    assert settings.visible_variable(None) is settings.visible_variable("a new one") is None
    assert settings.resource_of({"CPU": 4.0, "TPU": 4.0, "HPU": 0.0}) == "TPU"
    assert settings.resource_of({"CPU": 4.0}) == "GPU"


# -- exporters ---------------------------------------------------------------------------------


def test_every_exporter_has_a_page_of_its_own_series() -> None:
    assert set(PAGES) == {exporter.name for exporter in EXPORTERS if exporter.series}
    for name, page in PAGES.items():
        told = {line.partition("{")[0] for line in golden(page).splitlines()} & set(SERIES)
        assert told, name
        assert {SERIES[series][0].name for series in told} == {name}
        assert PageReader().read(golden(page)).gpus


def test_amds_page() -> None:
    busy, idle = PageReader().read(golden("amd.prom")).gpus
    assert busy == GpuSample("m1", 0, "AMD INSTINCT MI300X", 172031 * MIB, 196592 * MIB, 0.91, 688, 1.5e6)
    # What is not told is missing; the power of the socket counts before the mean.
    assert idle == GpuSample("m1", 1, "AMD INSTINCT MI300X", None, 196592 * MIB, 0.0, 131, None)
    prefixed = re.sub(r"^gpu_", "amd_gpu_", golden("amd.prom"), flags=re.MULTILINE)
    assert PageReader().read(prefixed).gpus == (busy, idle)


def test_ascends_page() -> None:
    hbm, ddr = PageReader().read(golden("npu_exporter.prom"), "10.0.0.7").gpus
    assert hbm == GpuSample("10.0.0.7", 0, "910B3", 58211 * MIB, 65536 * MIB, 0.63, 271.4, None)
    assert ddr == GpuSample("10.0.0.7", 1, "310P3", 1844 * MIB, 21527 * MIB, None, None, None)


def test_all_smis_page() -> None:
    nvidia, other = PageReader().read(golden("all_smi.prom")).gpus
    assert other == GpuSample("r1", 0, "RBLN-CA25", 4 * 2.0**30, 16 * 2.0**30, 0.425, None, None)
    assert (nvidia.node, nvidia.index, nvidia.watts, nvidia.util) == ("node-0058", 1, 400.5, None)


# -- doctor ------------------------------------------------------------------------------------


def test_doctor_names_devices_by_their_files_and_the_bus(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("davinci0", "davinci1", "davinci_manager", "nvidia0"):
        (tmp_path / "dev" / name).touch()
    (tmp_path / "bus" / "a").mkdir(parents=True)
    (tmp_path / "bus" / "a" / "vendor").write_text("0x1002\n")
    (tmp_path / "bus" / "a" / "class").write_text("0x030200\n")
    amd, npu = doctor.devices(tmp_path, tmp_path / "bus", {}.get)
    assert (amd.level, amd.name) == ("ok", "rocm")
    assert amd.text.startswith("1 × AMD GPUs, Ray's resource GPU; rvtop was never run on one; needs vllm")
    assert (npu.level, npu.fix) == ("warn", "pip install vllm-ascend")
    assert npu.text.startswith("2 × Ascend NPUs, Ray's resource NPU; rvtop was never run on one")
    (_, npu) = doctor.devices(tmp_path, tmp_path / "bus", {"vllm-ascend": "0.23.0"}.get)
    assert (npu.level, npu.text.endswith("vllm-ascend 0.23.0")) == ("ok", True)
    assert doctor.devices(tmp_path / "none", tmp_path / "none", {}.get) == []


def test_doctor_names_vllms_platform_plugins() -> None:
    assert doctor.platforms([]) == []
    (one,) = doctor.platforms([("ascend", "vllm_ascend")])
    assert (one.level, one.text) == ("ok", "plugin ascend of vllm_ascend: vLLM takes its devices from it")
    (two,) = doctor.platforms([("ascend", "vllm_ascend"), ("rbln", "vllm-rbln")])
    assert two.level == "warn"
    assert two.fix


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = golden("npu_exporter.prom").encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def exporter() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_doctor_finds_an_exporter_by_its_page(exporter: int) -> None:
    assert "npu_chip_info_power" in doctor.local_page(exporter)
    (check,) = doctor.exporters(lambda port: doctor.local_page(exporter) if port in (8082, 9090) else "")
    assert check.name == "exporter npu-exporter"  # all-smi's port, but not its page
    assert "--metrics-url http://127.0.0.1:8082/metrics" in check.text
