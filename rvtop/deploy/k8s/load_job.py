"""rvtop as a Job: load from inside the cluster, its run folder in a volume."""

from __future__ import annotations

from rvtop.deploy.k8s import objects
from rvtop.deploy.k8s.objects import SERVE_PORT, Manifest
from rvtop.deploy.k8s.options import Options

LOAD = "load"
_FILE = "scenario.yaml"


def load_job(options: Options, image: str) -> list[Manifest]:
    """The Job, the volume of its results, and its scenario where that is a file."""
    name = f"{options.name}-{LOAD}"
    shipped, text = options.scenario
    target = f"http://{options.service}.{options.namespace}.svc:{SERVE_PORT}"
    mounts: list[Manifest] = [
        {"name": "results", "mountPath": "/results"},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    volumes: list[Manifest] = [
        {"name": "results", "persistentVolumeClaim": {"claimName": f"{name}-results"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    made: list[Manifest] = []
    if text is not None:
        shipped = f"/scenario/{_FILE}"
        mounts.append({"name": "scenario", "mountPath": "/scenario", "readOnly": True})
        volumes.append({"name": "scenario", "configMap": {"name": f"{name}-scenario"}})
        made.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": objects.metadata(options, f"{name}-scenario", LOAD),
                "data": {_FILE: text},
            }
        )
    amounts = {"cpu": "2", "memory": "2Gi"}
    container = {
        "name": LOAD,
        "image": image,
        "command": ["rvtop", "run", shipped],
        "args": ["--target", target, "--model", options.model, "--ui", "none", "--out", "/results/$(POD)"],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *objects.secret_env(options, {"RVTOP_API_KEY": "api-key"}, optional=True),
            *objects.env({"HOME": "/tmp"}),
        ],
        # Whole cores: a client that waits for one reports its own delays.
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": mounts,
        "securityContext": {**objects.container_security(), "readOnlyRootFilesystem": True},
    }
    pod = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "securityContext": objects.pod_security(),
        "containers": [container],
        "volumes": volumes,
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": objects.metadata(options, name, LOAD),
        "spec": {
            # A load that failed is a result; another try would be another load.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 86400,
            "template": {
                "metadata": {"labels": {**_labels(options), **objects.CLIENT_LABEL}},
                "spec": pod,
            },
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": objects.metadata(options, f"{name}-results", LOAD),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }
    return [*made, claim, job]


def _labels(options: Options) -> dict[str, str]:
    """Not those of the topology's own pods: they reach each other on all ports, and a client must not."""
    return {"app.kubernetes.io/name": "rvtop", "app.kubernetes.io/component": LOAD}
