"""Ray Serve as we use it: joined or started, applications put in and taken out again.

On someone's cluster we are a guest: applications of our own names and route prefixes, only they are deleted,
and Serve itself is shut down only when we started it and it has no other application by then.

Everything here blocks; call it in a thread. :class:`backends.serve.lease_actor.LeaseActor` calls it too.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from backends.cluster.cluster import Node
from backends.errors import StartFailure, UsageError
from backends.scaling.counts import Counts

log = logging.getLogger("backends.serve")

CONTROLLER, NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"
REPLICA_PREFIX = "SERVE_REPLICA::"
#: Serve LLM names the deployment of its engines so, with the model's name behind it.
LLM_SERVER = "LLMServer:"
# An actor that Serve LLM leaves behind (its name and its namespace).
_LLM_TELEMETRY = "llm_serve_telemetry"
DEFAULT_PORT = 8000
POLL_S = 0.1
ASK_LIMIT_S = 2.0
PROXY_LIMIT_S = 30.0
DEPLOY_LIMIT_S = 1800.0  # weights of a big model from a slow disk
DELETE_LIMIT_S = 30.0
# What answers get when our applications are taken out: the head has let them end before, or its lease lapsed
# and they have no reader.
END_GRACE_S = 3.0
# Idle connections from the router are kept longer than the router keeps them, so that it never sends a
# request into one that is being closed.
KEEP_ALIVE_S = 2 * 3600


def start(head: Node, *, grpc: bool = False) -> None:
    """Starts Serve with one proxy, on the head node; ``grpc``: one that takes our calls too."""
    from ray import serve

    calls = None
    if grpc:
        calls = {"port": free_port(head.address), "grpc_servicer_functions": [_grpc_servicer()]}

    serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": head.address,
            "port": free_port(head.address),
            "keep_alive_timeout_s": KEEP_ALIVE_S,
        },
        grpc_options=calls,
        logging_config={"enable_access_log": False},
    )


def running() -> bool:
    """Whether the cluster has a Serve."""
    import ray

    return {"name": CONTROLLER, "namespace": NAMESPACE} in ray.util.list_named_actors(all_namespaces=True)


def deploy(apps: Mapping[str, tuple[str | None, Any]]) -> None:
    """Puts applications in: name -> (route prefix, application), None: not over HTTP. Returns before they
    run."""
    from ray import serve
    from ray.serve.api import RunTarget

    serve.run_many(
        [RunTarget(app, name=name, route_prefix=prefix) for name, (prefix, app) in apps.items()],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def statuses(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> (status, messages) of those applications that Serve knows."""
    from ray import serve

    known = serve.status().applications
    return {
        name: (
            known[name].status.value,
            "\n".join([known[name].message, *(d.message for d in known[name].deployments.values())]),
        )
        for name in names
        if name in known
    }


def check_deployed(names: Sequence[str]) -> bool:
    """Whether all run. Raises StartFailure (UsageError if a replica did) when one failed."""
    found = statuses(names)
    for name, (status, message) in found.items():
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise _failure(name, message)
    return all(found.get(name, ("",))[0] == "RUNNING" for name in names)


def counts(app: str, deployment: str = "") -> tuple[Counts, float] | None:
    """Replicas of the deployment whose name begins so, and the requests that each is to hold; None while
    Serve does not know it, or does not scale it. Raises RayError (ValueError without a controller) while
    Serve does not answer."""
    import ray

    controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    details = ray.get(controller.get_serve_instance_details.remote(), timeout=ASK_LIMIT_S)
    found = details["applications"].get(app) or {"deployments": {}}
    for name, told in found["deployments"].items():
        scale = (told.get("deployment_config") or {}).get("autoscaling_config")
        if name.startswith(deployment) and scale:
            states = [replica["state"] for replica in told["replicas"]]
            healthy, draining = states.count("RUNNING"), states.count("STOPPING")
            starting = len(states) - healthy - draining
            pending = sum(r["state"] == "STARTING" and r.get("node_id") is None for r in told["replicas"])
            each = float(scale["target_ongoing_requests"])
            return Counts(told["target_num_replicas"], starting, healthy, draining, pending), each
    return None


def replicas(app: str, deployment: str = "") -> list[str]:
    """Actor names of an application's replicas, whatever state they are in; those of deployments whose names
    begin so."""
    return replicas_of(app, deployment, named())


def named() -> list[str]:
    """Names of all actors of Serve."""
    import ray

    found = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in found if actor["namespace"] == NAMESPACE]


