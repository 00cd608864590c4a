"""``make asan``: the tests of the C in rvtop/load/native on a build with AddressSanitizer and UBSan.

A copy of the tree in a temporary folder gets that build in place of the usual one, so nothing here changes.
Where no sanitizer is to be had, one line says so and nothing fails.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from rvtop.load.native.loader import digest

ROOT = Path(__file__).resolve().parents[1]
NATIVE = Path("rvtop/load/native")
TESTS = (
    "tests/unit/test_load_poller.py",
    "tests/unit/test_load_scheduled.py",
    "tests/unit/test_load_templates.py",
    "tests/unit/test_load_tls.py",
    "tests/property/test_load_native.py",
    "tests/property/test_tls_records.py",
)
FLAGS = (
    *("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    *("-fno-omit-frame-pointer", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
)


def runtime(compiler: list[str]) -> str:
    """The path of libasan, "" where the compiler has none."""
    try:
        found = subprocess.run(
            [*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found if os.path.isabs(found) else ""


def main() -> int:
    """Builds and runs; the exit status of the compiler or of pytest, 0 where it is skipped."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    libasan = runtime(compiler) if sys.platform == "linux" else ""
    if not libasan:
        print(f"asan: skipped, {compiler[0]} has no AddressSanitizer here")
        return 0
    with tempfile.TemporaryDirectory(prefix="rvtop-asan-") as name:
        copy = Path(name)
        for part in ("rvtop", "backends", "tests", "scenarios"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        sources = sorted(str(path) for path in (copy / NATIVE).glob("*.c"))
        build = [
            *compiler,
            *FLAGS,
            f'-DSOURCE="{digest(copy / NATIVE)}"',
            f"-I{sysconfig.get_paths()['include']}",
            *sources,
            *("-o", str(copy / NATIVE / "_native.abi3.so")),
        ]
        built = subprocess.run(build, check=False)
        if built.returncode:
            return built.returncode
        environ = {
            **{key: value for key, value in os.environ.items() if key != "RVTOP_PURE_READS"},
            "LD_PRELOAD": libasan,
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONPATH": str(copy),
        }
        # Without the C built here each of these tests would skip itself: the first line makes sure.
        check = (
            "from rvtop.load.native import loader; "
            f"assert loader.native() and loader.__file__.startswith({str(copy)!r}), loader.__file__"
        )
        command = f"{check}; import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
        options = ("-q", "-p", "no:cacheprovider", "--rootdir", str(copy))
        run = [sys.executable, "-c", command, *options, *TESTS]
        return subprocess.run(run, cwd=copy, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
