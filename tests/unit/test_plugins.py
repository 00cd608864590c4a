"""The example package of docs/plugins, installed beside rvtop's light core: listed, run, exported; and
plugins that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvtop.scenario.workload import PluginWorkload
from rvtop.system import plugins
from rvtop.system.plugins import Plugin, PluginError, named, of_group
from rvtop.telemetry.added import added_sources
from rvtop.workload import added
from rvtop.workload.rows import WorkloadError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "plugins" / "rvtop-haiku"
#: What the light core must do without, also here.
HEAVY = ("torch", "ray", "vllm", "transformers", "faiss", "aiohttp", "prometheus_client")
SCENARIO = """\
name: poems
seed: 5
workload: {kind: plugin, name: haiku, options: {count: 4}, max_tokens: 5}
phases: [{name: some, rate: 10, duration: 1s, drain: 30s}]
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds the example as pip installed it, and rvtop and its core."""
    folder = tmp_path_factory.mktemp("plugins")
    site, copy = folder / "site", folder / "copy"
    shutil.copytree(EXAMPLE, copy)  # pip builds in the folder
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(copy)], check=True, timeout=240)
    for name in HEAVY:  # first on the path, and no module
        (site / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r})\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


def rvtop(example: dict[str, str], *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-P", "-m", "rvtop.cli", *arguments]
    made = subprocess.run(command, env=example, capture_output=True, text=True, timeout=240, check=False)
    assert made.returncode == code, made.stdout + made.stderr
    return made.stdout + made.stderr


@pytest.mark.slow
def test_the_example_is_listed_and_runs(example: dict[str, str], tmp_path: Path) -> None:
    listed = json.loads(rvtop(example, "plugins", "--json"))
    ours = [row for row in listed if row["package"] == "rvtop_haiku"]
    assert [(row["group"], row["name"], row["state"]) for row in ours] == [
        ("exporters", "lines", "ok"),
        ("telemetry", "load", "ok"),
        ("topologies", "haiku", "ok"),
        ("workloads", "haiku", "ok"),
    ]
    scenario, out = tmp_path / "poems.yaml", tmp_path / "out"
    scenario.write_text(SCENARIO)
    how = ("--topology", "haiku", "--model", "m=tiny", "--out", str(out), "--ui", "plain")
    rvtop(example, "run", str(scenario), *how)
    rows = [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]
    assert {row["error"] for row in rows} == {None}
    assert {row["output_tokens"] for row in rows} == {5}
    prompts = (out / "prompts.jsonl").read_text().splitlines()
    assert len(prompts) == 4
    assert "A haiku about" in prompts[0]
    seconds = [json.loads(line) for line in (out / "timeline.jsonl").read_text().splitlines()]
    assert any("haiku" in json.dumps(row) for row in seconds), "what its source tells"
    exported = rvtop(example, "export", str(out), "--format", "lines").splitlines()
    assert exported == [f"{row['id']} ok" for row in rows]


@pytest.mark.slow
def test_what_is_not_there_is_said(example: dict[str, str], tmp_path: Path) -> None:
    said = rvtop(example, "export", str(tmp_path), "--format", "poem", code=2)
    assert "export --format poem: unknown; known are: vllm-bench, csv, parquet, trace, lines" in said
    said = rvtop(example, "run", "smoke", "--topology", "limerick", code=2)
    assert "--topology limerick: unknown; known are: " in said
    assert ", haiku" in said


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder on the path for made-up packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.plugins.cache_clear()
    yield tmp_path
    plugins.plugins.cache_clear()


def add(folder: Path, package: str, points: str, code: str = "") -> None:
    (folder / f"{package}-1.dist-info").mkdir()
    (folder / f"{package}-1.dist-info" / "entry_points.txt").write_text(points)
    (folder / f"{package}.py").write_text(code)


def test_entry_points_are_found_and_broken_files_are_none(installed: Path) -> None:
    add(installed, "broken", "[rvtop.workloads\nx", "")
    add(installed, "mine", "[console_scripts]\nx = y:z\n[rvtop.workloads]\nMy-one = mine:rows\n", "rows = 5")
    assert of_group("workloads")["My-one"] == Plugin("workloads", "My-one", "mine:rows", "mine")
    assert named("workloads", "My-one", "").load() == 5
    with pytest.raises(PluginError, match=r"name: x\\n: no such plugin; installed are .*My-one"):
        named("workloads", "x\n", "name:")


def test_code_that_fails_is_one_line(installed: Path) -> None:
    points = "[rvtop.workloads]\n" + "".join(f"p{n} = failing:{name}\n" for n, name in enumerate("abc"))
    points += "[rvtop.telemetry]\nt = failing:c\nu = failing:d\n"
    code = "def a(o, s): yield 'x'; 1/0\ndef b(o, s): yield {'no': 1}\ndef d(url): return None\n"
    add(installed, "failing", points, code)

    def made(name: str) -> list[object]:
        return list(added.rows(PluginWorkload(kind="plugin", name=name), 1))

    with pytest.raises(PluginError, match=r"plugin p0 \(failing\): ZeroDivisionError: division by zero"):
        made("p0")
    with pytest.raises(WorkloadError, match="plugin p1: prompt 1 is neither a text nor a row"):
        made("p1")
    with pytest.raises(PluginError, match=r"plugin p2 \(failing\): AttributeError: .* no attribute 'c'"):
        made("p2")
    (source,) = [one for one in added_sources("http://127.0.0.1:1") if one.name in "tu"]
    assert source.name == "t"


async def test_a_source_that_raises_fails_for_that_look(installed: Path) -> None:
    code = "class S:\n  name = 's'\n  async def poll(self): raise OSError('gone')\n"
    code += "  async def close(self): raise OSError('gone')\nmake = lambda url: S()\n"
    add(installed, "raising", "[rvtop.telemetry]\nraises = raising:make\n", code)
    (source,) = [one for one in added_sources("http://127.0.0.1:1") if one.name == "raises"]
    assert (await source.poll()).error == "plugin raises (raising): OSError: gone"
    await source.close()
