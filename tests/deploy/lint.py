"""What an API server takes and is a mistake all the same, of a set of objects: selectors that select nothing,
ports without a name, fields without an effect, a dashboard that anybody reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.deploy.reach import Object, Pod, cluster_of, pods, reaches, selects, services

DEPRECATED = ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold")
#: A pod of somebody who has no business here.
STRANGER = Pod("stranger", "default")
DASHBOARD, GCS, CLIENT = 8265, 6379, 10001
_SECRET_NAMES = re.compile(r"(PASSWORD|TOKEN|SECRET|API_KEY)$")
#: Labels that no node has: Karpenter keeps the domain for itself.
_NO_LABEL = re.compile(r"karpenter\.sh/instance-")


def faults(objects: list[Object]) -> list[str]:
    """Each as ``kind/name: what``."""
    return [
        f"{made['kind']}/{made['metadata']['name']}: {text}"
        for made in objects
        for text in _of(made, objects)
    ]


def _of(made: Object, objects: list[Object]) -> Iterator[str]:
    match made["kind"]:
        case "RayService" | "RayCluster":
            yield from _ray(made, objects)
        case "NodePool":
            yield from _node_pool(made, objects)
        case "PodMonitor":
            yield from _pod_monitor(made, objects)
        case "ServiceMonitor":
            yield from _service_monitor(made, objects)
        case "Ingress":
            yield from _ingress(made, objects)
        case "PodDisruptionBudget" | "NetworkPolicy":
            field = "selector" if made["kind"] == "PodDisruptionBudget" else "podSelector"
            if not any(selects(made["spec"][field], pod.labels) for pod in pods(objects)):
                yield "selects no pod"
        case "Deployment" | "StatefulSet" | "Job":
            yield from _containers(made["spec"]["template"])


def _ray(made: Object, objects: list[Object]) -> Iterator[str]:
    spec, cluster = made["spec"], cluster_of(made)
    yield from (f"{name} is deprecated and has no effect" for name in DEPRECATED if name in spec)
    head = cluster["headGroupSpec"]
    if not cluster.get("rayVersion"):
        yield "rayVersion is missing: the autoscaler and the operator guess it"
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "the head takes work: rayStartParams has no num-cpus: '0'"
    if "gcsFaultToleranceOptions" not in cluster:
        yield "a head that ends takes the cluster with it: no gcsFaultToleranceOptions"
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "who reaches the dashboard or the job port runs code: no authOptions.mode token"
    groups = cluster.get("workerGroupSpecs", [])
    for group in groups:
        if group["minReplicas"] != group["maxReplicas"] and not cluster.get("enableInTreeAutoscaling"):
            name = group["groupName"]
            yield f"minReplicas and maxReplicas of {name} do nothing without enableInTreeAutoscaling"
    for template in (head["template"], *(group["template"] for group in groups)):
        yield from _containers(template)
        named = [p.get("name") for c in template["spec"]["containers"] for p in c.get("ports", [])]
        if made["kind"] == "RayService" and template is head["template"] and "serve" not in named:
            yield "no port named serve: KubeRay refuses to make its Serve service"
        if "metrics" not in named and any(o["kind"] == "PodMonitor" for o in objects):
            yield "no port named metrics, which a PodMonitor asks for"
    yield from _reached(made, objects)


def _reached(made: Object, objects: list[Object]) -> Iterator[str]:
    for pod in pods([made]):
        for port in (DASHBOARD, GCS, CLIENT):
            if pod.name.endswith("-head") and reaches(objects, STRANGER, pod, port):
                yield f"every pod of the cluster reaches port {port} of {pod.name}"


def _containers(template: Object) -> Iterator[str]:
    spec = template["spec"]
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        name, image = container["name"], container["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            yield f"image {image} of {name} has no fixed tag"
        if re.match(r"rayproject/ray-ml:2\.(4[0-9]|[5-9][0-9])", image):
            yield f"image {image} of {name} is not published"
        if not container.get("resources", {}).get("limits"):
            yield f"{name} has no limits"
        for variable in container.get("env", ()):
            if _SECRET_NAMES.search(variable["name"]) and variable.get("value"):
                yield f"{name} has the secret {variable['name']} in its text"
        if any("nvidia.com/gpu" in part for part in container.get("resources", {}).values()):
            tolerated = [one.get("key") for one in spec.get("tolerations", ())]
            if "nvidia.com/gpu" not in tolerated:
                yield f"{name} wants a GPU and tolerates no GPU node's taint"
    for key in spec.get("nodeSelector", ()):
        if _NO_LABEL.match(key):
            yield f"nodeSelector {key}: no node has this label"


def _node_pool(made: Object, objects: list[Object]) -> Iterator[str]:
    if made["spec"].get("disruption", {}).get("consolidationPolicy") != "WhenEmpty":
        yield "consolidationPolicy evicts engines that serve, to fill nodes"
    if "expireAfter" not in made["spec"]["template"]["spec"]:
        yield "expireAfter is missing: a node is replaced after Karpenter's default of 720h, unannounced"
    reference = made["spec"]["template"]["spec"]["nodeClassRef"]
    classes = [o["metadata"]["name"] for o in objects if o["kind"] == reference["kind"]]
    if reference["name"] not in classes:
        yield f"there is no {reference['kind']} {reference['name']}"


def _pod_monitor(made: Object, objects: list[Object]) -> Iterator[str]:
    chosen = [pod for pod in pods(objects) if selects(made["spec"]["selector"], pod.labels)]
    if not chosen:
        yield "selects no pod"
    for endpoint in made["spec"]["podMetricsEndpoints"]:
        yield from (
            f"{pod.name} has no port {endpoint['port']}"
            for pod in chosen
            if endpoint["port"] not in pod.ports
        )


def _service_monitor(made: Object, objects: list[Object]) -> Iterator[str]:
    chosen = [one for one in services(objects) if selects(made["spec"]["selector"], one["labels"])]
    if not chosen:
        yield "selects no Service"
    for endpoint in made["spec"]["endpoints"]:
        if not any(endpoint["port"] in one["ports"] for one in chosen or services(objects)):
            yield f"no Service that it selects has a port named {endpoint['port']}"


def _ingress(made: Object, objects: list[Object]) -> Iterator[str]:
    notes = made["metadata"].get("annotations", {})
    if not made["spec"].get("tls"):
        yield "without TLS: what clients send can be read on its way"
    if not made["spec"].get("ingressClassName"):
        yield "no ingressClassName: which controller takes it is chance"
    for rule in made["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            service = path["backend"]["service"]
            found = [one for one in services(objects) if one["name"] == service["name"]]
            number = service["port"].get("number")
            if not found:
                yield f"there is no Service {service['name']}"
            elif number not in found[0]["ports"].values():
                yield f"Service {service['name']} has no port {number}"
            if number == DASHBOARD and not any(key.endswith("/auth-type") for key in notes):
                yield "the dashboard without a login: who reaches it runs code in the cluster"


def values_of(data: Any) -> Iterator[str]:
    """Every text in a tree."""
    if isinstance(data, dict):
        for part in data.values():
            yield from values_of(part)
    elif isinstance(data, list):
        for part in data:
            yield from values_of(part)
    elif isinstance(data, str):
        yield data
