"""A Ray cluster as the bridge sees it: attaching as a guest, its nodes, and what it may refuse.

Only the bridge's process imports this, and Ray with it: Ray's threads stay out of a session.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path
from typing import Any

import rvtop
from rvtop.errors import UserError

NAMESPACE = "rvtop"
_CONNECT_LIMIT_S = 5.0
NO_RAY = "`--workers ray:N` needs Ray: pip install 'rvtop[ray]'"


def attach(address: str | None) -> None:
    """Connects this process to the cluster at ``address``, else to ``RAY_ADDRESS``, else to the one that runs
    on this machine; our package goes along, so the nodes need none. Raises UserError."""
    try:
        import ray
    except ImportError as error:
        raise UserError(NO_RAY if error.name == "ray" else f"{NO_RAY} ({error})") from error
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    os.environ.pop("RAY_ADDRESS", None)  # or it would win over what was asked for
    _check(where)
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():  # it was given to be used
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")  # seconds in which a cluster may refuse us
    package = Path(rvtop.__file__).parent
    # Ray puts the driver's working folder first in its workers' sys.path: it must be the one with our
    # package, or an `rvtop/` that lies around where the user works would be imported instead.
    os.chdir(package.parent)
    try:
        ray.init(
            address=where,
            namespace=NAMESPACE,
            configure_logging=False,
            log_to_driver=False,
            runtime_env={"py_modules": [str(package)], "excludes": ["__pycache__"]},
        )
    except Exception as error:  # Ray raises every kind of error here
        with contextlib.suppress(RuntimeError):
            ray.shutdown()
        raise UserError(_refusal(where, error)) from error


def nodes() -> list[tuple[str, str]]:
    """(id, address) of the nodes that are alive, the head last: it has the session to carry already."""
    import ray

    def order(row: dict[str, Any]) -> tuple[bool, str, str]:
        return ("node:__internal_head__" in row["Resources"], row["NodeManagerAddress"], row["NodeID"])

    listed: Any = ray.nodes
    rows = [row for row in listed() if row["Alive"]]
    return [(str(row["NodeID"]), str(row["NodeManagerAddress"])) for row in sorted(rows, key=order)]


def line_of(error: BaseException) -> str:
    """What an error of Ray's says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check(where: str) -> None:
    """Refuses what can't be an address, and one where nothing answers: Ray itself retries for a minute."""
    if "://" in where:
        raise UserError(
            f"--ray-address {where}: Ray Client is not supported; on a node of the cluster give HOST:PORT"
        )
    if where == "auto":
        return
    match = re.fullmatch(r"\[?(.+?)\]?:(\d{1,5})", where)
    if match is None:
        raise UserError(f"--ray-address {where}: write `auto` or HOST:PORT, for example 10.0.0.1:6379")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_CONNECT_LIMIT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster answers at {where} ({error}); is the address right?") from None


def _refusal(where: str, error: BaseException) -> str:
    at: BaseException | None = error
    while at is not None:  # Ray says so only in the text of what lies below a failure to connect
        if re.search(r"AuthenticationError|AuthToken|[Aa]uthentication token", f"{type(at)} {at}"):
            return (
                f"the Ray cluster at {where} refuses us: it wants its token; set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN)"
            )
        at = at.__cause__ or at.__context__
    if where == "auto" and isinstance(error, ConnectionError):
        return "`--workers ray:N`: no Ray cluster runs on this machine; give --ray-address HOST:PORT"
    return f"Ray: {line_of(error)}"
