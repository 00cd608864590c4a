"""rvc on a device of our own: vLLM's platform is a plugin, Ray's resource is NPU, and nobody calls CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.backends import fake_npu
from tests.backends.backend_process import BackendProcess
from tests.backends.conformance import chat


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    # As every engine on the CPU: torch's compiler would look for CUDA itself, whoever asks it for code.
    quiet = {"RAY_AUTH_MODE": "disabled", "TORCHDYNAMO_DISABLE": "1"}
    return fake_npu.install(tmp_path_factory.mktemp("plugin")) | quiet


@pytest.fixture(scope="module")
def rvc(
    tiny_model: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackendProcess]:
    folder = tmp_path_factory.mktemp("npu")
    with fake_npu.node(json.dumps({"NPU": 2}), folder / "ray.log", env) as address:
        process = BackendProcess(
            *("rvc", "--lease", "--model", f"a={tiny_model}", "--ray-address", address),
            *("--engine-arg", "enforce-eager=true", "--dtype", "float32"),
            *("--max-model-len", "2048", "--max-num-seqs", "8"),
            *("--engine-arg", f"kv-cache-memory-bytes={2**26}"),
            log=folder / "rvc.log",
            env=env,
        )
        try:
            yield process
        finally:
            process.kill()


async def test_engines_are_placed_on_the_resource_and_named_after_the_platform(
    rvc: BackendProcess, env: dict[str, str]
) -> None:
    async with httpx.AsyncClient(base_url=rvc.url, timeout=120, trust_env=False) as client:
        topology = (await client.get("/rvtop/topology")).json()
        answer = await chat(client, max_tokens=8, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 8
    (node,) = topology["nodes"]
    assert (node["resource"], node["gpus"], node["free_gpus"]) == ("NPU", 2, 0)
    assert sorted(engine["devices"] for engine in topology["engines"]) == [["npu:0"], ["npu:1"]]
    placement = next(event for event in rvc.events if event.get("name") == "placement")
    assert placement["detail"] == "2 × 1 CPU and 1 NPU, PACK"

    calls = Path(env[fake_npu.CALLS]).read_text().splitlines()
    assert calls.count("watched ") >= 2  # in the process of each engine
    assert [call for call in calls if call.startswith("used")] == []
    assert [call for call in calls if f"{os.sep}backends{os.sep}" in call] == []


def test_the_watch_would_see_a_call(env: dict[str, str], tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    code = (
        "import contextlib, torch, fake_npu\n"
        "assert fake_npu.register() == 'fake_npu.platform.FakeNpu'\n"
        "torch.cuda.device_count()\n"
        "with contextlib.suppress(Exception): torch.zeros(1, device='cuda')\n"
        "with contextlib.suppress(Exception): torch.cuda.init()\n"
    )
    script = tmp_path / "backends" / "caller.py"
    script.parent.mkdir()
    script.write_text(code)
    subprocess.run(
        [sys.executable, str(script)], env={**os.environ, **env, fake_npu.CALLS: str(calls)}, check=True
    )
    seen = calls.read_text().splitlines()
    assert f"asked {script}" in seen
    assert any(call.startswith("used") for call in seen)


def test_doctor_names_the_plugin(env: dict[str, str]) -> None:
    code = "from rvtop.doctor.accelerators import platforms, plugins; print(platforms(plugins())[0].text)"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, check=True, capture_output=True, text=True
    )
    assert told.stdout == "plugin fake_npu of fake-npu: vLLM takes its devices from it\n"
