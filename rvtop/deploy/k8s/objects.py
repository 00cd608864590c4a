"""Parts that manifests have in common: metadata, security, volumes, environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rvtop.deploy.k8s.options import GPU_TAINT, Options

Manifest = dict[str, Any]

SERVE_PORT, DASHBOARD_PORT, GCS_PORT, METRICS_PORT, CLIENT_PORT = 8000, 8265, 6379, 8080, 10001
#: Pods that may call the API carry it.
CLIENT_LABEL = {"rvtop.io/client": "true"}
SHARED = "/mnt/shared"
# KubeRay gives its pods `name` and `created-by` of these, and its services select by them: those two are not
# ours.
_INSTANCE, _COMPONENT = "app.kubernetes.io/instance", "app.kubernetes.io/component"


def metadata(options: Options, name: str, component: str, **more: Any) -> Manifest:
    """Of an object in the namespace."""
    return {
        "name": name,
        "namespace": options.namespace,
        "labels": {**labels(options, component), "app.kubernetes.io/part-of": "rvtop"},
        **more,
    }


def labels(options: Options, component: str) -> dict[str, str]:
    """What a pod of a component carries, and selectors ask for."""
    return {**instance(options), _COMPONENT: component}


def instance(options: Options) -> dict[str, str]:
    """What every pod of the topology carries."""
    return {_INSTANCE: options.name}


def stays() -> dict[str, str]:
    """Annotations of a pod that is not to be moved to save a node: its engine takes minutes to load."""
    return {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def pod_security() -> Manifest:
    """An unprivileged user, the one of our images."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def env(values: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in values.items()]


def secret_env(options: Options, values: Mapping[str, str], optional: bool = False) -> list[Manifest]:
    """Variables from keys of the Secret: name -> key."""
    return [
        {
            "name": name,
            "valueFrom": {
                "secretKeyRef": {
                    "name": options.secret,
                    "key": key,
                    **({"optional": True} if optional else {}),
                }
            },
        }
        for name, key in values.items()
    ]


def engine_env(options: Options) -> list[Manifest]:
    """What an engine finds: the model, offline where its weights lie in a volume, else a token for the
    Hub."""
    values = {"MODEL_ID": options.model_id, "HF_HOME": "/tmp/huggingface"}
    if options.claim is not None:
        return env({**values, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
    return env(values) + secret_env(options, {"HF_TOKEN": "hf-token"}, optional=True)


def volumes(options: Options, shared_memory: str) -> tuple[list[Manifest], list[Manifest]]:
    """(volumes, mounts) of an engine: shared memory for tensors, and the weights."""
    made = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}}]
    mounts: list[Manifest] = [{"name": "shm", "mountPath": "/dev/shm"}]
    if options.claim is not None:
        claim = {"claimName": options.claim, "readOnly": True}
        made.append({"name": "weights", "persistentVolumeClaim": claim})
        mounts.append({"name": "weights", "mountPath": SHARED, "readOnly": True})
    return made, mounts


def placement(options: Options) -> Manifest:
    """Where an engine's pod goes: ``nodeSelector`` and ``tolerations``."""
    selector = dict(options.node_selector)
    if options.cluster is not None and options.gpus:
        selector.setdefault("karpenter.sh/nodepool", f"{options.name}-gpu")
    tolerations = [*([GPU_TAINT] if options.gpus else []), *options.tolerations]
    return {
        **({"nodeSelector": selector} if selector else {}),
        **({"tolerations": [one.manifest() for one in tolerations]} if tolerations else {}),
    }


def http_probes(path: str, port: str, start_s: int) -> Manifest:
    """Probes of a server that may take ``start_s`` to load its model."""
    get = {"path": path, "port": port}
    return {
        "startupProbe": {"httpGet": get, "periodSeconds": 5, "failureThreshold": -(-start_s // 5)},
        "readinessProbe": {"httpGet": get, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {"httpGet": get, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def service(options: Options, component: str, name: str, port: int, port_name: str) -> Manifest:
    """A Service inside the cluster for the pods of a component."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(options, name, component),
        "spec": {
            "type": "ClusterIP",
            "selector": labels(options, component),
            "ports": [{"name": port_name, "port": port, "targetPort": port_name, "protocol": "TCP"}],
        },
    }
