"""Options of `rvtop deploy k8s` as tests ask for them, and the objects that they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from rvtop.deploy.k8s.folder import files
from rvtop.deploy.k8s.options import TOPOLOGIES, Options, Toleration

ALERTS = {"groups": [{"name": "rvtop", "rules": [{"alert": "Slow", "expr": "up == 0", "for": "1m"}]}]}


def options(topology: str, **changes: Any) -> Options:
    """All that can be asked for at once, changed."""
    whole = Options(
        topology=topology,
        model="chat",
        source="Qwen/Qwen2.5-3B-Instruct",
        name=f"rvtop-{topology}",
        namespace="llm",
        image="registry.example.com/rvtop:0.1.0-gpu",
        replicas=(2, 2) if topology == "rvc" else (1, 4),
        gpus=2,
        tolerations=(Toleration("team", "chat", "NoSchedule"),),
        node_selector={"topology.kubernetes.io/zone": "eu-1a"},
        cluster="prod",
        spot=True,
        scenario=("mine.yaml", "name: mine\n"),
    )
    return replace(whole, **changes)


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def objects(made: Options) -> list[dict[str, Any]]:
    """All of a topology, its load too."""
    texts = files(made, ALERTS)
    return documents(texts["all.yaml"]) + documents(texts["load.yaml"])


def one(found: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """The one object of a kind (whose name ends so)."""
    (made,) = [o for o in found if o["kind"] == kind and o["metadata"]["name"].endswith(name)]
    return made


ALL = TOPOLOGIES
