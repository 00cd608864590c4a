"""A release as `make release` makes it: built, and tried in clean venvs of each Python that is here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "release-tools" / "bin"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the files, and what was said."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "release.py"), "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    print(done.stdout)
    return out, done.stdout


def test_wheel_sdist_and_bill_are_of_one_version(release: tuple[Path, str]) -> None:
    out, said = release
    (wheel,), (sdist,), (bill,) = out.glob("*.whl"), out.glob("*.tar.gz"), out.glob("*.cdx.json")
    found = re.fullmatch(r"rvtop-(.+)-cp311-abi3-(?:\w+\.)?manylinux_2_(\d+)_x86_64\.whl", wheel.name)
    assert found is not None, wheel.name
    assert int(found[2]) <= 28  # what Debian 11, Ubuntu 20.04 and RHEL 8 have
    assert f"glibc 2.{found[2]} or newer" in said
    assert sdist.name == f"rvtop-{found[1]}.tar.gz"
    names = zipfile.ZipFile(wheel).namelist()
    assert {"rvtop/_version.txt", "rvtop/load/native/_native.abi3.so", "backends/accelerators.json"} <= set(
        names
    )
    with tarfile.open(sdist) as files:
        top = f"rvtop-{found[1]}"
        assert {f"{top}/.ci/build_native.py", f"{top}/PKG-INFO"} <= set(files.getnames())
    told = json.loads(bill.read_text("utf-8"))
    assert told["bomFormat"] == "CycloneDX"
    assert (told["metadata"]["component"]["name"], told["metadata"]["component"]["version"]) == (
        "rvtop",
        found[1],
    )
    parts = {part["name"] for part in told["components"]}
    assert {"textual", "httpx", "numpy", "nvidia-ml-py"} <= parts
    assert not parts & {"torch", "ray", "vllm", "faiss-cpu"}


def test_each_python_that_is_here_ran_it(release: tuple[Path, str]) -> None:
    _, said = release
    for version in ("3.11", "3.12", "3.13"):
        (line,) = re.findall(rf"^Python {re.escape(version)}.*$", said, re.MULTILINE)
        assert line.endswith(("ok, attach, reads in C", "skipped, it is not on this machine")), line
    assert re.search(r"^Python 3\.11\.\d+: smoke \d+ ok", said, re.MULTILINE)
    assert re.search(r"^pipx install: rvtop \S+$", said, re.MULTILINE)


@pytest.mark.parametrize("given", ["tag", "no tag", "no git"])
def test_the_version_is_the_tag_s(release: tuple[Path, str], tmp_path: Path, given: str) -> None:
    copy = tmp_path / "rvtop"
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CEILING_DIRECTORIES": str(tmp_path)}

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(copy), *words], check=True, capture_output=True, env=env)

    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    if given != "no git":
        git("init", "-q")
        git("add", ".")
        git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")
    if given == "tag":
        git("tag", "v9.8.7")
    told = subprocess.run(
        [str(TOOLS / "python"), "-m", "hatchling", "version"],
        cwd=copy,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    wanted = {"tag": r"9\.8\.7", "no tag": r"0\.1\.dev1\+g[0-9a-f]+", "no git": r"0\.1\.dev0"}[given]
    assert re.fullmatch(wanted, told), told
