"""The entry point of ``rvtop`` and of ``python -m rvtop.cli``: a Ctrl-C during the imports ends the process
at once, without a traceback."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line; its exit code is the process's."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is open yet that would have to be closed
    from rvtop.cli import app

    signal.signal(signal.SIGINT, signal.default_int_handler)
    app.main()


if __name__ == "__main__":
    main()
