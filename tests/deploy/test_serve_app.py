"""`backends.serve.app:build`: what its arguments may be, and that a wheel alone has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.errors import UsageError
from backends.serve.app import build
from rvtop.deploy.k8s.serve_config import RSC_IMPORT

ROOT = Path(__file__).parents[2]


def bound(**args: Any) -> Any:
    return build(args)._bound_deployment


def test_the_model_is_an_argument_or_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_ID", "org/Some-Model")
    spec, options, key = bound().init_args
    assert (spec.model, spec.source, key) == ("Some-Model", "org/Some-Model", None)
    assert options.listener is None
    spec, _, _ = bound(model="chat=tiny", concurrency=3, max_model_len=128).init_args
    assert (spec.model, spec.source, spec.concurrency, spec.max_model_len) == ("chat", "tiny", 3, 128)


def test_a_deployment_has_the_resources_that_were_asked_for() -> None:
    made = bound(model="tiny", num_cpus=2, num_gpus=1, batch=4)
    options = made.ray_actor_options
    assert (made.name, options["num_cpus"], options["num_gpus"]) == ("hf", 2, 1)
    assert made.max_ongoing_requests == 4


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "args: model: give NAME=SOURCE, or set MODEL_ID"),
        ({"model": "="}, "args: model: '='"),
        ({"model": "tiny", "modle": "x"}, "args: modle: unknown; there are model"),
        ({"model": "tiny", "threads": "2"}, "args: threads: '2' must be of type int"),
        ({"model": "tiny", "threads": True}, "args: threads: True must be of type int"),
        ({"model": "tiny", "num_gpus": -1}, "args: num_gpus: -1 must be at least 0"),
        ({"model": "tiny", "dtype": "int8"}, "args: dtype: int8 must be one of auto"),
    ],
)
def test_a_wrong_argument_is_one_line(
    args: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL_ID", raising=False)
    with pytest.raises(UsageError) as caught:
        build(args)
    assert str(caught.value).startswith(said)


@pytest.mark.slow
def test_a_wheel_alone_has_what_import_path_names(tmp_path: Path) -> None:
    """Outside of the tree, with nothing of ours but the wheel (and what it depends on)."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("rvtop-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    place = next((tmp_path / "venv" / "lib").glob("python3*")) / "site-packages"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, place], check=True)
    # The tree is on the path of this interpreter by a file of its own; only what others made is added.
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (place / "theirs.pth").write_text("\n".join(theirs))
    module, _, name = RSC_IMPORT.partition(":")
    code = (
        "import backends; print(backends.__file__); from ray._common.utils import import_attr; "
        f"print(import_attr('{module}.{name}')({{'model': 'tiny'}})); "
        "from rvtop.deploy.compose.dockerfile import lock; print(lock().count('=='))"
    )
    done = subprocess.run(
        [python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    where, _, pinned = done.stdout.splitlines()[-3:]
    assert where.startswith(str(place))
    assert int(pinned) > 50
