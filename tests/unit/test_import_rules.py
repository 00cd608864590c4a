"""Who may import whom: the light package stays light, and the two packages meet over HTTP only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit.sources import nodes

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "ray", "vllm", "transformers", "faiss", "sentence_transformers", "backends"}
LIGHT = (
    "rvtop.cli.app",
    "rvtop.session.session",
    "rvtop.cli.dashboard",
    "rvtop.session.client",
    "rvtop.session.server",
)
LIGHT += ("rvtop.plain", "rvtop.load.worker.process", "rvtop.scenario.load", "rvtop.telemetry.poller")
LIGHT += ("rvtop.load.fleet.ray.pool",)
UI = {"textual", "rich"}
#: Modules of a load worker's process and of the statistics, which must not know of a screen.
BARE = (
    "rvtop.load.worker.process",
    "rvtop.load.fleet.ray.pool",
    "rvtop.session.view",
    "rvtop.results.summary",
)
#: The dashboard's own process, up to its first frame, and what it would wait for.
SCREEN = ("rvtop.cli.app", "rvtop.cli.dashboard", "rvtop.ui.app")
SLOW = {"numpy", "httpx", "pydantic", "yaml", "aiohttp", "textual_serve"}


@cache
def loaded(*modules: str) -> set[str]:
    """The modules that importing ``modules`` brings into a fresh interpreter."""
    code = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return set(json.loads(ended.stdout))


def brought_in(*modules: str) -> set[str]:
    """The top-level packages of those."""
    return {module.partition(".")[0] for module in loaded(*modules)}


@pytest.mark.parametrize(("modules", "kept_out"), [(LIGHT, HEAVY), (BARE, UI), (SCREEN, SLOW)])
def test_modules_bring_in_nothing_that_they_must_not(modules: tuple[str, ...], kept_out: set[str]) -> None:
    found = brought_in(*modules) & kept_out  # all in one process, and only then one by one
    assert not found, {module: brought_in(module) & kept_out for module in modules}


#: gRPC's library and what its messages need: only where a target or a server speaks it.
RPC = {"grpc", "grpc_health", "grpc_reflection", "google", "smg_grpc_proto"}
#: What every start has of gRPC.
BESIDE = ("backends.cli", "backends.rpc.beside", "backends.router.grpc_config", "backends.api.service")


@pytest.mark.parametrize("modules", [(*LIGHT, "rvtop.load.rpc.at", "rvtop.target.grpc_probe"), BESIDE])
def test_nothing_brings_in_grpc_before_it_is_needed(modules: tuple[str, ...]) -> None:
    assert not brought_in(*modules) & RPC


def test_grpc_is_imported_in_its_room_alone() -> None:
    for package in ("rvtop", "backends"):
        room = "rvtop/load/rpc/" if package == "rvtop" else "backends/rpc/"
        assert [line for line in offences(package, RPC) if not line.startswith(room)] == []


def test_a_session_s_screen_does_not_wait_for_what_the_start_screen_lists() -> None:
    assert not {"rvtop.cli.start_facts", "rvtop.lifecycle", "rvtop.doctor"} & loaded(*SCREEN)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, inside functions too; also by name through importlib."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__", "files") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def offences(package: str, forbidden: set[str]) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in files
        for line, module in imports(path)
        if module.partition(".")[0] in forbidden
    ]


def test_rvtop_never_imports_a_backend_or_what_backends_need() -> None:
    # The one way to Ray is the bridge to load workers on its nodes, a process of its own.
    bridge = ("rvtop/load/fleet/ray/bridge.py", "rvtop/load/fleet/ray/cluster.py")
    found = [line for line in offences("rvtop", HEAVY) if not line.startswith(bridge)]
    assert found == []


def test_backends_never_import_rvtop() -> None:
    assert offences("backends", {"rvtop"}) == []


@pytest.mark.parametrize("package", ["rvtop/load", "rvtop/stats", "rvtop/results", "rvtop/scenario"])
def test_no_file_of_the_core_imports_the_screen(package: str) -> None:
    assert offences(package, UI) == []
    found = [
        f"{path.name}:{line}"
        for path in (ROOT / package).rglob("*.py")
        for line, module in imports(path)
        if module.startswith("rvtop.ui")
    ]
    assert found == []


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("import a.b\ndef f():\n    from c.d import e\n    importlib.import_module('g.h')\n")
    assert list(imports(path)) == [(1, "a.b"), (3, "c.d"), (4, "g.h")]
    assert "json" in brought_in("rvtop")
