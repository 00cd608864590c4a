"""The end of a process that has closed all that it had open."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """Ends the process with ``code``, without taking its memory apart object by object: with NumPy and others
    that takes 20 to 40 ms, longer than to sum up a short run. With Ray or torch it ends as usual: both have
    functions that must run at exit."""
    if "ray" in sys.modules or "torch" in sys.modules:
        sys.exit(code)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        sys.exit(code)
    os._exit(code)
