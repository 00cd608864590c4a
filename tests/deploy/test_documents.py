"""The manifests in the source documents: each fault of theirs is found, and docs/kubernetes.md names it.

The documents and the CRDs are not in the repository (RVTOP_SOURCES, RVTOP_CRDS).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import lint, schemas

SOURCES = os.environ.get("RVTOP_SOURCES")
pytestmark = pytest.mark.skipif(
    not SOURCES or schemas.folder() is None, reason="RVTOP_SOURCES and RVTOP_CRDS name no folders"
)
DOCS = Path(__file__).parents[2] / "docs" / "kubernetes.md"
#: How deep the lines of 004's manifest stood before its indentation was lost.
_DEPTHS = (
    *(0, 0, 0, 1, 0, 1, 2, 2, 3, 3, 4, 4, 4, 3, 4, 5, 5, 6, 5, 6, 6),
    *(1, 2, 3, 4, 3, 4, 5, 5, 6, 6, 7, 8, 8, 6, 6, 6, 6),
    *(2, 2, 3, 3, 3, 3, 3, 4, 5, 5, 6, 6, 7, 8, 8, 8),
)


def fenced(document: str) -> dict[str, dict[str, Any]]:
    """The manifests between fences, by kind."""
    assert SOURCES is not None
    text = Path(SOURCES, document).read_text("utf-8", "replace")
    found = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)]
    return {one["kind"]: one for one in found}


def without_indentation(document: str) -> dict[str, Any]:
    """004's manifest, indented again."""
    assert SOURCES is not None
    lines = [line for line in Path(SOURCES, document).read_text("utf-8").splitlines() if line]
    first = lines.index("apiVersion: ray.io/v1")
    block = lines[first : first + len(_DEPTHS)]
    assert block[-1] == "nvidia.com/gpu: 1"
    text = "\n".join("  " * depth + line for depth, line in zip(_DEPTHS, block, strict=True))
    made: dict[str, Any] = yaml.safe_load(text)
    made["metadata"]["namespace"] = "ray-system"
    return made


def faults_of(objects: list[dict[str, Any]]) -> list[str]:
    for one in objects:
        one["metadata"].setdefault("namespace", "ray-system")
    refused = [f"{one['kind']}: {fault}" for one in objects for fault in schemas.faults(one)]
    return refused + lint.faults(objects)


#: What is said of 001's manifests (002's are the same), each as its beginning.
OF_001 = (
    "NodePool: spec.template.spec.requirements",  # the domain karpenter.sh
    "RayService/llm-serving: serviceUnhealthySecondThreshold is deprecated",
    "RayService/llm-serving: deploymentUnhealthySecondThreshold is deprecated",
    "RayService/llm-serving: the head takes work",
    "RayService/llm-serving: a head that ends takes the cluster with it",
    "RayService/llm-serving: who reaches the dashboard or the job port runs code",
    "RayService/llm-serving: minReplicas and maxReplicas of gpu-worker do nothing",
    "RayService/llm-serving: image rayproject/ray-ml:2.44.0-py311-gpu of ray-head is not published",
    "RayService/llm-serving: image rayproject/ray-ml:2.44.0-py311-gpu of ray-worker is not published",
    "RayService/llm-serving: nodeSelector karpenter.sh/instance-family",
    "RayService/llm-serving: every pod of the cluster reaches port 8265",
    "RayService/llm-serving: every pod of the cluster reaches port 6379",
    "RayService/llm-serving: every pod of the cluster reaches port 10001",
    "NodePool/ray-gpu-workers: consolidationPolicy evicts engines",
    "NodePool/ray-gpu-workers: expireAfter is missing",
    "NodePool/ray-gpu-workers: there is no EC2NodeClass default",
    "Ingress/ray-dashboard: without TLS",
    "Ingress/ray-dashboard: no ingressClassName",
    "Ingress/ray-dashboard: the dashboard without a login",
    "ServiceMonitor/ray-serve-monitor: selects no Service",
    "ServiceMonitor/ray-serve-monitor: no Service that it selects has a port named metrics",
)
OF_004 = (
    "RayService/llm-service: rayVersion is missing",
    "RayService/llm-service: the head takes work",
    "RayService/llm-service: a head that ends takes the cluster with it",
    "RayService/llm-service: who reaches the dashboard or the job port runs code",
    "RayService/llm-service: minReplicas and maxReplicas of gpu-workers do nothing",
    "RayService/llm-service: image rayproject/ray-ml:2.40.0-py310-gpu of ray-head is not published",
    "RayService/llm-service: image rayproject/ray-ml:2.40.0-py310-gpu of ray-worker is not published",
    "RayService/llm-service: no port named serve",
    "RayService/llm-service: ray-worker wants a GPU and tolerates no GPU node's taint",
    "RayService/llm-service: every pod of the cluster reaches port 8265",
    "RayService/llm-service: every pod of the cluster reaches port 6379",
    "RayService/llm-service: every pod of the cluster reaches port 10001",
)


def same(found: list[str], said: tuple[str, ...]) -> None:
    """Each fault is one that is said, and each that is said is found."""
    assert [fault for fault in found if not fault.startswith(said)] == []
    assert [text for text in said if not any(fault.startswith(text) for fault in found)] == []


@pytest.mark.parametrize("document", ["001.txt", "002.txt"])
def test_the_faults_of_the_architecture_s_manifests(document: str) -> None:
    same(faults_of(list(fenced(document).values())), OF_001)


def test_the_faults_of_the_pipeline_s_manifest() -> None:
    same(faults_of([without_indentation("004.txt")]), OF_004)


def test_ray_refuses_a_number_of_replicas_beside_a_range() -> None:
    """Of 004's Serve config; 001's is taken."""
    from ray.serve.schema import ServeDeploySchema

    def parsed(service: dict[str, Any]) -> ServeDeploySchema:
        return ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))

    assert parsed(fenced("001.txt")["RayService"]).applications[0].import_path == "serve_app:deployment"
    with pytest.raises(ValueError, match="num_replicas"):
        parsed(without_indentation("004.txt"))


def test_docs_name_each_fault() -> None:
    text = " ".join(DOCS.read_text("utf-8").split())
    for fault in (*OF_001, *OF_004):
        what = fault.partition(": ")[2].partition(" of ")[0].removeprefix("spec.template.spec.")
        assert what in text, fault
