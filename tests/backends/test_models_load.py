"""Finding and loading models: sources that work, and one clear line for those that do not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backends.cli import parse_options
from backends.models import build_once, cache_dir, load, shared_dir
from backends.models.load import ModelError, load_embedder, load_model, resolve_embedder, resolve_model
from backends.rag.__main__ import main as rag
from tests.deferred import Deferred

torch = Deferred("torch")


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RVTOP_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("RVTOP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "rvtop"


def test_weights_are_not_the_mapped_file(tiny_model: Path, tmp_path: Path) -> None:
    """Or an engine dies (SIGBUS) when somebody cuts that short."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    model, _ = load_model(folder)
    (folder / "model.safetensors").write_bytes(b"")
    assert str(folder) not in Path("/proc/self/maps").read_text()
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


BUILD = """
from backends.models import build_once, cache_dir
def build(folder):
    with open(cache_dir() / "builds", "a") as log:
        log.write("x")
    (folder / "a").write_text("whole")
assert (build_once("k", "n", build) / "a").read_text() == "whole"
"""


def test_built_once_by_many_processes(tmp_path: Path) -> None:
    env = {**os.environ, "RVTOP_CACHE": str(tmp_path)}
    many = [subprocess.Popen([sys.executable, "-P", "-c", BUILD], env=env) for _ in range(6)]
    assert [process.wait(240) for process in many] == [0] * 6
    assert (tmp_path / "builds").read_text() == "x"


def test_a_failed_or_killed_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RVTOP_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        build_once("k", "n", fail)
    assert [p.name for p in (tmp_path / "k").iterdir()] == [".n.lock"]

    code = (
        "from backends.models import build_once; import os, signal\n"
        "def build(f): (f / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "build_once('k', 'n', build)"
    )
    killed = subprocess.run(
        [sys.executable, "-P", "-c", code], env={**os.environ, "RVTOP_CACHE": str(tmp_path)}
    )
    assert killed.returncode == -signal.SIGKILL

    def build(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "whole").touch()

    assert [p.name for p in build_once("k", "n", build).iterdir()] == ["whole"]


def test_sources(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resolve_model("tiny") == tiny_model
    assert resolve_model(str(tiny_model)) == tiny_model
    assert resolve_model("Qwen/Qwen2.5-3B") == "Qwen/Qwen2.5-3B"
    monkeypatch.setenv("RVTOP_SHARED", str(tmp_path))
    assert load.default_models() == {"tiny": "tiny"}
    assert load.default_embedder() == "tiny"
    models = tmp_path / "models"
    (models / "qwen25_1_5b_instruct").mkdir(parents=True)
    (models / "ko-sroberta-multitask").mkdir()
    assert load.default_models() == {"q15b": str(models / "qwen25_1_5b_instruct")}
    assert load.default_embedder() == str(models / "ko-sroberta-multitask")
    monkeypatch.setenv("RVTOP_SHARED", "")
    assert str(shared_dir()) == "/mnt/shared"


def test_the_experiments_index_is_the_default_where_it_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RVTOP_SHARED", str(tmp_path / "shared"))
    assert load.default_index() is None
    folder = tmp_path / "shared" / "faiss_index"
    folder.mkdir(parents=True)
    assert load.default_index() == str(folder)

    def served(*more: str) -> str | None:
        options, _, _ = parse_options(["baseline", "--model", "tiny", *more])
        options.listener.close()
        return options.index

    assert served() is None  # nothing there that could be opened: no reason not to start
    (folder / "meta.json").touch()
    assert served() == str(folder)
    assert served("--index", "sample") == "sample"
    assert served("--index", "none") is None
    # For prompts made before the load it is opened, so what is wrong with it is said.
    out = str(tmp_path / "prompts.jsonl")
    assert rag(["expand", "--questions", "sample", "--out", out]) == 2
    assert f"{folder / 'meta.json'} is not the meta.json of an rvtop index" in capsys.readouterr().err


def test_a_folder_called_tiny_is_taken_before_the_model_that_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load.is_local("tiny")
    (tmp_path / "tiny").mkdir()
    assert load.is_local("tiny")  # some folder, but no model
    (tmp_path / "tiny" / "config.json").write_text('{"model_type": "qwen2"}')
    assert not load.is_local("tiny")
    assert resolve_model("tiny") == Path("tiny")
    options, _, _ = parse_options(["rac", "--model", "tiny"])
    options.listener.close()
    assert options.models[0].source == str(tmp_path / "tiny")  # engines have another working folder


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("[1]")
    (tmp_path / "file").touch()
    cases = {
        str(tmp_path / "empty"): "has no config.json",
        str(tmp_path / "odd"): "names no model_type",
        str(tmp_path / "file"): "is a file",
        str(tmp_path / "absent"): "there is no model",
        "./absent": "there is no model",
        "tinny": "no model 'tinny'; give a model folder, a Hub id (owner/name) or tiny or tiny:large",
        "a/b/c": "there is no model",
    }
    for source, words in cases.items():
        with pytest.raises(ModelError) as caught:
            resolve_model(source)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"has no modules\.json or config\.json"):
        resolve_embedder(str(tmp_path / "empty"))


def test_damaged_models(tmp_path: Path, tiny_model: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged") as caught:
        load_model(resolve_model(str(tmp_path)), "float32")
    assert "\n" not in str(caught.value)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_model(tmp_path, "float32")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "qwen99"}))
    with pytest.raises(ModelError, match="qwen99"):
        load_model(tmp_path, "float32")
    with pytest.raises(ModelError, match="cannot load the embedder"):
        load_embedder(tmp_path)


def test_offline_hub_id() -> None:
    """Offline, as all tests are, with a home where nothing was ever fetched to."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ModelError, match=r"^cannot load the model nobody/nothing-here: ") as caught:
        load_model("nobody/nothing-here", "float32")
    assert "\n" not in str(caught.value)


def test_dtype(tiny_model: Path) -> None:
    assert load_model(tiny_model, "auto")[0].dtype == torch.float32
    assert load_model(tiny_model, "bfloat16")[0].dtype == torch.bfloat16
    with pytest.raises(ModelError, match="no dtype 'int3': choose one of auto, float32"):
        load_model(tiny_model, "int3")
