"""``rvtop deploy k8s`` and ``rvtop deploy compose``: manifests and containers of a topology."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvtop.cli.deploy import Force, Out, written
from rvtop.errors import UserError
from rvtop.text import printable

if TYPE_CHECKING:
    from rvtop.deploy.k8s.options import Toleration

MODEL_ENV = "MODEL_ID"

Model = Annotated[
    str | None,
    typer.Option(metavar="NAME=SOURCE", help=f"What it serves; default: the variable {MODEL_ENV}."),
]
Slo = Annotated[str, typer.Option(help="Limits of its alerts, as in rvtop deploy alerts.")]
EngineArgs = Annotated[
    list[str] | None, typer.Option("--engine-arg", help="vLLM engine argument k=v; repeat.")
]


def k8s(
    *,
    topology: Annotated[str, typer.Argument(help="rvc, rsv, rsc or vllm.")],
    out: Out,
    force: Force = False,
    model: Model = None,
    name: Annotated[str | None, typer.Option(help="Name of the objects; default rvtop-TOPOLOGY.")] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the objects.")] = "rvtop",
    image: Annotated[
        str | None, typer.Option(help="Image with rvtop, Ray and the engine; default rvtop deploy compose's.")
    ] = None,
    replicas: Annotated[
        str, typer.Option(metavar="MIN[:MAX]", help="Engines; a range follows the load.")
    ] = "1",
    gpus: Annotated[int, typer.Option(help="GPUs of one engine; 0: it runs on the CPU.")] = 1,
    cpus: Annotated[str, typer.Option(help="Cores of one engine's pod.")] = "4",
    memory: Annotated[str, typer.Option(help="Memory of one engine's pod.")] = "24Gi",
    claim: Annotated[
        str | None, typer.Option(metavar="PVC", help="Volume with weights, mounted at /mnt/shared.")
    ] = None,
    toleration: Annotated[
        list[str] | None, typer.Option(metavar="KEY[=VALUE][:EFFECT]", help="For engines' pods; repeat.")
    ] = None,
    node_selector: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="For engines' pods; repeat.")
    ] = None,
    runtime_env: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: Ray's runtime environment (rsc, rsv).")
    ] = None,
    user_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: what a running deployment is told (rsc).")
    ] = None,
    engine_arg: EngineArgs = None,
    dashboard_host: Annotated[
        str | None, typer.Option(help="Ray's dashboard gets an Ingress of this name, with a login.")
    ] = None,
    api_host: Annotated[str | None, typer.Option(help="The API gets an Ingress of this name.")] = None,
    ingress: Annotated[str, typer.Option(help="Which controller: nginx or alb.")] = "nginx",
    operator_namespace: Annotated[
        str, typer.Option(help="Where KubeRay's operator runs.")
    ] = "kuberay-system",
    prometheus_namespace: Annotated[str, typer.Option(help="Where Prometheus runs.")] = "monitoring",
    ingress_namespace: Annotated[str, typer.Option(help="Where nginx runs.")] = "ingress-nginx",
    eks_cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also GPU nodes by Karpenter, in this EKS cluster.")
    ] = None,
    instance_family: Annotated[
        list[str] | None, typer.Option(help="Instance family of those nodes; repeat; default g6e.")
    ] = None,
    ami: Annotated[str, typer.Option(help="AMI alias of those nodes; pin a version.")] = "al2023@latest",
    spot: Annotated[bool, typer.Option("--spot", help="They may be spot nodes.")] = False,
    scenario: Annotated[
        str, typer.Option(help="Scenario of the Job that loads it: a file or a shipped name.")
    ] = "smoke",
    slo: Slo = "ttft_p99=2000",
) -> None:
    """Kubernetes manifests of a topology. As plain YAML, and a kustomize base with overlays."""
    from rvtop.deploy import images
    from rvtop.deploy.alerts import Limits, groups
    from rvtop.deploy.k8s.folder import files
    from rvtop.deploy.k8s.options import Options
    from rvtop.session.search import parse_slo

    served, source = model_given(model)
    options = Options(
        topology=topology,
        model=served,
        source=source,
        name=name or f"rvtop-{topology}",
        namespace=namespace,
        image=image or images.ours("gpu" if gpus else "cpu"),
        replicas=_replicas(replicas),
        gpus=gpus,
        cpus=cpus,
        memory=memory,
        claim=claim,
        tolerations=tuple(_toleration(text) for text in toleration or ()),
        node_selector=_pairs("--node-selector", node_selector),
        runtime_env=_mapping("--runtime-env", runtime_env),
        user_config=_mapping("--user-config", user_config),
        engine_args=_pairs("--engine-arg", engine_arg),
        dashboard_host=dashboard_host,
        api_host=api_host,
        ingress=ingress,
        operator_namespace=operator_namespace,
        prometheus_namespace=prometheus_namespace,
        ingress_namespace=ingress_namespace,
        cluster=eks_cluster,
        families=tuple(instance_family or ("g6e",)),
        ami=ami,
        spot=spot,
        scenario=_scenario(scenario),
    )
    rules = {"groups": groups(Limits(parse_slo(slo)))}
    written(out, files(options, rules), force)


def model_given(given: str | None) -> tuple[str, str]:
    """(name, source) of the model. Raises UserError."""
    text = given or os.environ.get(MODEL_ENV, "").strip()
    if not text:
        raise UserError(
            f"--model: give NAME=SOURCE, for example chat=Qwen/Qwen2.5-3B-Instruct, or set {MODEL_ENV}"
        )
    name, equals, source = text.partition("=")
    if not equals:
        name, source = text.rstrip("/").rpartition("/")[2], text
    if not name or not source:
        raise UserError(f"--model {printable(text)}: write NAME=SOURCE")
    return name, source


def _replicas(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    most = most or least
    if not (least.isdecimal() and most.isdecimal()):
        raise UserError(f"--replicas {printable(text)}: write MIN or MIN:MAX, for example 1:4")
    return int(least), int(most)


def _toleration(text: str) -> Toleration:
    from rvtop.deploy.k8s.options import Toleration

    taint, _, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    if not key:
        raise UserError(f"--toleration {printable(text)}: write KEY, KEY=VALUE or KEY=VALUE:EFFECT")
    return Toleration(key, value if equals else None, effect or None)


def _pairs(option: str, given: list[str] | None) -> dict[str, Any]:
    """``k=v`` each; a value that is a number or a switch in YAML is one."""
    import yaml

    found: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UserError(f"{option} {printable(text)}: write KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value) if option == "--engine-arg" else value
        except yaml.YAMLError:
            raise UserError(f"{option} {printable(text)}: the value is no YAML; quote it") from None
    return found


def _mapping(option: str, path: Path | None) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError."""
    from rvtop.system.yaml_lines import parse, read_text

    if path is None:
        return {}
    shown = f"{option} {printable(str(path))}"
    return parse(read_text(path, shown), shown)[0]


