"""`rvtop deploy k8s`, `deploy compose` and `up --foreground` as commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Rvtop
from tests.deploy import lint, made


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_ID", "org/Model-3B")


@pytest.mark.parametrize("topology", made.ALL)
def test_k8s_writes_sound_manifests_of_the_environment_s_model(
    topology: str, rvtop_here: Rvtop, tmp_path: Path
) -> None:
    code, out, err = rvtop_here("deploy", "k8s", topology, "--out", tmp_path / "k8s")
    assert (code, err) == (0, "")
    paths = [Path(line) for line in out.splitlines()]
    assert all(path.is_file() for path in paths)
    objects = made.documents((tmp_path / "k8s" / "all.yaml").read_text())
    assert lint.faults(objects) == []
    assert "org/Model-3B" in " ".join(lint.values_of(objects))
    rules = made.one(objects, "PrometheusRule")["spec"]["groups"]
    assert {rule["annotations"]["summary"] != "" for group in rules for rule in group["rules"]} == {True}


def test_k8s_takes_all_of_its_options(rvtop_here: Rvtop, tmp_path: Path) -> None:
    environment, user, scenario = tmp_path / "env.yaml", tmp_path / "user.yaml", tmp_path / "mine.yaml"
    environment.write_text("pip: [numpy==2.3.0]\n")
    user.write_text("top_k: 2\n")
    scenario.write_text(
        "name: mine\nworkload: {kind: synthetic, prompt_tokens: 8, output_tokens: 4}\n"
        "phases: [{name: a, rate: 1, duration: 5s}]\n"
    )
    code, _, err = rvtop_here(
        *(
            "deploy",
            "k8s",
            "rsc",
            "--out",
            tmp_path / "k8s",
            "--model",
            "chat=/mnt/shared/m",
            "--claim",
            "pvc",
        ),
        *("--replicas", "2:6", "--gpus", "0", "--toleration", "team=chat:NoSchedule", "--toleration", "spot"),
        *("--node-selector", "zone=a", "--runtime-env", environment, "--user-config", user),
        *("--scenario", scenario, "--slo", "ttft_p99=300", "--name", "chat", "--namespace", "llm"),
    )
    assert (code, err) == (0, "")
    objects = made.documents((tmp_path / "k8s" / "all.yaml").read_text())
    service = made.one(objects, "RayService")
    assert service["metadata"]["name"] == "chat"
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    scale = application["deployments"][0]["autoscaling_config"]
    assert (scale["min_replicas"], scale["max_replicas"]) == (2, 6)
    assert application["deployments"][0]["user_config"] == {"top_k": 2}
    pod = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    assert [one["operator"] for one in pod["tolerations"]] == ["Equal", "Exists"]
    load = made.documents((tmp_path / "k8s" / "load.yaml").read_text())
    assert made.one(load, "ConfigMap")["data"]["scenario.yaml"] == scenario.read_text()
    assert any(" > 0.3" in text for text in lint.values_of(made.one(objects, "PrometheusRule")))


REFUSED: dict[str, tuple[str, ...]] = {
    "no topology for Kubernetes": ("baseline",),
    "--replicas x": ("rsc", "--replicas", "x"),
    "--toleration =": ("rsc", "--toleration", "=v"),
    "--node-selector a": ("rsc", "--node-selector", "a"),
    "--engine-arg a": ("vllm", "--engine-arg", "a"),
    "--model =": ("rsc", "--model", "=x"),
    "--runtime-env /nowhere": ("rsc", "--runtime-env", "/nowhere"),
    "nowhere.yaml": ("rsc", "--scenario", "nowhere.yaml"),
}


@pytest.mark.parametrize("said", REFUSED)
def test_k8s_refuses_in_one_line(said: str, rvtop_here: Rvtop, tmp_path: Path) -> None:
    code, out, err = rvtop_here("deploy", "k8s", *REFUSED[said], "--out", tmp_path / "k8s")
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "k8s").exists()


def test_without_a_model_nothing_is_written(
    rvtop_here: Rvtop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL_ID")
    for words in (("k8s", "rsc"), ("compose",)):
        code, _, err = rvtop_here("deploy", *words, "--out", tmp_path / "out")
        assert code == 2
        assert "set MODEL_ID" in err


def test_compose_writes_its_stack_with_alerts_and_dashboards(rvtop_here: Rvtop, tmp_path: Path) -> None:
    code, _, err = rvtop_here("deploy", "compose", "--out", tmp_path, "--gpu", "--workers", 2)
    assert (code, err) == (0, "")
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    assert compose["services"]["worker"]["deploy"]["replicas"] == 2
    assert yaml.safe_load((tmp_path / "prometheus" / "rules.yml").read_text())["groups"]
    assert len(list((tmp_path / "grafana" / "dashboards").glob("*.json"))) >= 4
    (tmp_path / "compose.yaml").write_text("mine")
    code, _, err = rvtop_here("deploy", "compose", "--out", tmp_path, "--gpu", "--workers", 2)
    assert code == 2
    assert "another text" in err
    assert (tmp_path / "compose.yaml").read_text() == "mine"


def test_up_in_the_foreground_becomes_the_backend(rvtop_here: Rvtop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Became(BaseException):
        pass

    became: list[Any] = []

    def execv(program: str, words: list[str]) -> None:
        became.append((program, words))
        raise Became

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Became):
        rvtop_here(
            *("up", "rvc", "--foreground", "--host", "0.0.0.0", "--port", 8000, "--model", "m=s"),
            *("--ray-address", "head:6379", "--num-replicas", 2),
        )
    ((program, words),) = became
    assert words[0] == program
    assert words[1:5] == ["-P", "-m", "backends", "rvc"]
    assert "--lease" not in words
    assert {"--ray-address", "head:6379", "--num-replicas", "2", "m=s", "8000"} <= set(words)


def test_a_topology_in_the_foreground_has_no_name(rvtop_here: Rvtop) -> None:
    code, _, err = rvtop_here("up", "rvc", "--foreground", "--name", "mine")
    assert code == 2
    assert "--name" in err
