"""The mock in C (tests/mock/mock.c), compiled on first use.

The program lands in ``$RVTOP_CACHE`` (or ``~/.cache/rvtop``) under the digest of its sources, so it is
compiled once a version and two runs at once do no harm. ``FastMock`` needs Linux (epoll, timerfd) and a C
compiler; ``any_mock`` falls back to the Python twin.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.mock.process import MockError, MockProcess, PythonMock

HERE = Path(__file__).parent
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")


class NoCompiler(MockError):
    """This machine cannot build the C mock."""


def compiler() -> str:
    """Path of the C compiler ($CC, cc, gcc, clang). Raises NoCompiler when there is none."""
    if not sys.platform.startswith("linux"):
        raise NoCompiler("the C mock needs Linux (epoll): use tests.mock.process.PythonMock here")
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NoCompiler(
        "no C compiler found (looked for $CC, cc, gcc, clang): install one, or use "
        "tests.mock.process.PythonMock, which is good for a few hundred requests a second"
    )


def build(source: str = "mock.c") -> Path:
    """Compiles tests/mock/SOURCE if its sources changed, and returns the program's path.

    Raises NoCompiler, or MockError with the compiler's words.
    """
    digest = hashlib.sha256(repr(FLAGS).encode())
    for path in [HERE / source, *sorted(HERE.glob("*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    root = Path(os.environ.get("RVTOP_CACHE") or Path.home() / ".cache" / "rvtop") / "mock"
    program = root / f"{Path(source).stem}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    found = compiler()
    root.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=root, prefix=program.name)
    os.close(handle)
    try:
        made = subprocess.run(
            [found, *FLAGS, "-o", temporary, str(HERE / source)], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise MockError(f"{found} could not build {source}:\n{made.stderr.strip()}")
        os.chmod(temporary, 0o755)
        os.replace(temporary, program)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return program


class FastMock(MockProcess):
    """The mock in C: its own cost is well below a microsecond a token, the rest is the kernel's send()."""

    def command(self) -> list[str]:
        return [str(build())]


def any_mock(*args: Any, **options: Any) -> MockProcess:
    """A FastMock where it can be built, else a PythonMock; arguments as for MockProcess."""
    try:
        compiler()
    except NoCompiler:
        return PythonMock(*args, **options)
    return FastMock(*args, **options)