def _scenario(name: str) -> tuple[str, str | None]:
    """A scenario that is sound: (its name, None) of a shipped one, else with its text. Raises UserError."""
    from rvtop.cli.options import scenario_named

    scenario_named(name)
    path = Path(name)
    return (path.name, path.read_text("utf-8")) if path.is_file() else (name, None)


def compose(
    *,
    out: Out,
    force: Force = False,
    model: Model = None,
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Weights on this machine, at /mnt/shared/models there.")
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Engines on GPUs, one a worker; else on the CPU.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Containers with an engine.")] = 1,
    cpus: Annotated[int, typer.Option(help="Cores of each.")] = 2,
    slo: Slo = "ttft_p99=2000",
) -> None:
    """A Dockerfile and a compose stack. Ray, router, Prometheus, Grafana, rvtop in the browser."""
    from rvtop.deploy import alerts, grafana
    from rvtop.deploy.compose.stack import Options, files
    from rvtop.session.search import parse_slo

    served, source = model_given(model)
    options = Options(served, source, gpu, workers, cpus, None if models is None else str(models.absolute()))
    (rules,) = alerts.files(alerts.Limits(parse_slo(slo))).values()
    boards = {Path(path).name: text for path, text in grafana.files().items()}
    written(out, files(options, rules, boards), force)
