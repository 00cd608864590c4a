"""A Ray cluster under KubeRay: head, workers, and what its head remembers in Redis."""

from __future__ import annotations

from typing import Any

from rvtop.deploy import images
from rvtop.deploy.k8s import objects
from rvtop.deploy.k8s.objects import Manifest
from rvtop.deploy.k8s.options import Options
from rvtop.deploy.k8s.serve_config import GRACE_S, serve_config

HEAD, WORKER, REDIS = "ray-head", "ray-worker", "redis"
GROUP = "engines"
AUTH_KEY = "auth_token"  # where KubeRay looks for it
REDIS_KEY = "redis-password"
_REDIS_PORT = 6379


def ray_service(options: Options) -> Manifest:
    """What KubeRay makes a cluster and an application of; replaced by a new cluster when it changes."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": objects.metadata(options, options.name, "ray"),
        "spec": {
            # The head has no engine: a request through it would only pass.
            "excludeHeadPodFromServeSvc": True,
            "rayClusterDeletionDelaySeconds": GRACE_S + 30,
            "serveConfigV2": serve_config(options),
            "rayClusterConfig": cluster_spec(options, scales=True),
        },
    }


def ray_cluster(options: Options) -> Manifest:
    """A cluster alone, for a driver that divides its nodes among the engines when it starts: so all workers
    are there from the beginning."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": objects.metadata(options, options.name, "ray"),
        "spec": cluster_spec(options, scales=False),
    }


def cluster_spec(options: Options, scales: bool) -> Manifest:
    """``scales``: Ray's autoscaler adds and removes workers."""
    return {
        "rayVersion": images.RAY,
        # Whoever reaches the dashboard runs code of his own in the cluster, so it asks for this token too.
        "authOptions": {"mode": "token", "secretName": options.secret},
        "gcsFaultToleranceOptions": {
            "redisAddress": f"{options.name}-redis:{_REDIS_PORT}",
            "redisPassword": {"valueFrom": {"secretKeyRef": {"name": options.secret, "key": REDIS_KEY}}},
        },
        **({"enableInTreeAutoscaling": True, "autoscalerOptions": _autoscaler()} if scales else {}),
        "headGroupSpec": {
            # No engine and no replica runs here: the head's memory and cores are the cluster's.
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _head_pod(options),
        },
        "workerGroupSpecs": [_workers(options, scales)],
    }


def _autoscaler() -> Manifest:
    amounts = {"cpu": "500m", "memory": "512Mi"}
    return {
        "version": "v2",
        "idleTimeoutSeconds": 300,
        "upscalingMode": "Default",
        "resources": {"requests": amounts, "limits": amounts},
    }


def _head_pod(options: Options) -> Manifest:
    amounts = {"cpu": "2", "memory": "8Gi"}
    ports = {
        "gcs-server": objects.GCS_PORT,
        "dashboard": objects.DASHBOARD_PORT,
        "client": objects.CLIENT_PORT,
        "serve": objects.SERVE_PORT,
        "metrics": objects.METRICS_PORT,
    }
    return _pod(options, HEAD, ports, {"requests": amounts, "limits": amounts}, env=_key(options))


def _workers(options: Options, scales: bool) -> Manifest:
    least, most = options.replicas
    ports = {"serve": objects.SERVE_PORT, "metrics": objects.METRICS_PORT}
    env = _key(options) + objects.engine_env(options)
    pod = _pod(options, WORKER, ports, options.resources(), env=env)
    pod["spec"] |= {"automountServiceAccountToken": False, **objects.placement(options)}
    return {
        "groupName": GROUP,
        "replicas": least if scales else most,
        "minReplicas": least if scales else most,
        "maxReplicas": most,
        "rayStartParams": {},
        "template": pod,
    }


def _key(options: Options) -> list[Manifest]:
    """Clients' key, where our own engine answers them."""
    return objects.secret_env(options, {"RVTOP_API_KEY": "api-key"}) if options.topology == "rsc" else []


def _pod(
    options: Options, component: str, ports: dict[str, int], resources: Manifest, env: list[Manifest]
) -> dict[str, Any]:
    volumes, mounts = objects.volumes(options, "2Gi")
    container = {
        "name": component,
        "image": options.image,
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "env": env,
        "resources": resources,
        "volumeMounts": mounts,
        "securityContext": objects.container_security(),
    }
    return {
        "metadata": {"labels": objects.labels(options, component), "annotations": objects.stays()},
        "spec": {
            "terminationGracePeriodSeconds": GRACE_S + 30,
            "securityContext": objects.pod_security(),
            "containers": [container],
            "volumes": volumes,
        },
    }


def redis(options: Options) -> list[Manifest]:
    """What the head knows, kept beyond it: a head that starts again finds its cluster, which serves on."""
    amounts = {"cpu": "500m", "memory": "512Mi"}
    # From stdin, so that the password is in no argument and no file.
    script = (
        "printf 'requirepass %s\\nappendonly yes\\ndir /data\\n' \"$REDIS_PASSWORD\" | exec redis-server -"
    )
    container = {
        "name": REDIS,
        "image": images.REDIS,
        "command": ["sh", "-c", script],
        "env": objects.secret_env(options, {"REDIS_PASSWORD": REDIS_KEY}),
        "ports": [{"name": REDIS, "containerPort": _REDIS_PORT}],
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": REDIS}, "periodSeconds": 5},
        "securityContext": {**objects.container_security(), "readOnlyRootFilesystem": True},
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
    }
    name = f"{options.name}-redis"
    stateful = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": objects.metadata(options, name, REDIS),
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": objects.labels(options, REDIS)},
            "template": {
                "metadata": {"labels": objects.labels(options, REDIS), "annotations": objects.stays()},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": {**objects.pod_security(), "runAsUser": 999, "fsGroup": 999},
                    "containers": [container],
                },
            },
            "volumeClaimTemplates": [claim],
        },
    }
    return [stateful, objects.service(options, REDIS, name, _REDIS_PORT, REDIS)]
