"""Manifests of `rvtop deploy k8s`: an API server would take each, nothing in them is without effect, and
mistakes put in on purpose are refused."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from rvtop.deploy.k8s.folder import files
from rvtop.deploy.k8s.options import Options
from rvtop.errors import UserError
from tests.deploy import lint, made, schemas
from tests.deploy.reach import Pod, pods, reaches

needs_crds = pytest.mark.skipif(schemas.folder() is None, reason="RVTOP_CRDS names no folder with the CRDs")
Objects = list[dict[str, Any]]


@cache
def whole(topology: str) -> Objects:
    """With an Ingress where there can be one."""
    asked = made.options(
        topology,
        dashboard_host=None if topology == "vllm" else "ray.example.com",
        api_host=None if topology == "rsv" else "llm.example.com",
    )
    return made.objects(asked)


@needs_crds
@pytest.mark.parametrize("topology", made.ALL)
def test_each_object_is_one_that_an_api_server_takes(topology: str) -> None:
    wrong = {
        f"{one['kind']}/{one['metadata']['name']}": found
        for one in whole(topology)
        if (found := schemas.faults(one))
    }
    assert wrong == {}


@pytest.mark.parametrize("topology", made.ALL)
def test_nothing_in_them_is_without_effect(topology: str) -> None:
    assert lint.faults(whole(topology)) == []
    assert lint.faults(made.objects(made.options(topology, gpus=0, cluster=None, spot=False))) == []


KINDS = {
    "rvc": {"RayCluster", "Deployment", "StatefulSet", "Service", "NodePool", "EC2NodeClass", "PodMonitor"}
    | {"ServiceMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget", "Job"}
    | {"PersistentVolumeClaim", "ConfigMap"},
    "vllm": {"Deployment", "Service", "HorizontalPodAutoscaler", "NodePool", "EC2NodeClass", "ServiceMonitor"}
    | {"PrometheusRule", "NetworkPolicy", "PodDisruptionBudget", "Job", "PersistentVolumeClaim", "ConfigMap"},
}
KINDS["rsc"] = KINDS["rsv"] = KINDS["rvc"] - {"RayCluster", "Deployment", "ServiceMonitor"} | {"RayService"}


@pytest.mark.parametrize("topology", made.ALL)
def test_a_topology_has_its_kinds(topology: str) -> None:
    assert {one["kind"] for one in made.objects(made.options(topology))} == KINDS[topology]


# -- mistakes on purpose -----------------------------------------------------------------------------------


def _at(one: dict[str, Any], *path: str | int) -> Any:
    for part in path:
        one = one[part]  # type: ignore[index,assignment]
    return one


def put(kind: str, *path: str | int, value: Any, name: str = "") -> Callable[[Objects], None]:
    """Sets a value in the one object of a kind."""

    def change(objects: Objects) -> None:
        _at(made.one(objects, kind, name), *path[:-1])[path[-1]] = value

    return change


def without(kind: str, *path: str | int, name: str = "") -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        del _at(made.one(objects, kind, name), *path[:-1])[path[-1]]

    return change


RAY = ("spec", "rayClusterConfig")
HEAD = (*RAY, "headGroupSpec")
HEAD_BOX = (*HEAD, "template", "spec", "containers", 0)
GROUP = (*RAY, "workerGroupSpecs", 0)
WORKER = (*GROUP, "template", "spec")
VLLM = ("spec", "template", "spec", "containers", 0)
POOL = ("spec", "template", "spec")

#: (topology, the mistake, what is said of it): refused by schema or CEL rule.
REFUSED = {
    "a misspelt field of a CRD": ("rsc", put("RayService", *GROUP, "maxReplica", value=4), "maxReplica"),
    "a text for a number": ("rsc", put("RayService", *GROUP, "maxReplicas", value="4"), "'4'"),
    "a cluster without its head": ("rsc", without("RayService", *HEAD), "headGroupSpec"),
    "an unknown way to log in": (
        "rvc",
        put("RayCluster", "spec", "authOptions", "mode", value="basic"),
        "basic",
    ),
    "a memory that is no amount": (
        "rsc",
        put("RayService", *WORKER, "containers", 0, "resources", "limits", "memory", value="24 GB"),
        "24 GB",
    ),
    "an instance family in Karpenter's own domain": (
        "rsc",
        put("NodePool", *POOL, "requirements", 0, "key", value="karpenter.sh/instance-family"),
        "restricted",
    ),
    "no values where some are asked for": (
        "rsc",
        put("NodePool", *POOL, "requirements", 0, "values", value=[]),
        "value",
    ),
    "a node class with a role and a profile": (
        "rsc",
        put("EC2NodeClass", "spec", "instanceProfile", value="mine"),
        "role",
    ),
    "an alias beside other terms": (
        "rsc",
        put("EC2NodeClass", "spec", "amiSelectorTerms", value=[{"alias": "al2023@latest"}, {"id": "ami-1"}]),
        "alias",
    ),
    "a selector that is a text": ("vllm", put("Service", "spec", "selector", value="vllm"), "selector"),
    "a misspelt field of Kubernetes": (
        "vllm",
        put("HorizontalPodAutoscaler", "spec", "maxReplica", value=3),
        "maxReplica",
    ),
    "an Ingress of the dead API": (
        "vllm",
        put("Ingress", "apiVersion", value="extensions/v1beta1", name="api"),
        "extensions/v1beta1",
    ),
    "an unknown effect of a rule's interval": (
        "vllm",
        put("ServiceMonitor", "spec", "endpoints", 0, "interval", value="fifteen"),
        "fifteen",
    ),
}
#: Taken by an API server, and refused by what is looked at beyond it.
USELESS = {
    "a deprecated field": ("rsc", put("RayService", "spec", lint.DEPRECATED[0], value=900), "no effect"),
    "ports without a name": (
        "rsc",
        put("RayService", *HEAD_BOX, "ports", value=[{"containerPort": 8000}]),
        "named serve",
    ),
    "a range without an autoscaler": (
        "rsc",
        without("RayService", *RAY, "enableInTreeAutoscaling"),
        "do nothing",
    ),
    "a head that takes work": (
        "rsc",
        without("RayService", *HEAD, "rayStartParams", "num-cpus"),
        "takes work",
    ),
    "a head without memory": (
        "rvc",
        without("RayCluster", "spec", "gcsFaultToleranceOptions"),
        "head that ends",
    ),
    "no login at the dashboard": ("rvc", without("RayCluster", "spec", "authOptions"), "runs code"),
    "a monitor that selects nothing": (
        "rsc",
        put("PodMonitor", "spec", "selector", value={"matchLabels": {"ray.io/serve": "yes"}}, name="worker"),
        "selects no pod",
    ),
    "a port that no Service has": (
        "vllm",
        put("ServiceMonitor", "spec", "endpoints", 0, "port", value="metrics"),
        "port named metrics",
    ),
    "a key in its text": (
        "vllm",
        put("Deployment", *VLLM, "env", 0, value={"name": "VLLM_API_KEY", "value": "sk-1"}),
        "in its text",
    ),
    "a tag that moves": (
        "vllm",
        put("Deployment", *VLLM, "image", value="vllm/vllm-openai:latest"),
        "fixed tag",
    ),
    "a GPU that nobody may use": ("rsc", without("RayService", *WORKER, "tolerations"), "tolerates no"),
    "engines that are evicted": (
        "rsc",
        put("NodePool", "spec", "disruption", "consolidationPolicy", value="WhenEmptyOrUnderutilized"),
        "evicts",
    ),
    "a node class that is not there": (
        "rsc",
        put("NodePool", *POOL, "nodeClassRef", "name", value="default"),
        "no EC2NodeClass default",
    ),
    "a dashboard without its login": (
        "rsc",
        put("Ingress", "metadata", "annotations", value={}, name="dashboard"),
        "without a login",
    ),
    "an open head": (
        "rsc",
        put("NetworkPolicy", "spec", "ingress", value=[{}], name="ray-head"),
        "reaches port 8265",
    ),
}


@needs_crds
@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_that_an_api_server_refuses(mistake: str) -> None:
    topology, change, said = REFUSED[mistake]
    objects = copy.deepcopy(whole(topology))
    change(objects)
    found = [
        fault
        for before, one in zip(whole(topology), objects, strict=True)
        if before != one
        for fault in schemas.faults(one)
    ]
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize("mistake", USELESS)
def test_a_mistake_beyond_that(mistake: str) -> None:
    topology, change, said = USELESS[mistake]
    objects = copy.deepcopy(whole(topology))
    change(objects)
    assert any(said in fault for fault in lint.faults(objects)), lint.faults(objects)


# -- who reaches what --------------------------------------------------------------------------------------

RAY_PORTS = {"dashboard": 8265, "gcs": 6379, "client": 10001, "job port": 8265}
STRANGERS = {
    "another namespace": Pod("stranger", "default"),
    "the same namespace": Pod("stranger", "llm", {"app": "web"}),
    "a client": Pod("client", "llm", {"rvtop.io/client": "true"}),
    "a client elsewhere": Pod("client", "default", {"rvtop.io/client": "true"}),
    "the Ingress controller": Pod("nginx", "ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}),
    "Prometheus": Pod("prometheus", "monitoring"),
}


@pytest.mark.parametrize("topology", ["rvc", "rsv", "rsc"])
def test_by_default_nobody_outside_reaches_ray(topology: str) -> None:
    objects = made.objects(made.options(topology))
    assert not [one for one in objects if one["kind"] == "Ingress"]
    services = [one["spec"]["type"] for one in objects if one["kind"] == "Service"]
    assert set(services) == {"ClusterIP"}
    nodes = [pod for pod in pods(objects) if "-head" in pod.name or "-worker" in pod.name]
    assert len(nodes) == 2
    found = {
        f"{who} {pod.name} {what}"
        for who, stranger in STRANGERS.items()
        for pod in nodes
        for what, port in RAY_PORTS.items()
        if reaches(objects, stranger, pod, port)
    }
    assert found == set()
    head, worker = nodes
    assert reaches(objects, worker, head, 6379)
    assert reaches(objects, head, worker, 10002)
    assert reaches(objects, STRANGERS["Prometheus"], head, 8080)
    operator = Pod("kuberay", "kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"})
    assert reaches(objects, operator, head, 8265)
    assert not reaches(objects, Pod("other", "kuberay-system"), head, 8265)
    redis = next(pod for pod in pods(objects) if pod.name.endswith("-redis"))
    assert reaches(objects, head, redis, 6379)
    assert not any(reaches(objects, one, redis, 6379) for one in (worker, *STRANGERS.values()))


@pytest.mark.parametrize(
    ("topology", "door"),
    [("rvc", "rvtop-rvc"), ("rsv", "-worker"), ("rsc", "-worker"), ("vllm", "rvtop-vllm")],
)
def test_clients_reach_the_api_and_nothing_else(topology: str, door: str) -> None:
    objects = made.objects(made.options(topology))
    serving = next(pod for pod in pods(objects) if pod.name.endswith(door))
    load = next(pod for pod in pods(objects) if pod.name.endswith("-load"))
    for client in (STRANGERS["a client"], load):
        assert reaches(objects, client, serving, 8000)
        others = [pod for pod in pods(objects) if pod not in (serving, load)]
        assert not [pod.name for pod in others if any(reaches(objects, client, pod, n) for n in (8000, 8265))]
    for who in ("another namespace", "the same namespace", "a client elsewhere", "the Ingress controller"):
        assert not reaches(objects, STRANGERS[who], serving, 8000), who


def test_a_host_opens_the_door_to_the_ingress_controller_alone() -> None:
    objects = whole("rvc")
    by_name = {pod.name: pod for pod in pods(objects)}
    nginx, elsewhere = STRANGERS["the Ingress controller"], STRANGERS["another namespace"]
    assert reaches(objects, nginx, by_name["rvtop-rvc-head"], 8265)
    assert not reaches(objects, nginx, by_name["rvtop-rvc-head"], 6379)
    assert reaches(objects, nginx, by_name["rvtop-rvc"], 8000)
    assert not reaches(objects, elsewhere, by_name["rvtop-rvc-head"], 8265)
    notes = made.one(objects, "Ingress", "dashboard")["metadata"]["annotations"]
    assert notes["nginx.ingress.kubernetes.io/auth-type"] == "basic"


def test_no_file_has_a_secret() -> None:
    """Passwords and keys are references to a Secret that is not among them."""
    for topology in made.ALL:
        assert "Secret" not in {one["kind"] for one in whole(topology)}
        texts = files(made.options(topology), made.ALERTS)
        for path, text in texts.items():
            for word in ("password:", "token:", "apiKey:", "--api-key=", "--requirepass"):
                for line in text.splitlines():
                    if word in line and "valueFrom" not in line:
                        assert line.strip() in ("redisPassword:",), f"{path}: {line}"


# -- what was asked for ------------------------------------------------------------------------------------


def test_options_reach_their_places() -> None:
    asked = made.options(
        "rsc",
        runtime_env={"pip": ["numpy"]},
        user_config={"top_k": 2},
        claim="weights",
        source="/mnt/shared/m",
    )
    service = made.one(made.objects(asked), "RayService")["spec"]
    (application,) = yaml.safe_load(service["serveConfigV2"])["applications"]
    assert application["runtime_env"] == {"pip": ["numpy"]}
    assert application["deployments"][0]["user_config"] == {"top_k": 2}
    pod = service["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    assert {"key": "team", "operator": "Equal", "value": "chat", "effect": "NoSchedule"} in pod["tolerations"]
    assert pod["nodeSelector"]["topology.kubernetes.io/zone"] == "eu-1a"
    env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert env["MODEL_ID"] == "chat=/mnt/shared/m"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_tensor_parallel_engine_reserves_its_gpus() -> None:
    text = made.one(made.objects(made.options("rsv")), "RayService")["spec"]["serveConfigV2"]
    (config,) = yaml.safe_load(text)["applications"][0]["args"]["llm_configs"]
    assert config["engine_kwargs"]["tensor_parallel_size"] == 2
    assert config["placement_group_config"]["bundles"] == [{"GPU": 1, "CPU": 1}] * 2


def test_arguments_of_vllm_are_its_flags() -> None:
    given = {"enable_prefix_caching": False, "enforce-eager": True, "max_num_seqs": 64}
    deployment = made.one(made.objects(made.options("vllm", engine_args=given)), "Deployment")
    flags = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--no-enable-prefix-caching", "--enforce-eager", "--max-num-seqs=64"} <= set(flags)
    assert "replicas" not in deployment["spec"]  # the HPA's


@pytest.mark.parametrize(
    ("replicas", "words", "workers"),
    [((2, 2), ["--num-replicas", "2"], 2), ((1, 4), ["--autoscale", "1:4"], 4)],
)
def test_the_front_of_rvc_has_a_number_or_a_range_of_engines(
    replicas: tuple[int, int], words: list[str], workers: int
) -> None:
    found = made.objects(made.options("rvc", replicas=replicas))
    command = made.one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["command"]
    at = command.index(words[0])
    assert command[at : at + 2] == words
    assert len({"--num-replicas", "--autoscale"} & set(command)) == 1
    (group,) = made.one(found, "RayCluster")["spec"]["workerGroupSpecs"]
    assert {group[name] for name in ("replicas", "minReplicas", "maxReplicas")} == {workers}


def test_a_front_without_a_ready_engine_is_not_ended() -> None:
    """/health is 503 then; the engines would end with the front."""
    deployment = made.one(made.objects(made.options("rvc")), "Deployment")
    front = deployment["spec"]["template"]["spec"]["containers"][0]
    assert front["livenessProbe"]["tcpSocket"] == {"port": "http"}
    assert "httpGet" not in front["livenessProbe"]
    assert front["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "--replicas 3:2": ("rsc", {"replicas": (3, 2)}),
    "--gpus -1": ("rsc", {"gpus": -1}),
    "--name A": ("rsc", {"name": "A"}),
    "--memory 24 GB": ("rsc", {"memory": "24 GB"}),
    "--dashboard-host nowhere": ("rsc", {"dashboard_host": "nowhere"}),
    "--dashboard-host: vllm": ("vllm", {"dashboard_host": "ray.example.com"}),
    "--api-host: Ray Serve LLM": ("rsv", {"api_host": "llm.example.com"}),
    "--ingress haproxy": ("rsc", {"ingress": "haproxy"}),
    "--user-config: rvc": ("rvc", {"user_config": {"a": 1}}),
    "--runtime-env: vllm": ("vllm", {"runtime_env": {"pip": []}}),
    "--engine-arg: rsc": ("rsc", {"engine_args": {"a": 1}}),
    "--model /weights": ("rsc", {"source": "/weights"}),
    "--node-selector karpenter.sh/instance-family": (
        "rsc",
        {"node_selector": {"karpenter.sh/instance-family": "g6e"}},
    ),
    "--toleration k": ("rsc", {"tolerations": (made.Toleration("k", effect="Never"),)}),
}


@pytest.mark.parametrize("said", WRONG)
def test_an_option_that_does_not_fit_is_refused(said: str) -> None:
    topology, changes = WRONG[said]
    with pytest.raises(UserError) as caught:
        files(made.options(topology, **changes), made.ALERTS)
    assert str(caught.value).startswith(said)


def written(asked: Options, folder: Path) -> Path:
    for path, text in files(asked, made.ALERTS).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.skipif(which("kubectl") is None, reason="no kubectl here")
def test_kustomize_makes_of_the_overlays_what_the_plain_file_has(tmp_path: Path) -> None:
    def objects(of: str) -> dict[tuple[str, str], dict[str, Any]]:
        done = subprocess.run(
            ["kubectl", "kustomize", of], cwd=folder, capture_output=True, text=True, check=True
        )
        return {(one["kind"], one["metadata"]["name"]): one for one in made.documents(done.stdout)}

    folder = written(made.options("rsc"), tmp_path)
    plain = {
        (one["kind"], one["metadata"]["name"]): one
        for one in made.documents((folder / "all.yaml").read_text())
    }
    assert objects("overlays/production") == plain
    dev = objects("overlays/dev")
    group = dev["RayService", "rvtop-rsc"]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert [group["replicas"], group["minReplicas"], group["maxReplicas"]] == [1, 1, 1]
    assert {kind for kind, _ in objects("load")} == {"Job", "ConfigMap", "PersistentVolumeClaim"}


@pytest.mark.parametrize("topology", made.ALL)
def test_the_dev_overlay_has_one_engine_and_asks_for_one(topology: str) -> None:
    """Its patches, done here: what they make is what ``--replicas 1`` makes."""

    def objects(replicas: tuple[int, int]) -> dict[tuple[str, str], dict[str, Any]]:
        asked = made.options(topology, replicas=replicas)
        listed = made.documents(files(asked, made.ALERTS)["all.yaml"])
        return {(one["kind"], one["metadata"]["name"]): one for one in listed}

    found, one = objects((1, 4)), objects((1, 1))
    asked = made.options(topology, replicas=(1, 4))
    overlay = yaml.safe_load(files(asked, made.ALERTS)["overlays/dev/kustomization.yaml"])
    for patch in overlay["patches"]:
        at = patch["target"]["kind"], patch["target"]["name"]
        for step in yaml.safe_load(patch["patch"]):
            *above, last = step["path"].strip("/").split("/")
            place: Any = found[at]
            for name in above:
                place = place[int(name)] if isinstance(place, list) else place[name]
            assert last in place
            place[last] = step["value"]
    assert overlay["patches"]
    for patch in overlay["patches"]:
        at = patch["target"]["kind"], patch["target"]["name"]
        assert found[at] == one[at]
