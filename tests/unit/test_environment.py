"""What a test sees of the machine: nothing that runs, ran or is configured there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.models import cache_dir, shared_dir
from backends.models.load import default_embedder, default_models
from rvtop.doctor import machine
from rvtop.lifecycle import state
from rvtop.target import models as target_models
from rvtop.telemetry.ray_local import discovery_file, ray_folder
from tests.environment import ROOT, clean, surroundings, unchanged
from tests.faults.surroundings import environment as of_a_user

HOSTILE = ("RVTOP_", "VLLM_", "RAY_", "HF_", "XDG_", "OPENAI_", "CUDA_")
OWN = {"RVTOP_CACHE", "RVTOP_SHARED", "RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED"}
OWN |= {"RAY_raylet_start_wait_time_s", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES"}


def test_of_a_user_s_environment_only_programs_and_libraries_are_left(tmp_path: Path) -> None:
    given = of_a_user(tmp_path / "user") | {"PYTEST_ADDOPTS": "-q"}
    left = clean(given, tmp_path / "own", tmp_path / "cache")
    assert {name for name in left if left[name] == given.get(name)} == {
        "PATH",
        "LD_LIBRARY_PATH",
        "PYTEST_ADDOPTS",
    }
    assert {name for name in left if name.startswith(HOSTILE)} == OWN
    assert not any("proxy" in name.lower() for name in left)
    assert str(tmp_path / "user" / "home") not in " ".join(left.values())


def test_this_process_and_its_children_have_it() -> None:
    by_ray = {"RAY_CLIENT_MODE"}  # set by its import, in whichever test of this process was the first
    kept = {"RVTOP_SOURCES", "RVTOP_CRDS"}  # where the source documents and CRDs are, if anybody has them
    assert {name for name in os.environ if name.startswith(HOSTILE)} - by_ray - kept <= OWN
    assert Path.home().parent == ray_folder().parent
    assert not (Path.home() / ".config").exists()
    shown = subprocess.run(
        [sys.executable, "-c", "import os; u = os.umask(0); print(os.getcwd(), oct(u), os.environ['HOME'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == f"{ROOT} 0o22 {Path.home()}"


def test_the_product_finds_nothing_of_this_machine() -> None:
    assert discovery_file() is None
    assert not shared_dir().exists()
    assert not target_models.shared_dir().exists()
    assert default_models() == {"tiny": "tiny"}
    assert default_embedder() == "tiny"
    assert state.running() == []
    assert Path.home() not in cache_dir().parents  # built once, not once a run


def test_surroundings_end_as_they_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_a_user(tmp_path)
    for name in [name for name in os.environ if name not in before and not name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o077)
    try:
        then = dict(os.environ)
        with surroundings():
            home = Path.home()
            assert home.is_dir()
            assert Path.cwd() == ROOT
        assert not home.exists()
        assert (Path.cwd(), dict(os.environ), os.umask(0o077)) == (tmp_path, then, 0o077)
    finally:
        os.umask(umask)


def test_what_a_test_does_to_the_environment_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVTOP_THEME", "light")
    with unchanged():
        os.environ["VLLM_PORT"] = "1"
        os.environ["RVTOP_THEME"] = "dark"
        del os.environ["PATH"]
    assert "VLLM_PORT" not in os.environ
    assert os.environ["RVTOP_THEME"] == "light"
    assert "PATH" in os.environ


# -- the experiment's layout, in any state -----------------------------------------------------


def test_the_experiment_s_layout_is_taken_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVTOP_SHARED", str(tmp_path))
    assert (default_models(), default_embedder()) == ({"tiny": "tiny"}, "tiny")
    for name in machine.SHARED_PATHS:
        (tmp_path / name).mkdir(parents=True)
    models = tmp_path / "models"
    assert default_models() == {
        "q3b": str(models / "qwen25_3b"),
        "q15b": str(models / "qwen25_1_5b_instruct"),
    }
    assert default_embedder() == str(models / "ko-sroberta-multitask")
    assert machine.shared(target_models.shared_dir()).text == f"{tmp_path} has the index and all 3 models"
    for at in (shared_dir, target_models.shared_dir):
        monkeypatch.setenv("RVTOP_SHARED", "")
        assert at() == Path("/mnt/shared")
        monkeypatch.setenv("RVTOP_SHARED", "~/elsewhere")
        assert at() == Path.home() / "elsewhere"
