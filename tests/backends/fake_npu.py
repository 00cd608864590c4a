"""A device of our own, for tests: a platform plugin of vLLM that computes on the CPU and calls its devices
``npu``, and a Ray node that has two of them as a resource.

:func:`install` writes the plugin as an installed package into a folder, which goes on ``PYTHONPATH``. When
vLLM asks it for its platform it also begins to write down each call into torch's CUDA side: by whom, and
whether the call would have begun to use a driver.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

CALLS = "FAKE_NPU_CALLS"
START_LIMIT_S = 180.0
_ADDRESS = re.compile(r"ray start --address='([^']+)'")
_PLATFORM = """
from vllm.platforms.cpu import CpuPlatform


class FakeNpu(CpuPlatform):
    device_name = "npu"
    ray_device_key = "NPU"
"""
_PLUGIN = """
import functools, os, sys, traceback

_ASKED = ("is_available", "device_count", "current_device", "set_device", "get_device_properties",
          "synchronize", "memory_allocated", "memory_reserved", "mem_get_info", "empty_cache")
_USED = ("init", "_lazy_init")


def register():
    import torch

    if not getattr(torch, "_watched", False):
        torch._watched = True
        _write("watched", "")
        for name in (*_ASKED, *_USED):
            setattr(torch.cuda, name, _watched(name, getattr(torch.cuda, name)))
    return "fake_npu.platform.FakeNpu"


def _watched(name, function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        frames = [f.filename for f in traceback.extract_stack()[:-1]]
        callers = [name for name in frames if name != __file__ and _is_somebody(name)]
        _write("used" if name in _USED else "asked", callers[-1] if callers else "?")
        return function(*args, **kwargs)

    return call


def _is_somebody(name):
    # Neither torch nor the standard library, which only pass a call on.
    inside = name.startswith(os.path.dirname(os.__file__)) and "site-packages" not in name
    return f"{os.sep}torch{os.sep}" not in name and not inside and name != "<string>"


def _write(what, who):
    with open(os.environ["FAKE_NPU_CALLS"], "a") as file:
        print(what, who, file=file)
"""


def install(folder: Path) -> dict[str, str]:
    """Writes the plugin; what the environment of everything that is to see it needs."""
    package, info = folder / "fake_npu", folder / "fake_npu-1.0.dist-info"
    for made in (package, info):
        made.mkdir(parents=True)
    (package / "__init__.py").write_text(_PLUGIN)
    (package / "platform.py").write_text(_PLATFORM)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-npu\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vllm.platform_plugins]\nfake_npu = fake_npu:register\n")
    calls = folder / "calls"
    calls.touch()
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), CALLS: str(calls)}


@contextmanager
def node(resources: str, log: Path, env: Mapping[str, str]) -> Iterator[str]:
    """``ray start --head`` of a node with these resources; its address. Ends all of it."""
    words = ["start", "--head", "--block", "--port=0", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    words += [f"--resources={resources}", "--include-dashboard=false", "--disable-usage-stats"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_LIMIT_S
        while (found := _ADDRESS.search(log.read_text())) is None:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.2)
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for pid in _of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def _of_session(leader: int) -> list[int]:
    """The processes of a session, without those that are gone."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
