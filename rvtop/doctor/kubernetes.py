"""The Kubernetes cluster that kubectl talks to: whether what `rvtop deploy k8s` writes would find what it
needs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from shutil import which
from typing import Any

from rvtop.doctor.check import Check, fail, ok, warn
from rvtop.text import printable

_LIMIT_S = 20.0
#: Sidecars that start before the pod's containers, which the front of rvc has.
_LEAST_VERSION = (1, 29)
# authOptions.secretName, which keeps Ray's token in a Secret of ours.
_LEAST_KUBERAY = (1, 6)


@dataclass(frozen=True)
class Crd:
    """A kind of somebody else's: who brings it, what here needs it, and whether all topologies do."""

    name: str
    brings: str
    use: str
    field: str = ""  # in its spec, which an old release lacks
    needed: bool = False


CRDS = (
    Crd("rayservices.ray.io", "KubeRay", "rsc, rsv", "authOptions", needed=True),
    Crd("rayclusters.ray.io", "KubeRay", "rvc", "authOptions", needed=True),
    Crd("podmonitors.monitoring.coreos.com", "Prometheus' operator", "components/monitoring"),
    Crd("servicemonitors.monitoring.coreos.com", "Prometheus' operator", "components/monitoring"),
    Crd("prometheusrules.monitoring.coreos.com", "Prometheus' operator", "components/monitoring"),
    Crd("nodepools.karpenter.sh", "Karpenter", "components/karpenter"),
    Crd("ec2nodeclasses.karpenter.k8s.aws", "Karpenter for AWS", "components/karpenter"),
)
_MENDS = {
    "KubeRay": "install its operator, 1.6 or later",
    "Prometheus' operator": "install it, or leave components/monitoring out",
    "Karpenter": "install it, or leave --eks-cluster out",
    "Karpenter for AWS": "install it, or leave --eks-cluster out",
}


def checks() -> list[Check]:
    """kubectl, the server, the kinds, the operator, GPUs."""
    if which("kubectl") is None:
        return [fail("kubectl", "not installed", "install kubectl; rvtop asks the cluster through it")]
    version = _get("version", "--output=json")
    server = (version or {}).get("serverVersion")
    if not server:
        return [
            fail(
                "kubernetes",
                "kubectl reaches no cluster",
                "kubectl config current-context; kubectl get nodes",
            )
        ]
    return [_server(server), *_kinds(), _operator(), _gpus()]


def _server(told: Mapping[str, Any]) -> Check:
    text = printable(str(told.get("gitVersion", "")))
    found = _numbers(text)
    if found < _LEAST_VERSION:
        least = ".".join(map(str, _LEAST_VERSION))
        return warn("kubernetes", text, f"the front of rvc needs {least} or later (sidecar containers)")
    return ok("kubernetes", text)


def _kinds() -> list[Check]:
    told = _get("get", "customresourcedefinitions", "--output=json")
    if told is None:
        return [warn("CRDs", "kubectl may not list them", "ask who runs the cluster, or for a role that may")]
    there = {item["metadata"]["name"]: item for item in told.get("items", [])}
    return [_kind(crd, there.get(crd.name)) for crd in CRDS]


def _kind(crd: Crd, told: Mapping[str, Any] | None) -> Check:
    plural = crd.name.partition(".")[0]
    if told is None:
        level = fail if crd.needed else warn
        return level(plural, f"not there ({crd.use})", _MENDS[crd.brings])
    served = {v["name"]: v for v in told["spec"]["versions"] if v.get("served")}
    if "v1" not in served:
        if crd.name.startswith("ray"):
            return fail(plural, f"only {', '.join(served)} served", _MENDS[crd.brings])
    elif crd.field and f'"{crd.field}"' not in json.dumps(served["v1"].get("schema", {})):
        return fail(plural, f"without {crd.field}, of a KubeRay before 1.6", _MENDS[crd.brings])
    return ok(plural, f"{', '.join(served)} ({crd.use})")


def _operator() -> Check:
    """KubeRay's operator: its version and namespace, which the NetworkPolicy names."""
    wanted = "app.kubernetes.io/name=kuberay-operator"
    told = _get("get", "pods", "--all-namespaces", f"--selector={wanted}", "--output=json")
    pods = (told or {}).get("items", [])
    if not pods:
        return warn(
            "kuberay",
            "no pod of its operator to be seen",
            "install it, or give deploy k8s its --operator-namespace",
        )
    image = printable(pods[0]["spec"]["containers"][0]["image"])
    space = printable(pods[0]["metadata"]["namespace"])
    text = f"{image} in namespace {space}"
    if _numbers(image.rpartition(":")[2]) < _LEAST_KUBERAY:
        return warn("kuberay", text, "1.6 or later takes Ray's token from a Secret: upgrade it")
    return ok("kuberay", f"{text} (deploy k8s --operator-namespace)")


def _gpus() -> Check:
    told = _get("get", "nodes", "--output=json")
    if told is None:
        return warn("GPUs", "kubectl may not list nodes", "ask who runs the cluster")
    counts = [int(n["status"].get("allocatable", {}).get("nvidia.com/gpu", 0)) for n in told.get("items", [])]
    if not any(counts):
        return warn(
            "GPUs",
            f"none on {len(counts)} nodes",
            "NVIDIA's device plugin tells of them; Karpenter's come with the first pod; else --gpus 0",
        )
    return ok("GPUs", f"{sum(counts)} on {sum(map(bool, counts))} of {len(counts)} nodes")


def _numbers(text: str) -> tuple[int, int]:
    """(major, minor) of a version; (0, 0) where there is none."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _get(*words: str) -> dict[str, Any] | None:
    """What kubectl prints as JSON, whatever its exit code; None for anything else."""
    command = ["kubectl", "--request-timeout=10s", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LIMIT_S, check=False
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return found if isinstance(found, dict) else None
