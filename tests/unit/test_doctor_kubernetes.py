"""``rvtop doctor --k8s`` with a kubectl that says what a test wants."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from rvtop.doctor import kubernetes
from tests.conftest import Rvtop

VERSION = {"serverVersion": {"gitVersion": "v1.33.1"}}
_WITH = {"openAPIV3Schema": {"properties": {"authOptions": {}}}}
POD = {
    "metadata": {"namespace": "ray-ops"},
    "spec": {"containers": [{"image": "quay.io/kuberay/operator:v1.7.0"}]},
}
NODES = [{"status": {"allocatable": {"nvidia.com/gpu": "8"}}}, {"status": {"allocatable": {"cpu": "4"}}}]


def crd(name: str, schema: dict[str, Any] = _WITH, version: str = "v1") -> dict[str, Any]:
    versions = [{"name": version, "served": True, "schema": schema}]
    return {"metadata": {"name": name}, "spec": {"versions": versions}}


GOOD: dict[str, Any] = {
    "version": VERSION,
    "customresourcedefinitions": {"items": [crd(one.name) for one in kubernetes.CRDS]},
    "pods": {"items": [POD]},
    "nodes": {"items": NODES},
}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that prints the file named as what it is asked for."""
    program = tmp_path / "kubectl"
    program.write_text(
        f"#!/bin/sh\ncd {tmp_path}\n"
        'for word in "$@"; do [ -f "$word" ] && exec /bin/cat "$word"; done\nexit 1\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def found(folder: Path, **changes: Any) -> dict[str, tuple[str, str]]:
    """name -> (level, text and mend) with what kubectl is told to say; None: nothing."""
    for what, told in {**GOOD, **changes}.items():
        (folder / what).unlink(missing_ok=True)
        if told is not None:
            (folder / what).write_text(json.dumps(told))
    return {one.name: (one.level, f"{one.text} {one.fix}") for one in kubernetes.checks()}


def test_a_cluster_with_all_that_is_needed(kubectl: Path, rvtop_here: Rvtop) -> None:
    assert {level for level, _ in found(kubectl).values()} == {"ok"}
    code, out, _ = rvtop_here("doctor", "--k8s")
    assert code == 0
    assert "8 on 1 of 2 nodes" in out
    assert "--operator-namespace" in out
    assert "ray-ops" in out


def test_without_a_cluster_one_line_says_so(kubectl: Path, rvtop_here: Rvtop) -> None:
    assert found(kubectl, version={"clientVersion": {}}) == {
        "kubernetes": ("fail", "kubectl reaches no cluster kubectl config current-context; kubectl get nodes")
    }
    code, out, _ = rvtop_here("doctor", "--k8s")
    assert code == 1
    assert "kubectl reaches no cluster" in out


def test_each_thing_that_is_missing_has_its_mend(kubectl: Path) -> None:
    few = [crd("rayservices.ray.io", {}), crd("rayclusters.ray.io", version="v1alpha1")]
    told = found(
        kubectl,
        version={"serverVersion": {"gitVersion": "v1.27.3"}},
        customresourcedefinitions={"items": few},
        pods={"items": []},
        nodes={"items": NODES[1:]},
    )
    assert told["kubernetes"] == ("warn", "v1.27.3 the front of rvc needs 1.29 or later (sidecar containers)")
    assert told["rayservices"][0] == told["rayclusters"][0] == "fail"
    assert "before 1.6" in told["rayservices"][1]
    assert "only v1alpha1 served" in told["rayclusters"][1]
    assert told["nodepools"] == (
        "warn",
        "not there (components/karpenter) install it, or leave --eks-cluster out",
    )
    assert told["kuberay"][0] == told["GPUs"][0] == "warn"


def test_what_may_not_be_read_is_a_warning(kubectl: Path) -> None:
    told = found(kubectl, customresourcedefinitions=None, nodes=None)
    assert told["CRDs"][0] == told["GPUs"][0] == "warn"


def test_an_old_operator(kubectl: Path) -> None:
    old = {**POD, "spec": {"containers": [{"image": "kuberay/operator:v1.4.0"}]}}
    assert found(kubectl, pods={"items": [old]})["kuberay"][0] == "warn"


def test_no_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (only,) = kubernetes.checks()
    assert (only.name, only.level) == ("kubectl", "fail")


def test_deep_is_of_this_machine(rvtop_here: Rvtop) -> None:
    code, _, err = rvtop_here("doctor", "--k8s", "--deep")
    assert code == 2
    assert "give one of them" in err
