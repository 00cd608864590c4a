"""Who reaches which port of which pod, by the NetworkPolicies of a set of objects, and through its Ingresses.

Small, and to Kubernetes' rules: a pod that no policy selects takes all; one that is selected takes what a
rule of any of them lets in. Only ingress is looked at. KubeRay's own objects (pods of a RayService or
RayCluster, its head and serve services) are made here as its source makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """What rules see of a pod."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # by name


def pods(objects: list[Object]) -> list[Pod]:
    """Those that controllers would make, one of each kind."""
    found = []
    for made in objects:
        name, space = made["metadata"]["name"], made["metadata"].get("namespace", "default")
        match made["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                found.append(_pod(name, space, made["spec"]["template"]))
            case "RayCluster" | "RayService":
                found += _ray_pods(name, space, cluster_of(made), made["kind"] == "RayService")
    return found


def cluster_of(made: Object) -> Object:
    """The Ray cluster in a RayCluster or RayService."""
    spec: Object = made["spec"]
    return spec.get("rayClusterConfig", spec) if made["kind"] == "RayService" else spec


def services(objects: list[Object]) -> list[Object]:
    """Those that are written, and those that KubeRay makes: labels, selector and named ports."""
    found = [
        {
            "name": made["metadata"]["name"],
            "namespace": made["metadata"]["namespace"],
            "labels": made["metadata"].get("labels", {}),
            "selector": made["spec"]["selector"],
            "ports": {port["name"]: port["port"] for port in made["spec"]["ports"]},
        }
        for made in objects
        if made["kind"] == "Service"
    ]
    for made in objects:
        if made["kind"] not in ("RayCluster", "RayService"):
            continue
        name, space = made["metadata"]["name"], made["metadata"].get("namespace", "default")
        head = _named_ports(cluster_of(made)["headGroupSpec"]["template"])
        marks = {"ray.io/cluster": name, "ray.io/node-type": "head"}
        found.append(
            {
                "name": f"{name}-head-svc",
                "namespace": space,
                "labels": {**marks, "ray.io/identifier": f"{name}-head"},
                "selector": marks,
                "ports": head,
            }
        )
        if made["kind"] == "RayService":
            found.append(
                {
                    "name": f"{name}-serve-svc",
                    "namespace": space,
                    "labels": {"ray.io/originated-from-cr-name": name, "ray.io/serve": f"{name}-serve"},
                    "selector": {"ray.io/cluster": name, "ray.io/serve": "true"},
                    "ports": {port: number for port, number in head.items() if port == "serve"},
                }
            )
    return found


def reaches(objects: list[Object], source: Pod, target: Pod, port: int) -> bool:
    """Whether the policies let ``source`` open a connection to a port of ``target``."""
    closing = [
        made["spec"]
        for made in objects
        if made["kind"] == "NetworkPolicy"
        and made["metadata"]["namespace"] == target.namespace
        and "Ingress" in made["spec"].get("policyTypes", ["Ingress"])
        and selects(made["spec"]["podSelector"], target.labels)
    ]
    if not closing:
        return True
    return any(
        _port_fits(rule, target, port) and _peer_fits(rule, source, target.namespace)
        for spec in closing
        for rule in spec.get("ingress", [])
    )


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one selects all."""
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(_expression(one, labels) for one in selector.get("matchExpressions", []))


def _expression(one: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(one["key"]), one.get("values", [])
    match one["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise AssertionError(one)


def _port_fits(rule: Object, target: Pod, port: int) -> bool:
    asked = rule.get("ports")
    return not asked or any(
        one.get("port") in (None, port) or target.ports.get(str(one.get("port"))) == port for one in asked
    )


def _peer_fits(rule: Object, source: Pod, namespace: str) -> bool:
    peers = rule.get("from")
    if not peers:
        return True
    return any(_peer(peer, source, namespace) for peer in peers)


def _peer(peer: Object, source: Pod, namespace: str) -> bool:
    assert "ipBlock" not in peer, "addresses are not evaluated"
    if "namespaceSelector" in peer:
        space = {"kubernetes.io/metadata.name": source.namespace}
        if not selects(peer["namespaceSelector"], space):
            return False
    elif source.namespace != namespace:
        return False
    return selects(peer.get("podSelector", {}), source.labels)


def _pod(name: str, namespace: str, template: Object, extra: Mapping[str, str] | None = None) -> Pod:
    labels = {**(extra or {}), **template.get("metadata", {}).get("labels", {})}
    return Pod(name, namespace, labels, _named_ports(template))


def _named_ports(template: Object) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
        if "name" in port
    }


def _ray_pods(name: str, namespace: str, cluster: Object, serves: bool) -> Iterator[Pod]:
    common = {
        "ray.io/cluster": name,
        "ray.io/is-ray-node": "yes",
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        **({"ray.io/serve": "true"} if serves else {}),
    }
    head = {**common, "ray.io/node-type": "head", "ray.io/group": "headgroup"}
    yield _pod(f"{name}-head", namespace, cluster["headGroupSpec"]["template"], head)
    for group in cluster.get("workerGroupSpecs", []):
        worker = {**common, "ray.io/node-type": "worker", "ray.io/group": group["groupName"]}
        yield _pod(f"{name}-worker", namespace, group["template"], worker)