def replicas_of(app: str, deployment: str, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that :func:`replicas` returns."""
    start = f"{REPLICA_PREFIX}{app}#{deployment}"
    return sorted(name for name in names if name.startswith(start))


def replica(name: str) -> Any:
    """The actor of that name. Raises ValueError when it is gone."""
    import ray

    return ray.get_actor(name, namespace=NAMESPACE)


def end(names: Sequence[str], started: bool) -> None:
    """Takes our applications out, and, if we started Serve and are its last user, ends it. Returns when they
    are gone, or after DELETE_LIMIT_S. Replicas that still work after END_GRACE_S are killed: Serve itself
    would wait for them as long as for one that is retired."""
    from ray import serve

    if not running():
        return
    llm = any(f"#{LLM_SERVER}" in replica for name in names for replica in replicas(name))
    for name in statuses(names):
        serve.delete(name, _blocking=False)
    began = time.monotonic()
    while statuses(names) and time.monotonic() < began + DELETE_LIMIT_S:
        if time.monotonic() > began + END_GRACE_S:
            _kill_replicas(names)
        time.sleep(POLL_S)
    if started and not serve.status().applications:
        serve.shutdown()
    if llm:
        _end_llm_telemetry()


def _end_llm_telemetry() -> None:
    """Serve LLM has one such actor for all applications of the cluster, makes it when it is not there, and
    never ends it. It goes with the last of them."""
    import ray
    from ray.exceptions import RayError

    named = ray.util.list_named_actors(all_namespaces=True)
    if not any(a["namespace"] == NAMESPACE and f"#{LLM_SERVER}" in a["name"] for a in named):
        with contextlib.suppress(ValueError, RayError):  # it is not there
            ray.kill(ray.get_actor(_LLM_TELEMETRY, namespace=_LLM_TELEMETRY))


def _kill_replicas(apps: Sequence[str]) -> None:
    import ray
    from ray.exceptions import RayError

    for name in [name for app in apps for name in replicas(app)]:
        with contextlib.suppress(ValueError, RayError):  # it ended by itself
            ray.kill(replica(name))


def _failure(name: str, message: str) -> StartFailure:
    """What a replica raised, found in Serve's report of it."""
    for line in reversed(message.splitlines()):
        for kind in (UsageError, StartFailure):
            _, found, text = line.partition(f"backends.errors.{kind.__name__}: ")
            if found:
                return kind(text.strip())
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return StartFailure(f"Serve: application {name} failed: {' '.join(lines)[-300:]}")


def proxies(nodes: Sequence[Node]) -> tuple[tuple[str, int], ...]:
    """(host, port) of the HTTP proxies that this process can reach. Raises StartFailure without any."""
    import ray
    from ray.serve.context import _get_global_client

    http = _get_global_client().http_config  # the one place that knows the port
    addresses = {node.id: node.address for node in nodes}
    if http.host in ("127.0.0.1", "localhost", "::1"):
        own = ray.get_runtime_context().get_node_id()
        addresses = {node: address for node, address in addresses.items() if node == own}
    deadline = time.monotonic() + PROXY_LIMIT_S
    while not (on := [node for node in _healthy_proxies() if node in addresses]):
        if time.monotonic() > deadline:
            raise StartFailure(
                f"Serve has no HTTP proxy that this node can reach (they listen on {http.host} port "
                f"{http.port}); run on a node with one"
            )
        time.sleep(POLL_S)
    local = http.host not in ("0.0.0.0", "::", "")
    return tuple((http.host if local else addresses[node], http.port) for node in on)


def grpc_port() -> int:
    """Where Serve's proxies take gRPC. Raises UsageError where they do not know our calls."""
    import ray

    controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    told = ray.get(controller.get_serve_instance_details.remote(), timeout=ASK_LIMIT_S).get("grpc_options")
    servicer = _grpc_servicer()
    if not told or servicer not in told["grpc_servicer_functions"]:
        raise UsageError(
            "--grpc: the cluster's Serve was started without our calls, and can't get them while it runs; "
            f"start it with grpc_options of grpc_servicer_functions {servicer}, or leave --grpc out"
        )
    return int(told["port"])


def _grpc_servicer() -> str:
    from backends.rpc.serve_proxy import SERVICER

    return SERVICER


def _healthy_proxies() -> list[str]:
    """Ids of their nodes."""
    from ray import serve

    return [node for node, status in serve.status().proxies.items() if status.value == "HEALTHY"]


def free_port(address: str) -> int:
    """A port that is free on this node, if it is the one with this address; else Serve's own default."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
            return int(probe.getsockname()[1])
    except OSError:
        return DEFAULT_PORT
