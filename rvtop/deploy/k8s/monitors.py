"""What Prometheus' operator scrapes and alerts on, and what the cluster may not take away at once."""

from __future__ import annotations

from collections.abc import Mapping

from rvtop.deploy.k8s import objects, ray, servers
from rvtop.deploy.k8s.objects import Manifest
from rvtop.deploy.k8s.options import Options

_EVERY = "15s"


def monitors(options: Options) -> list[Manifest]:
    """Ray's nodes by their pods (no Service has the workers' metrics); our front and vLLM by theirs."""
    made = []
    if options.on_ray:
        made += [_pod_monitor(options, component) for component in (ray.HEAD, ray.WORKER)]
    if not options.on_ray or options.topology == "rvc":
        made.append(_service_monitor(options))
    return made


def rules(options: Options, groups: Mapping[str, object]) -> Manifest:
    """The alert rules as an object: ``groups`` is the content of a rules file."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": objects.metadata(options, f"{options.name}-alerts", "alerts"),
        "spec": dict(groups),
    }


def budgets(options: Options) -> list[Manifest]:
    """One engine at a time may be moved; the head never while it runs (it is moved by hand)."""
    if not options.on_ray:
        return [_budget(options, servers.VLLM, {"maxUnavailable": 1})]
    made = [
        _budget(options, ray.HEAD, {"minAvailable": 1}),
        _budget(options, ray.WORKER, {"maxUnavailable": 1}),
    ]
    if options.topology == "rvc":
        made.append(_budget(options, servers.FRONT, {"minAvailable": 1}))
    return made


def _pod_monitor(options: Options, component: str) -> Manifest:
    kept = {
        "__meta_kubernetes_pod_label_ray_io_cluster": "ray_io_cluster",
        "__meta_kubernetes_pod_label_ray_io_group": "ray_io_group",
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": objects.metadata(options, f"{options.name}-{component}", component),
        "spec": {
            "selector": {"matchLabels": objects.labels(options, component)},
            "namespaceSelector": {"matchNames": [options.namespace]},
            "podMetricsEndpoints": [
                {
                    "port": "metrics",
                    "path": "/metrics",
                    "interval": _EVERY,
                    "relabelings": [
                        {"sourceLabels": [source], "targetLabel": target} for source, target in kept.items()
                    ],
                }
            ],
        },
    }


def _service_monitor(options: Options) -> Manifest:
    component = servers.FRONT if options.topology == "rvc" else servers.VLLM
    key = {"name": options.secret, "key": "api-key"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": objects.metadata(options, f"{options.name}-{component}", component),
        "spec": {
            "selector": {"matchLabels": objects.labels(options, component)},
            "namespaceSelector": {"matchNames": [options.namespace]},
            "endpoints": [
                {
                    "port": servers.HTTP,
                    "path": "/metrics",
                    "interval": _EVERY,
                    # Our front shows its figures to who has the key; vLLM's page is open.
                    **(
                        {"authorization": {"type": "Bearer", "credentials": key}}
                        if component == servers.FRONT
                        else {}
                    ),
                }
            ],
        },
    }


def _budget(options: Options, component: str, amount: Manifest) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": objects.metadata(options, f"{options.name}-{component}", component),
        "spec": {**amount, "selector": {"matchLabels": objects.labels(options, component)}},
    }
