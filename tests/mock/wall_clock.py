"""A wall clock that jumps, for processes under test: nobody else's clock is touched.

Needs Linux and a C compiler. Arrival stamps of the kernel don't follow it, as they don't follow a clock that
is set between an arrival and its reading.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.mock.fast import HERE, compiler
from tests.mock.process import MockError


def wall_clock(folder: Path) -> tuple[dict[str, str], Path]:
    """Variables for a process, and a file: its wall clock is ahead by as many seconds as the file has bytes
    if it begins with "+", behind if it begins with "-". Raises MockError where that can't be built."""
    library, file = folder / "wall_clock.so", folder / "step"
    command = [compiler(), "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "wall_clock.c"), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise MockError(made.stderr.strip())
    return {"LD_PRELOAD": str(library), "RVTOP_STEP": str(file)}, file
