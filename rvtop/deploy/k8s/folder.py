"""The files of a topology: plain YAML, and the same as a kustomize base with components and overlays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rvtop.deploy import images
from rvtop.deploy.k8s import load_job, monitors, network, nodes, objects, ray, servers
from rvtop.deploy.k8s.objects import Manifest
from rvtop.deploy.k8s.options import Options, check
from rvtop.deploy.yaml_text import yaml_text, yaml_texts

BASE, MONITORING, KARPENTER, LOAD = "base", "components/monitoring", "components/karpenter", "load"
DEV, PRODUCTION = "overlays/dev", "overlays/production"
ADAPTER = "prometheus-adapter-values.yaml"


@dataclass(frozen=True)
class Parts:
    """Manifests by what a cluster needs for them."""

    base: list[Manifest]  # KubeRay, where the topology is on Ray
    monitoring: list[Manifest]  # Prometheus' operator
    karpenter: list[Manifest]  # Karpenter on EKS
    load: list[Manifest]  # a run of rvtop


def parts(options: Options, alerts: Mapping[str, object]) -> Parts:
    """Raises UserError for options that do not fit. ``alerts`` is the content of a rules file."""
    check(options)
    closed = [*network.policies(options), *network.ingresses(options), *monitors.budgets(options)]
    if options.on_ray:
        made = ray.redis(options)
        if options.topology == "rvc":
            made += [ray.ray_cluster(options), servers.front(options), _door(options, servers.FRONT)]
        else:
            made.append(ray.ray_service(options))
    else:
        made = [servers.vllm(options), _door(options, servers.VLLM), servers.scaler(options)]
    return Parts(
        base=[*made, *closed],
        monitoring=[*monitors.monitors(options), monitors.rules(options, alerts)],
        karpenter=nodes.pools(options),
        load=load_job.load_job(
            options, images.ours("cpu") if options.image == images.ours("cuda") else options.image
        ),
    )


def _door(options: Options, component: str) -> Manifest:
    """The Service of a server of HTTP."""
    return objects.service(options, component, options.service, objects.SERVE_PORT, servers.HTTP)


def files(options: Options, alerts: Mapping[str, object]) -> dict[str, str]:
    """Path below the output folder -> text. Raises UserError."""
    found = parts(options, alerts)
    made = {
        "all.yaml": yaml_texts([*found.karpenter, *found.base, *found.monitoring]),
        "load.yaml": yaml_texts(found.load),
        "README.md": _readme(options, found),
    }
    made |= _folder(BASE, found.base)
    made |= _folder(MONITORING, found.monitoring, component=True)
    made |= _folder(LOAD, found.load)
    components = [MONITORING]
    if found.karpenter:
        made |= _folder(KARPENTER, found.karpenter, component=True)
        components.append(KARPENTER)
    made[f"{DEV}/kustomization.yaml"] = _kustomization(resources=["../../base"], patches=_one_engine(options))
    made[f"{PRODUCTION}/kustomization.yaml"] = _kustomization(
        resources=["../../base"],
        components=[f"../../{name}" for name in components],
        images=[_pinned(options.image)],
    )
    if options.topology == "vllm":
        made[ADAPTER] = yaml_text(servers.adapter_values())
    return made


def _folder(folder: str, manifests: Sequence[Manifest], component: bool = False) -> dict[str, str]:
    """A file for each object, and their kustomization."""
    made = {}
    for manifest in manifests:
        name = f"{manifest['kind'].lower()}-{manifest['metadata']['name']}.yaml"
        made[f"{folder}/{name}"] = yaml_text(manifest)
    names = [path.rpartition("/")[2] for path in made]
    made[f"{folder}/kustomization.yaml"] = _kustomization(component=component, resources=names)
    return made


def _kustomization(component: bool = False, **fields: Any) -> str:
    kind = (
        {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
        if component
        else {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    )
    return yaml_text({**kind, **fields})


def _pinned(image: str) -> dict[str, str]:
    """The image again, for its owner to change it in one place."""
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "latest")
    return {"name": name, "newName": name, "newTag": tag}


def _one_engine(options: Options) -> list[dict[str, Any]]:
    """Patches: one engine and no more, both the place for it and what asks for it."""
    one = replace(options, replicas=(1, 1))
    if options.topology == "vllm":
        return [
            _patch("HorizontalPodAutoscaler", options.name, {"minReplicas": 1, "maxReplicas": 1}, "/spec")
        ]
    amounts = {"replicas": 1, "minReplicas": 1, "maxReplicas": 1}
    group = "workerGroupSpecs/0"
    if options.topology == "rvc":
        front = servers.front(one)
        container = "/spec/template/spec/containers/0"
        command = front["spec"]["template"]["spec"]["containers"][0]["command"]
        return [
            _patch("RayCluster", options.name, amounts, f"/spec/{group}"),
            _patch("Deployment", front["metadata"]["name"], {"command": command}, container),
        ]
    config = {"serveConfigV2": ray.ray_service(one)["spec"]["serveConfigV2"]}
    return [
        _patch("RayService", options.name, amounts, f"/spec/rayClusterConfig/{group}"),
        _patch("RayService", options.name, config, "/spec"),
    ]


def _patch(kind: str, name: str, values: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Gives fields of the object that stand ``at`` a path other values."""
    steps = [{"op": "replace", "path": f"{at}/{field}", "value": value} for field, value in values.items()]
    return {"target": {"kind": kind, "name": name}, "patch": yaml_text(steps)}


def _readme(options: Options, found: Parts) -> str:
    """What to do with the files, in order."""
    space, secret = options.namespace, options.secret
    keys = {"api-key": "clients give it"}
    if options.on_ray:
        keys |= {ray.AUTH_KEY: "Ray's nodes, jobs and dashboard", ray.REDIS_KEY: "the head's memory in Redis"}
    made = " \\\n".join(f"    --from-literal={key}=$(openssl rand -hex 32)" for key in keys)
    lines = [
        f"# {options.name}: topology {options.topology} on Kubernetes",
        "",
        f"Made by `rvtop deploy k8s {options.topology}`; rvtop's docs/kubernetes.md explains each part.",
        "",
        "```",
        f"kubectl create namespace {space}",
        f"kubectl -n {space} create secret generic {secret} \\\n{made}",
    ]
    if options.claim is None:
        lines.append(f"# a gated model: add --from-literal=hf-token=… to {secret}")
    if options.dashboard_host is not None and options.ingress == "nginx":
        lines.append(
            f"htpasswd -c auth NAME && kubectl -n {space} create secret generic "
            f"{options.name}-dashboard-users --from-file=auth"
        )
    lines += [
        "rvtop doctor --k8s",
        "kubectl apply -k overlays/production    # or: kubectl apply -f all.yaml; overlays/dev: one engine",
        f"kubectl -n {space} get pods -w",
        "kubectl apply -k load    # a run of rvtop from inside the cluster",
        "```",
        "",
        *(f"- `{key}` of `{secret}`: {use}." for key, use in keys.items()),
        f'- Only pods of `{space}` with the label `rvtop.io/client: "true"` reach the API.',
    ]
    if found.karpenter:
        lines.append(
            "- NodePool and EC2NodeClass belong to no namespace: Karpenter makes nodes for the workers."
        )
    return "\n".join(lines) + "\n"
