"""Runs the attempts, prints a line for each, and exits with 1 when one did not end as it must."""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable

from tests.faults.attempts import Attempt, Skip, load
from tests.faults.attempts.cli import end_all
from tests.faults.attempts.network import OUTSIDE, namespaces
from tests.unit.processes import children

_ROOT = __file__.rpartition("/tests/")[0]
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_SPARE_S = 15  # what an attempt in namespaces of its own may need beyond its limit to start
_FAREWELL_S = 5.0  # what a process that was told to end may take


class TooLong(Exception):
    """An attempt did not end within its limit."""


def _wakeup(*_: object) -> None:
    raise TooLong


def left() -> dict[int, str]:
    """Processes below us that an attempt left; the orphans among them are ours, too (see ``main``)."""
    until = time.monotonic() + _FAREWELL_S
    while True:
        _reap()
        found = children()
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def _reap() -> None:
    """Takes leave of orphans that have ended. Children of subprocess's have been waited for by now."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def here(one: Attempt) -> None:
    """Runs it in this process. Raises what it raises, TooLong, and AssertionError for what it leaves."""
    signal.signal(signal.SIGALRM, _wakeup)
    signal.setitimer(signal.ITIMER_REAL, one.limit_s)
    try:
        one.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        end_all()
        found = left()
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if found:
            left()
    assert not found, f"left behind: {found}"


def apart(one: Attempt) -> None:
    """Runs it in network and mount namespaces of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-nm", "true"], capture_output=True).returncode:
        raise Skip("namespaces can't be made here (unshare -nm)")
    command = [unshare, "-nm", sys.executable, "-m", "tests.faults.attempts", "--inside", one.name]
    done = subprocess.run(
        command,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=one.limit_s + _SPARE_S,
        env={**os.environ, OUTSIDE: namespaces()},
    )
    if done.returncode == 77:
        raise Skip(done.stdout.strip())
    assert done.returncode == 0, (done.stdout + done.stderr).strip()


def told(one: Attempt, run: Callable[[Attempt], None]) -> str:
    """Runs it and prints how it ended: "ok", "skipped" or "FAILED"."""
    began = time.monotonic()
    more = ""
    try:
        run(one)
        end = "ok"
    except Skip as why:
        end, more = "skipped", str(why)
    except TooLong:
        end, more = "FAILED", f"it did not end within {one.limit_s:g} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, the others run
        where = traceback.extract_tb(error.__traceback__)[-1]
        end = "FAILED"
        more = f"{type(error).__name__} ({os.path.basename(where.filename)}:{where.lineno}): {error}"
    took = time.monotonic() - began
    print(
        f"{end:<7} {took:5.1f} s  {one.name}: {one.about}" + (f"\n        {more}" if more else ""), flush=True
    )
    return end


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.attempts", description=__doc__)
    parser.add_argument("--only", action="append", help="names, or beginnings of names; repeat")
    parser.add_argument("--list", action="store_true", help="print the names and what each does")
    parser.add_argument("--inside", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.pop("RVTOP_API_KEY", None)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # orphans come to us, so that none goes unseen
    attempts = load()
    if options.inside:
        try:
            here(attempts[options.inside])
        except Skip as why:
            print(why)
            return 77
        return 0
    wanted = tuple(options.only or ("",))
    chosen = [one for one in attempts.values() if one.name.startswith(wanted)]
    if options.list:
        for one in chosen:
            print(f"{one.name}: {one.about}")
        return 0
    ends = [told(one, apart if one.own_network else here) for one in chosen]
    print(f"{len(ends)} attempts: {', '.join(f'{ends.count(end)} {end}' for end in sorted(set(ends)))}")
    return 1 if "FAILED" in ends or not ends else 0


if __name__ == "__main__":
    sys.exit(main())
