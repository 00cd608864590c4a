"""Commands in namespaces of their own: network, processes and mounts. Ports are free there whatever else
runs, and when the first process ends, so does all that it started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache

#: What makes a command the first process of such a place.
UNSHARE = (
    *("unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"),
    *("--mount-proc", "--kill-child"),
)


@cache
def possible() -> bool:
    """Whether this machine lets us make them."""
    if sys.platform != "linux" or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    tried = subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return tried.returncode == 0


def loopback_up() -> None:
    """Inside: the loopback interface is down at first."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
