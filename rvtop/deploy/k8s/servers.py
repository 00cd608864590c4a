"""Servers that are Deployments: the front of rvc, which drives a Ray cluster, and vLLM alone."""

from __future__ import annotations

from typing import Any

from rvtop.deploy.k8s import objects
from rvtop.deploy.k8s.objects import GCS_PORT, SERVE_PORT, Manifest
from rvtop.deploy.k8s.options import Options
from rvtop.deploy.k8s.ray import AUTH_KEY
from rvtop.deploy.k8s.serve_config import GRACE_S

FRONT, VLLM = "front", "vllm"
HTTP = "http"
_START_S = 1800  # weights of a big model from a slow disk


def front(options: Options) -> Manifest:
    """``rvtop up rvc`` as a guest of the cluster: it places the engines and routes to them. A driver needs a
    node of Ray's beside it: one without cores in the same pod, which shares Ray's folder with it."""
    head = f"{options.name}-head-svc:{GCS_PORT}"
    ray_env = objects.env({"RAY_AUTH_MODE": "token"}) + objects.secret_env(
        options, {"RAY_AUTH_TOKEN": AUTH_KEY}
    )
    ray_folder = [{"name": "ray", "mountPath": "/tmp/ray"}, {"name": "shm", "mountPath": "/dev/shm"}]
    node = {
        "name": "ray-node",
        "image": options.image,
        "restartPolicy": "Always",  # of an init container: it stays beside the others
        "command": ["ray", "start", f"--address={head}", "--num-cpus=0", "--num-gpus=0", "--block"],
        "env": ray_env,
        "startupProbe": {
            "exec": {"command": ["sh", "-c", "test -e /tmp/ray/session_latest/sockets/raylet"]},
            "periodSeconds": 2,
            "failureThreshold": 90,
        },
        "resources": _amounts("1", "2Gi"),
        "volumeMounts": ray_folder,
        "securityContext": objects.container_security(),
    }
    arguments = [
        *("rvtop", "up", "rvc", "--foreground", "--host", "0.0.0.0", "--port", str(SERVE_PORT)),
        *("--ray-address", head, "--model", "$(MODEL_ID)", *_how_many(options.replicas)),
        *(
            word
            for name, value in options.engine_args.items()
            for word in ("--engine-arg", f"{name}={value}")
        ),
        *(("--engine-arg", f"tensor-parallel-size={options.gpus}") if options.gpus > 1 else ()),
    ]
    router = {
        "name": FRONT,
        "image": options.image,
        "command": arguments,
        "env": [
            *ray_env,
            *objects.secret_env(options, {"RVTOP_API_KEY": "api-key"}),
            *objects.engine_env(options),
        ],
        "ports": [{"name": HTTP, "containerPort": SERVE_PORT}],
        **objects.http_probes("/health", HTTP, _START_S),
        # /health is 503 while a model has no ready engine; a front that ends takes all engines with it.
        "livenessProbe": {"tcpSocket": {"port": HTTP}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": _amounts("2", "4Gi"),
        "volumeMounts": [*ray_folder, *objects.volumes(options, "1Gi")[1][1:]],
        "securityContext": objects.container_security(),
    }
    volumes, _ = objects.volumes(options, "1Gi")
    pod = {
        "shareProcessNamespace": True,  # Ray's node looks after the processes of its driver
        "initContainers": [node],
        "containers": [router],
        "volumes": [*volumes, {"name": "ray", "emptyDir": {}}],
    }
    # Two fronts would each place engines of their own.
    return _deployment(options, FRONT, pod, 1, {"type": "Recreate"})


def _how_many(replicas: tuple[int, int]) -> tuple[str, str]:
    """As rvc takes it."""
    least, most = replicas
    return ("--num-replicas", str(least)) if least == most else ("--autoscale", f"{least}:{most}")


def vllm(options: Options) -> Manifest:
    """vLLM's own server, one engine a pod."""
    volumes, mounts = objects.volumes(options, "4Gi")
    arguments = {
        "model": options.source,
        "served-model-name": options.model,
        "host": "0.0.0.0",
        "port": SERVE_PORT,
        **({"tensor-parallel-size": options.gpus} if options.gpus > 1 else {}),
        **options.engine_args,
    }
    container = {
        "name": VLLM,
        "image": options.image,
        "command": ["python", "-m", "vllm.entrypoints.openai.api_server"],
        "args": [_flag(name.replace("_", "-"), value) for name, value in arguments.items()],
        "env": [*objects.secret_env(options, {"VLLM_API_KEY": "api-key"}), *objects.engine_env(options)],
        "ports": [{"name": HTTP, "containerPort": SERVE_PORT}],
        **objects.http_probes("/health", HTTP, _START_S),
        # The endpoints forget it first; then it ends what it has begun.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "10"]}}},
        "resources": options.resources(),
        "volumeMounts": mounts,
        "securityContext": objects.container_security(),
    }
    pod = {"containers": [container], "volumes": volumes, **objects.placement(options)}
    # A new pod before an old one goes would need a GPU more.
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return _deployment(options, VLLM, pod, None, strategy)  # how many: the HPA says


def _flag(name: str, value: object) -> str:
    """As vLLM takes it: a switch has no value."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def scaler(options: Options) -> Manifest:
    """The HPA of vLLM alone, on the requests that wait for their first token. Cores say nothing of a GPU's
    load; the metric comes through prometheus-adapter, whose rule is :func:`adapter_values`."""
    least, most = options.replicas
    waiting = {
        "type": "Pods",
        "pods": {
            "metric": {"name": "vllm_num_requests_waiting"},
            "target": {"type": "AverageValue", "averageValue": "4"},
        },
    }
    one = {"type": "Pods", "value": 1}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": objects.metadata(options, options.name, VLLM),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": options.name},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [waiting],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 30, "policies": [{**one, "periodSeconds": 60}]},
                "scaleDown": {"stabilizationWindowSeconds": 300, "policies": [{**one, "periodSeconds": 120}]},
            },
        },
    }


def adapter_values() -> Manifest:
    """Values for prometheus-adapter's chart, so that the HPA has its metric."""
    rule = {
        "seriesQuery": '{__name__="vllm:num_requests_waiting",namespace!="",pod!=""}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
        "name": {"as": "vllm_num_requests_waiting"},
        "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    }
    return {"rules": {"default": False, "custom": [rule]}}


def _deployment(
    options: Options, component: str, pod: Manifest, replicas: int | None, strategy: Manifest
) -> dict[str, Any]:
    labels = objects.labels(options, component)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": objects.metadata(options, options.name, component),
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "strategy": strategy,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": objects.stays()},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": GRACE_S + 30,
                    "securityContext": objects.pod_security(),
                    **pod,
                },
            },
        },
    }


def _amounts(cpu: str, memory: str) -> Manifest:
    amounts = {"cpu": cpu, "memory": memory}
    return {"requests": amounts, "limits": amounts}
