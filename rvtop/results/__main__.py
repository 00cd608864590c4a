"""Sums a run folder up in a process of its own: ``python -P -m rvtop.results [--lease] [--end JSON] FOLDER``.

Prints the summary as JSON; with ``--html FILE`` it writes the report there instead. The folder, whose run may
go on, stays as it is. One that can't be summed up is a line on stderr and the error's exit code. With
``--lease`` it ends as soon as its stdin does, so that it never outlives its parent.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

import orjson

from rvtop.errors import UserError
from rvtop.results import summary
from rvtop.results.ending import End
from rvtop.system.files import written_for

_ORPHANED = 3


def _watch_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(_ORPHANED)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rvtop.results", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lease", action="store_true", help="end when stdin ends")
    parser.add_argument("--end", help="how the run ended, where it could not write it: an End as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report there instead")
    options = parser.parse_args(arguments)
    if options.lease:
        threading.Thread(target=_watch_stdin, daemon=True).start()
    try:
        end = None if options.end is None else End(**orjson.loads(options.end))
        if options.html is not None:
            from rvtop.results.html.page import run_page

            with written_for("--html", options.html) as part:
                part.write_text(run_page(options.folder), "utf-8")
            return 0
        sys.stdout.buffer.write(orjson.dumps(summary.summarise(options.folder, end)))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
