"""``rvtop up --foreground``: this process becomes the backend, for whoever supervises processes himself (a
container, a unit of systemd)."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rvtop.target.backend import BackendOptions


def become(options: BackendOptions) -> NoReturn:
    """Never returns. The backend has no lease: it serves until a signal stops it, and ends with its own exit
    code. Its steps are JSON lines on stdout."""
    command = options.command()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
