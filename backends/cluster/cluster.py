"""The Ray cluster that a topology runs on: one that is there already, or a local one of our own.

With ``--ray-address auto|HOST:PORT`` (or ``RAY_ADDRESS``) we are a guest: we attach as a driver, and on
leaving only disconnect. Without it a local cluster is started: on the loopback address, without a dashboard,
with a token of its own, in a temporary folder of its own, and ended with us, however we end (see
:mod:`backends.process.reaper`).

A guest's code travels with it: the head's ``backends`` package is the job's ``py_modules``, so nodes need
torch, transformers and Ray, but not this package. Ray itself is imported late, because some of its settings
are read on import.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import backends
from backends.cluster.single_call import SingleCall
from backends.errors import StartFailure, UsageError
from backends.process import again
from backends.process.events import Steps
from backends.process.notices import NOTICES
from backends.process.scratch_dir import OwnedTempDir
from backends.settings import accelerators, environment

log = logging.getLogger("backends.cluster.cluster")

#: How often a local cluster is started before its start has failed.
_STARTS = 3

NAMESPACE = "rvtop"
OBJECT_STORE_BYTES = 128 * 2**20  # tokens are small and never get there; Ray's minimum is 75 MiB
CONNECT_LIMIT_S = 5.0
_RETRY_S = 0.5
#: A head that answers tells its nodes in milliseconds.
_NODES_LIMIT_S = 2.0
#: How long a cluster that is started anew is waited for, once its head answers.
JOIN_LIMIT_S = 30.0

_LOCAL_SETTINGS = {  # idle workers that Ray starts ahead of need cost seconds of CPU on a small machine
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
}


@dataclass(frozen=True)
class Node:
    """A node that is alive. ``gpus`` are its accelerators, of Ray's ``resource``. ``free_cpus`` and
    ``free_gpus`` are not reserved; ``metrics_url`` is where Ray exports its metrics of the node. ``memory``
    are the bytes that Ray has to reserve there, None where it does not say."""

    id: str
    address: str
    hostname: str
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float
    gpu_name: str | None
    head: bool
    metrics_url: str | None
    memory: float | None = None
    resource: str = accelerators.GPU


@dataclass(frozen=True)
class ResourceShare:
    """What one engine may use: Ray resources (``num_gpus``: accelerators, of ``resource``; ``further``:
    others than those and CPUs), and threads for its arithmetic on the CPU."""

    model: str
    num_cpus: float
    num_gpus: float
    threads: int
    further: tuple[tuple[str, float], ...] = ()
    resource: str = accelerators.GPU

    @property
    def options(self) -> dict[str, Any]:
        """Ray's options of a process with all of it but ``further``."""
        return accelerators.ray_options(self.num_cpus, self.num_gpus, self.resource)


class Cluster:
    """A connection to a Ray cluster. Made by :func:`open_cluster`; only one per process."""

    def __init__(self, address: str, folder: OwnedTempDir | None, dashboard: str | None = None) -> None:
        self.address = address
        self.dashboard = dashboard  # its URL; none on a cluster of ours
        self._folder = folder

    @property
    def ours(self) -> bool:
        """Whether we started it, so that we end it."""
        return self._folder is not None

    async def nodes(self) -> list[Node]:
        """As :func:`list_nodes`."""
        return await list_nodes()

    async def facts(self) -> dict[str, Any]:
        """What ``/rvtop/topology`` says of the cluster."""
        import ray

        rows = [asdict(node) for node in await self.nodes()]
        return {
            "ray": {
                "version": ray.__version__,
                "address": self.address,
                "ours": self.ours,
                "dashboard": self.dashboard,
            },
            "nodes": rows,
        }

    async def close(self) -> None:
        """Disconnects; ends the cluster if it is ours."""
        import ray

        await asyncio.to_thread(ray.shutdown)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.close)


