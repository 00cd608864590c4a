"""What ``rvtop deploy k8s`` was asked for, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from rvtop.errors import UserError

TOPOLOGIES = ("rvc", "rsv", "rsc", "vllm")
INGRESS_KINDS = ("nginx", "alb")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?")
#: Keys that Karpenter keeps for itself, and what is meant instead.
_RESTRICTED = re.compile(r"karpenter\.sh/instance-.*")


@dataclass(frozen=True)
class Toleration:
    """Of one taint. ``value`` None tolerates each value of it, ``effect`` None each effect."""

    key: str
    value: str | None = None
    effect: str | None = None

    def manifest(self) -> dict[str, str]:
        match = {"operator": "Exists"} if self.value is None else {"operator": "Equal", "value": self.value}
        return {"key": self.key, **match, **({"effect": self.effect} if self.effect else {})}


#: What GPU nodes are tainted with, here and by NVIDIA's device plugin.
GPU_TAINT = Toleration("nvidia.com/gpu", effect="NoSchedule")


@dataclass(frozen=True)
class Options:
    """A topology on Kubernetes. ``replicas`` are (least, most) engines of the model; each gets ``gpus``
    whole GPUs (0: the CPU), ``cpus`` and ``memory``. ``claim`` is a PersistentVolumeClaim with weights,
    mounted read-only at /mnt/shared. ``dashboard_host`` and ``api_host`` are names that an Ingress of
    ``ingress`` kind makes reachable; None for neither. ``cluster`` is the EKS cluster for Karpenter's nodes,
    None for nodes that somebody else makes; ``ami`` is an alias of their image. ``scenario`` is (its name,
    its text or None for a shipped one)."""

    topology: str
    model: str
    source: str
    name: str
    namespace: str
    image: str
    replicas: tuple[int, int] = (1, 2)
    gpus: int = 1
    cpus: str = "4"
    memory: str = "24Gi"
    claim: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    user_config: Mapping[str, Any] = field(default_factory=dict)
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    dashboard_host: str | None = None
    api_host: str | None = None
    ingress: str = "nginx"
    operator_namespace: str = "kuberay-system"
    prometheus_namespace: str = "monitoring"
    ingress_namespace: str = "ingress-nginx"
    cluster: str | None = None
    families: tuple[str, ...] = ("g6e",)
    ami: str = "al2023@latest"
    spot: bool = False
    scenario: tuple[str, str | None] = ("smoke", None)

    @property
    def model_id(self) -> str:
        """``NAME=SOURCE``, as MODEL_ID says it."""
        return f"{self.model}={self.source}"

    @property
    def on_ray(self) -> bool:
        return self.topology != "vllm"

    @property
    def secret(self) -> str:
        """The Secret that its user makes."""
        return f"{self.name}-secrets"

    @property
    def service(self) -> str:
        """The Service that clients of the API use."""
        return f"{self.name}-serve-svc" if self.topology in ("rsc", "rsv") else self.name

    def resources(self) -> dict[str, dict[str, str]]:
        """Of one engine. Requests are limits: an engine that is paged out or throttled serves nobody."""
        amounts = {"cpu": self.cpus, "memory": self.memory}
        if self.gpus:
            amounts["nvidia.com/gpu"] = str(self.gpus)
        return {"requests": amounts, "limits": amounts}


def check(options: Options) -> None:
    """Raises UserError: one line that says which option is wrong and what it takes."""
    least, most = options.replicas
    if not 1 <= least <= most:
        raise UserError(f"--replicas {least}:{most}: write MIN:MAX with 1 ≤ MIN ≤ MAX, for example 1:4")
    if options.gpus < 0:
        raise UserError(f"--gpus {options.gpus}: must be 0 (the CPU) or more")
    for option, text in (("--name", options.name), ("--namespace", options.namespace)):
        if not _NAME.fullmatch(text):
            raise UserError(
                f"{option} {text}: must be small letters, digits and -, a letter first, 40 at most, "
                "as Kubernetes names objects (Ray's services add to it)"
            )
    for option, text in (("--cpus", options.cpus), ("--memory", options.memory)):
        if not _AMOUNT.fullmatch(text):
            raise UserError(f"{option} {text}: not an amount of Kubernetes; write 4, 500m, 24Gi")
    for option, host in (("--dashboard-host", options.dashboard_host), ("--api-host", options.api_host)):
        if host is not None and not _HOST.fullmatch(host):
            raise UserError(f"{option} {host}: must be a host name, for example ray.example.com")
    if options.ingress not in INGRESS_KINDS:
        raise UserError(f"--ingress {options.ingress}: must be one of {', '.join(INGRESS_KINDS)}")
    _check_topology(options)
    _check_places(options)


def _check_topology(options: Options) -> None:
    if options.topology not in TOPOLOGIES:
        raise UserError(f"{options.topology}: no topology for Kubernetes; there are {', '.join(TOPOLOGIES)}")
    if options.topology == "rsv" and options.api_host is not None:
        raise UserError(
            "--api-host: Ray Serve LLM checks no API key, so rsv gets no Ingress of its own; put a gateway "
            "that does before it, or take rvc"
        )
    if options.dashboard_host is not None and not options.on_ray:
        raise UserError("--dashboard-host: vllm has no Ray dashboard; leave it out")
    if options.user_config and options.topology != "rsc":
        raise UserError(f"--user-config: {options.topology} takes none (rsc does); leave it out")
    if options.runtime_env and options.topology not in ("rsc", "rsv"):
        raise UserError(f"--runtime-env: {options.topology} takes none (rsc and rsv do); put it in the image")
    if options.engine_args and options.topology == "rsc":
        raise UserError("--engine-arg: rsc runs no vLLM (rvc, rsv and vllm do); leave it out")
    if options.claim is None and PurePosixPath(options.source).is_absolute():
        raise UserError(
            f"--model {options.source}: a folder, which no pod has; give --claim NAME of a volume with it "
            "(mounted at /mnt/shared), or a Hub id"
        )


def _check_places(options: Options) -> None:
    for key in options.node_selector:
        if _RESTRICTED.fullmatch(key):
            raise UserError(
                f"--node-selector {key}: no node has this label; on AWS write karpenter.k8s.aws/"
                f"{key.partition('/')[2]}"
            )
    for toleration in options.tolerations:
        if toleration.effect is not None and toleration.effect not in EFFECTS:
            raise UserError(f"--toleration {toleration.key}: effect must be one of {', '.join(EFFECTS)}")
