"""Builds rvtop/load/native/*.c with the wheel (also an editable one), where a C compiler is at hand.

Without one, and off Linux, the wheel is pure Python: the load client then reads through asyncio.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "rvtop/load/native"
MODULE = f"{FOLDER}/_native.abi3.so"


class BuildNative(BuildHookInterface):  # type: ignore[type-arg, misc]
    """Hatchling's hook, named in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and says in the wheel's tag what it was compiled for."""
        root = Path(self.root)
        module = root / MODULE
        if sys.platform != "linux":
            return
        fresh = module.with_name(f"_native.{os.getpid()}.so")
        sources = sorted(module.parent.glob("*.[ch]"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
        command = [
            *shlex.split(os.environ.get("CC") or "cc"),
            *("-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", f'-DSOURCE="{digest}"'),
            f"-I{sysconfig.get_paths()['include']}",
            *(str(path) for path in sources if path.suffix == ".c"),
            *("-o", str(fresh)),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
            fresh.rename(module)  # a process that runs keeps the file that it has loaded
        except (OSError, subprocess.CalledProcessError) as error:
            fresh.unlink(missing_ok=True)
            module.unlink(missing_ok=True)
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            self.app.display_warning(
                f"rvtop: {FOLDER} was not built ({said[-1] if said else error}): the load client reads in "
                "Python, at 1.5 times the cost; a C compiler and Python's headers mend it"
            )
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["artifacts"].append(f"/{MODULE}")
