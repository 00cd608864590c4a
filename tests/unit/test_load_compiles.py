"""The C of the load client compiles without a warning."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig
from os import environ
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "rvtop" / "load" / "native"
CC = shlex.split(environ.get("CC") or "cc")
HEADERS = Path(sysconfig.get_paths()["include"])


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(CC[0]) is None or not (HEADERS / "Python.h").exists(),
    reason="no C compiler, or no headers of Python's",
)
def test_the_c_compiles_without_a_warning(tmp_path: Path) -> None:
    flags = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")
    sources = [str(path) for path in sorted(NATIVE.glob("*.c"))]
    command = [*CC, *flags, '-DSOURCE="x"', f"-I{HEADERS}", *sources, "-o", str(tmp_path / "native.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