async def list_nodes() -> list[Node]:
    """The nodes that are alive, the head first; those of before while Ray's head does not tell them."""
    try:
        return await _NODES(_NODES_LIMIT_S if _NODES.last else None)
    except TimeoutError:
        return _NODES.last


async def free_of(resource: str) -> dict[str, float]:
    """What is not reserved of a Ray resource, by the ids of the nodes that have it."""
    from ray._private.state import available_resources_per_node

    free = await asyncio.to_thread(available_resources_per_node)
    return {node: amounts[resource] for node, amounts in free.items() if amounts.get(resource)}


class Asked(Protocol):
    """What of a start's options says which cluster: None for a local one of our own."""

    @property
    def ray_address(self) -> str | None: ...


async def open_cluster(options: Asked, steps: Steps) -> Cluster:
    """Attaches to the cluster at ``options.ray_address``, or starts a local one when that is None.

    Raises UsageError for an address that cannot be one, StartFailure when Ray does not start, nothing answers
    there, or it rejects our token.
    """
    address = options.ray_address
    with steps.step("ray", "local" if address is None else address) as step:
        # In a thread: starting takes seconds. Ray's processes die with the *thread* that started them, so it
        # must be one that lives as long as we do (executor threads do).
        cluster = await asyncio.to_thread(_start if address is None else _attach, address)
        _take_back_sigterm()
        nodes = await _nodes_of_before(cluster)
        step.detail(describe(nodes))
    return cluster


async def _nodes_of_before(cluster: Cluster) -> list[Node]:
    """All of a cluster that is started anew: its head answers before the others have joined."""
    until = time.monotonic() + JOIN_LIMIT_S
    while len(nodes := await cluster.nodes()) < again.nodes_before() and time.monotonic() < until:
        await asyncio.sleep(_RETRY_S)
    if len(nodes) < again.nodes_before():
        there = f"{len(nodes)} of {again.nodes_before()} nodes are back"
        NOTICES.say(f"{there}: engines are started on these", "warn")
    return nodes


def describe(nodes: Sequence[Node]) -> str:
    """``2 nodes, 16 CPUs, 4 × H200``."""
    parts = [f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}", f"{sum(n.cpus for n in nodes):g} CPUs"]
    for name in sorted({node.gpu_name or node.resource for node in nodes if node.gpus}):
        count = sum(node.gpus for node in nodes if (node.gpu_name or node.resource) == name)
        parts.append(f"{count:g} × {name}")
    return ", ".join(parts)


def _take_back_sigterm() -> None:
    """Ray's C++ side catches SIGTERM, passes it on to us, and aborts the process three seconds later, in the
    middle of a graceful stop."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.siginterrupt(signal.SIGTERM, False)


# -- attaching ---------------------------------------------------------------------------------------------


def _attach(address: str | None) -> Cluster:
    assert address is not None
    if "://" in address:
        raise UsageError(
            f"--ray-address {address}: Ray Client is not supported; on a node of the cluster give HOST:PORT"
        )
    if address != "auto":
        _check_reachable(address, again.HEAD_LIMIT_S if again.is_again() else 0.0)
    # A token that was given is meant to be used. (One that lies in the home folder is sent to no address that
    # Ray itself would not send it to.)
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")  # seconds in which a cluster may refuse us
    package = Path(backends.__file__).parent
    context = _init(address, runtime_env={"py_modules": [str(package)], "env_vars": environment.public()})
    dashboard = context.get("webui_url")  # as HOST:PORT
    return Cluster(context["gcs_address"], None, f"http://{dashboard}" if dashboard else None)


def _check_reachable(address: str, patience_s: float = 0.0) -> None:
    """Ray itself retries for a minute. A head that was lost is waited for, ``patience_s`` seconds."""
    until = time.monotonic() + patience_s
    match = re.fullmatch(r"\[?(.+?)\]?:(\d{1,5})", address)
    if match is None:
        raise UsageError(f"--ray-address {address}: write `auto` or HOST:PORT, for example 10.0.0.1:6379")
    try:
        while True:
            try:
                socket.create_connection((match[1], int(match[2])), timeout=CONNECT_LIMIT_S).close()
                return
            except OSError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_RETRY_S)
    except (OSError, OverflowError) as error:
        raise StartFailure(f"no Ray cluster answers at {address} ({error}); is the address right?") from None


# -- a local cluster ---------------------------------------------------------------------------------------


class _NotUpInTime(StartFailure):
    """A node of Ray's was not up after its 30 seconds."""


