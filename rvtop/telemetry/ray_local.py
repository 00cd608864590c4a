"""The Ray clusters that run on this machine, found by Ray's temporary folder. Imports no Ray and opens no
connection.

Ray leaves a session's folder behind when the cluster ends (``ray stop``, a crash, a reboot), so a file in it
says nothing about a cluster that runs. What ends with the cluster is the socket of its raylet.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Written by the dashboard of a cluster's head. Ray before 2.5x keeps it beside the sessions' folders.
DISCOVERY_FILE = "prom_metrics_service_discovery.json"
_LISTENS = 0x10000  # SO_ACCEPTCON in the flags of /proc/net/unix


def ray_folder() -> Path:
    """The folder where Ray keeps its sessions unless told otherwise: Ray's own rule."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"


def discovery_file() -> Path | None:
    """The service discovery file of a cluster that runs on this machine, the newest one's; None without."""
    folder = ray_folder()
    live = live_sessions(folder)
    homes = {path.resolve() for path in (folder, *live)}
    for path in (*(session / DISCOVERY_FILE for session in live), folder / DISCOVERY_FILE):
        # Newer releases link the file beside the sessions to the one of a session, which may be over.
        if live and path.is_file() and path.resolve().parent in homes:
            return path
    return None


def live_sessions(folder: Path, proc: Path = Path("/proc")) -> list[Path]:
    """The session folders below ``folder`` that a raylet of this machine serves, the newest first."""
    live = _raylet_sessions(proc)
    # A name begins with the session's start: session_2026-11-28_01-52-17_123456_4242.
    return sorted((path for path in folder.glob("session_*") if path.name in live), reverse=True)


def _raylet_sessions(proc: Path) -> set[str]:
    """Names of the sessions whose raylet listens. The kernel shows every user's sockets here."""
    try:
        rows = (proc / "net" / "unix").read_text("utf-8", "surrogateescape").splitlines()[1:]
    except OSError:
        return set()
    names = set()
    for row in rows:
        fields = row.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & _LISTENS:
            path = Path(fields[7])
            if path.name.startswith("raylet") and path.parent.name == "sockets":
                names.add(path.parent.parent.name)
    return names
