"""Whether a Ray cluster is there and lets us in, without importing Ray."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path

from rvtop.doctor.check import Check, fail, ok, warn
from rvtop.doctor.versions import version
from rvtop.errors import UserError
from rvtop.net.http_get import AnswerTooLong, get
from rvtop.net.transport import Transport
from rvtop.telemetry.ray_local import ray_folder

_CONNECT_S = 2.0
_DEEP_S = 60.0
_DASHBOARD_PORT = 8265

#: What ``--deep`` runs in a process of its own.
_LOOK = """
import json, sys, ray
ray.init(address=sys.argv[1], namespace="rvtop-doctor", configure_logging=False, log_to_driver=False)
rows = [row for row in ray.nodes() if row["Alive"]]
total = ray.cluster_resources()
print(json.dumps({"nodes": len(rows), "cpus": total.get("CPU", 0), "gpus": total.get("GPU", 0)}))
ray.shutdown()
"""


def checks(*, deep: bool) -> list[Check]:
    """Reachability, token, and with ``deep`` a real connection."""
    address, source = find()
    found = [reach(address, source)]
    if address is not None and found[0].level == "ok":
        found.append(dashboard(address))
        found += head_state()
        found += token(version("ray"))
        if deep:
            found.append(connect(address))
    return found


def find() -> tuple[str | None, str]:
    """The cluster that ``auto`` means, HOST:PORT, and who says so."""
    named = os.environ.get("RAY_ADDRESS") or ""
    if named and named != "auto":
        return named, "RAY_ADDRESS"
    file = ray_folder() / "ray_current_cluster"
    try:
        return file.read_text("utf-8").strip() or None, str(file)
    except OSError:
        return None, ""


def reach(address: str | None, source: str) -> Check:
    """Whether anything listens where the head should be."""
    if address is None:
        return ok("ray cluster", "none: topologies on Ray start a local one")
    match = re.fullmatch(r"\[?(.+?)\]?:(\d{1,5})", address)
    if match is None:
        text = f"{source} says {address}, which is no HOST:PORT"
        return fail("ray cluster", text, "write it as 10.0.0.1:6379, or unset it")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        text = f"{source} says {address}, but nothing answers there ({error})"
        if source == "RAY_ADDRESS":
            return fail("ray cluster", text, "start the cluster, or unset RAY_ADDRESS")
        return warn(
            "ray cluster", text, f"start the cluster, or remove the file that is left of it: rm {source}"
        )
    return ok("ray cluster", f"answers at {address} (by {source})")


def dashboard(address: str) -> Check:
    """Where Ray's dashboard is: on the head, at the port that it takes unless told another."""
    url = f"http://{address.rpartition(':')[0]}:{_DASHBOARD_PORT}"
    try:
        get(f"{url}/api/version", Transport(), {}, _CONNECT_S)
    except (OSError, HTTPException, ValueError, AnswerTooLong, UserError):
        return ok("ray dashboard", f"none answers at {url}; ray start says where it is")
    return ok("ray dashboard", url)


def head_state(proc: Path = Path("/proc")) -> list[Check]:
    """Where the head of a cluster keeps what it knows, if it is on this machine: what becomes of the engines
    when it dies."""
    for path in proc.glob("[0-9]*"):
        words = _words(path / "cmdline")
        if Path(words[0]).name == "gcs_server":
            if any(word.startswith("--redis_address=") and word != "--redis_address=" for word in words):
                return [ok("ray head", "keeps its state in Redis: engines outlive it")]
            if "RAY_gcs_storage=rocksdb" in _words(path / "environ"):
                return [ok("ray head", "keeps its state on a disk (RocksDB): engines outlive it")]
            text = "keeps its state in memory: when it dies, every engine has to be started again"
            fix = "start it with RAY_REDIS_ADDRESS=HOST:PORT set, or RAY_gcs_storage=rocksdb"
            return [warn("ray head", text, fix)]
    return []


def _words(path: Path) -> list[str]:
    """What the kernel says of a process, word by word; one empty word where it has ended or is another
    user's."""
    try:
        return path.read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return [""]


def token(ray: str | None) -> list[Check]:
    """Ray 2.60 and newer may demand a token."""
    if ray is None or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return []
    if os.environ.get("RAY_AUTH_TOKEN"):
        return [ok("ray token", "from RAY_AUTH_TOKEN")]
    named = os.environ.get("RAY_AUTH_TOKEN_PATH") or ""
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if os.access(path, os.R_OK):
        return [ok("ray token", f"in {path}")]
    if named:
        return [
            fail(
                "ray token",
                f"RAY_AUTH_TOKEN_PATH names {path}, which can't be read",
                "copy the head's token there",
            )
        ]
    text = "none found; a cluster with token authentication will refuse us"
    return [warn("ray token", text, f"copy the head's token to {path}")]


def connect(address: str) -> Check:
    """Connects as a driver, in a process of its own, and disconnects."""
    if version("ray") is None:
        return warn("ray deep", "ray is not installed", "pip install 'rvtop[ray]'")
    command = [sys.executable, "-P", "-c", _LOOK, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEEP_S, check=False)
    except subprocess.TimeoutExpired:
        return fail("ray deep", f"no connection to {address} within {_DEEP_S:g} s", "see the head's logs")
    try:
        seen = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        output = [line for line in done.stderr.strip().splitlines() if line.strip()]
        text = output[-1].strip()[:200] if output else f"exit code {done.returncode}"
        return fail(
            "ray deep", f"{address} refuses: {text}", "same Ray and Python versions, and the head's token?"
        )
    nodes = f"{seen['nodes']} node{'s' if seen['nodes'] != 1 else ''}"
    return ok("ray deep", f"{nodes}, {seen['cpus']:g} CPUs, {seen['gpus']:g} GPUs")