def _start(_: str | None) -> Cluster:
    """A cluster of our own. On a busy machine Ray's 30 seconds for a node can be too few, and nothing sets
    them: then it is started again."""
    for _again in range(_STARTS - 1):
        try:
            return _started()
        except _NotUpInTime:
            log.warning("Ray was not up after 30 s; it is started again")
    return _started()


def _started() -> Cluster:
    folder = OwnedTempDir("rvtop-ray-")
    try:
        return Cluster(_local(folder)["gcs_address"], folder)
    except BaseException:
        folder.close()
        raise


def _local(folder: OwnedTempDir) -> dict[str, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's switch for "loopback only", whatever its name says: no other machine reaches a local cluster.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if "RAY_AUTH_MODE" not in os.environ:  # or Ray writes a token into the home folder
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.update(folder.env)  # marks every process of the cluster for the reaper
    inner = folder.path / "r"  # Ray makes its folder readable to all users; the one around it is not
    inner.mkdir()
    return _init(
        "local",
        include_dashboard=False,
        num_cpus=len(os.sched_getaffinity(0)),
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(inner),
        _system_config=_LOCAL_SETTINGS,
    )


def _init(address: str, **settings: Any) -> dict[str, Any]:
    """``ray.init``; its failures in one line each, with nothing left running."""
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # what actors print goes to our log
    import ray

    try:
        with _in_folder(Path(backends.__file__).parent.parent):
            context = ray.init(address=address, namespace=NAMESPACE, configure_logging=False, **settings)
    except Exception as error:  # a node that was not up after 30 s is a bare Exception of Ray's
        with contextlib.suppress(RuntimeError):
            ray.shutdown()
        if _is_about_the_token(error):
            raise StartFailure(
                f"the Ray cluster at {address} refuses us: it wants its token; set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN)"
            ) from error
        kind = _NotUpInTime if "node timed out during startup" in str(error) else StartFailure
        raise kind(f"Ray: {_line(error)}") from error
    return dict(context.address_info)


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    """Ray puts the driver's working folder first in its workers' ``sys.path``: it must be the one with this
    package, or a ``backends/`` that lies around where the user works would be imported instead."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _nodes() -> list[Node]:
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()
    found = [_node(row, free.get(row["NodeID"], row["Resources"])) for row in ray.nodes() if row["Alive"]]
    return sorted(found, key=lambda node: (not node.head, node.address, node.id))


_NODES: SingleCall[list[Node]] = SingleCall(_nodes, [])


def _node(row: dict[str, Any], free: dict[str, float]) -> Node:
    resources, address = row["Resources"], row["NodeManagerAddress"]
    resource = accelerators.resource_of(resources)
    kinds = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
    port = row.get("MetricsExportPort")
    return Node(
        id=row["NodeID"],
        address=address,
        hostname=row["NodeManagerHostname"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get(resource, 0.0),
        free_cpus=free.get("CPU", 0.0),
        free_gpus=free.get(resource, 0.0),
        gpu_name=kinds[0] if kinds else None,
        head="node:__internal_head__" in resources,
        metrics_url=f"http://{address}:{port}/metrics" if port else None,
        memory=resources.get("memory"),
        resource=resource,
    )


def _is_about_the_token(error: BaseException | None) -> bool:
    """Ray says so only in the text of what lies below a failure to connect."""
    while error is not None:
        if re.search(r"AuthenticationError|AuthToken|[Aa]uthentication token", f"{type(error)} {error}"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
