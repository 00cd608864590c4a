"""The stack: Ray's head and workers, the router of rvc, Prometheus, Grafana, and rvtop in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rvtop.deploy import images
from rvtop.deploy.compose.dockerfile import LOCK, OVERRIDES, dockerfile, lock, overrides
from rvtop.deploy.yaml_text import yaml_text
from rvtop.errors import UserError

Service = dict[str, Any]
#: File below secrets/ -> what it is for. Their owner makes them; none is written here.
SECRETS = {
    "api-key": "clients of the API, Prometheus and rvtop",
    "ray-token": "Ray's nodes, jobs and dashboard",
    "grafana-password": "Grafana's user admin",
}
# Ray's own list of its nodes' pages, in its folder on the head.
_NODES = "prom_metrics_service_discovery.json"
_CLIENT_PORT = 9400


@dataclass(frozen=True)
class Options:
    """``workers`` containers with one engine each, of ``cpus`` cores (``cuda``: of a GPU). ``models`` is a
    folder of the machine that containers see read-only at /mnt/shared/models; None for a Hub id."""

    model: str
    source: str
    cuda: bool = False
    workers: int = 1
    cpus: int = 2
    models: str | None = None


def check(options: Options) -> None:
    """Raises UserError."""
    for option, number in (("--workers", options.workers), ("--cpus", options.cpus)):
        if number < 1:
            raise UserError(f"{option} {number}: must be at least 1")
    if options.models is None and PurePosixPath(options.source).is_absolute():
        raise UserError(
            f"--model {options.source}: a folder, which no container has; give --models DIR of the machine "
            "(mounted at /mnt/shared/models) and a path there, or a Hub id"
        )


def files(options: Options, alerts: str, dashboards: Mapping[str, str]) -> dict[str, str]:
    """Path below the output folder -> text. ``alerts`` is a rules file; ``dashboards`` are Grafana's, by
    name. Raises UserError."""
    check(options)
    kind = "cuda" if options.cuda else "cpu"
    made = {
        "compose.yaml": yaml_text(stack(options)),
        "Dockerfile": dockerfile(kind),
        "prometheus/prometheus.yml": yaml_text(_prometheus_config()),
        "prometheus/rules.yml": alerts,
        "grafana/provisioning/datasources/prometheus.yaml": yaml_text(_data_source()),
        "grafana/provisioning/dashboards/rvtop.yaml": yaml_text(_provider()),
        ".dockerignore": "*\n!wheels/*.whl\n" + "".join(f"!{name}\n" for name in (LOCK, OVERRIDES)),
        ".gitignore": "secrets/\nwheels/\n",
        "README.md": _readme(kind),
    }
    if kind == "cpu":
        made |= {LOCK: lock(), OVERRIDES: overrides()}
    return made | {f"grafana/dashboards/{name}": text for name, text in dashboards.items()}


def stack(options: Options) -> dict[str, Any]:
    """The compose file."""
    services = {
        "head": _head(options),
        "worker": _worker(options),
        "router": _router(options),
        "prometheus": _prometheus(),
        "grafana": _grafana(),
        "rvtop": _rvtop(options),
    }
    return {
        "name": "rvtop",
        "services": services,
        # Only what publishes a port, at the loopback address, is reached from outside.
        "networks": {"serving": {}},
        "volumes": {"ray-head": {}, "prometheus": {}, "grafana": {}, "results": {}},
        "secrets": {name: {"file": f"./secrets/{name}"} for name in SECRETS},
    }


def _ours(options: Options, *secrets: str) -> Service:
    """What each container of our image has."""
    kind = "cuda" if options.cuda else "cpu"
    volumes = [] if options.models is None else [f"{options.models}:/mnt/shared/models:ro"]
    return {
        "image": images.ours(kind),
        "build": {"context": "."},
        "init": True,
        "restart": "unless-stopped",
        "networks": ["serving"],
        "secrets": list(secrets),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "shm_size": "1gb",
        "environment": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray-token"},
        **({"volumes": volumes} if volumes else {}),
    }


def _head(options: Options) -> Service:
    made = _ours(options, "ray-token")
    made["command"] = [
        *("ray", "start", "--head", "--port=6379", "--num-cpus=0", "--num-gpus=0", "--block"),
        *("--dashboard-host=0.0.0.0", "--metrics-export-port=8080", "--disable-usage-stats"),
    ]
    made["volumes"] = [*made.get("volumes", []), "ray-head:/tmp/ray"]
    made["healthcheck"] = {
        "test": ["CMD", "ray", "health-check", "--address=127.0.0.1:6379"],
        "interval": "5s",
        "timeout": "10s",
        "retries": 12,
        "start_period": "30s",
    }
    return made


def _worker(options: Options) -> Service:
    made = _ours(options, "ray-token")
    gpus = ["--num-gpus=1"] if options.cuda else []
    made["command"] = [
        *("ray", "start", "--address=head:6379", f"--num-cpus={options.cpus}", *gpus, "--block"),
        *("--metrics-export-port=8080", "--disable-usage-stats"),
    ]
    made["depends_on"] = {"head": {"condition": "service_healthy"}}
    made["deploy"] = {"replicas": options.workers}
    if options.cuda:
        device = {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
        made["deploy"]["resources"] = {"reservations": {"devices": [device]}}
    made["environment"] |= _offline(options)
    return made


def _router(options: Options) -> Service:
    """A driver needs a node of Ray's beside it: one without cores, in the same container."""
    made = _ours(options, "ray-token", "api-key")
    node = (
        "ray start --address=head:6379 --num-cpus=0 --num-gpus=0 --metrics-export-port=8080 "
        "--disable-usage-stats"
    )
    front = (
        "rvtop up rvc --foreground --host 0.0.0.0 --port 8000 --ray-address head:6379 "
        f'--model "$$MODEL_ID" --num-replicas {options.workers} --api-key-file /run/secrets/api-key'
    )
    made["command"] = ["sh", "-c", f"{node} && exec {front}"]
    made["depends_on"] = {
        "head": {"condition": "service_healthy"},
        "worker": {"condition": "service_started"},
    }
    made["environment"] |= {"MODEL_ID": f"{options.model}={options.source}", **_offline(options)}
    made["ports"] = ["127.0.0.1:8000:8000"]
    code = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"
    made["healthcheck"] = {
        "test": ["CMD", "python", "-c", code],
        "interval": "5s",
        "timeout": "5s",
        "retries": 3,
        "start_period": "30m",
    }
    return made


def _offline(options: Options) -> dict[str, str]:
    return {} if options.models is None else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def _rvtop(options: Options) -> Service:
    """Watches the router; browsers see it at the address that its log has, with a token of the session."""
    made = _ours(options, "api-key")
    watch = (
        "RVTOP_API_KEY=$$(cat /run/secrets/api-key) exec rvtop attach http://router:8000 --yes --ui plain "
        f"--serve-on 0.0.0.0:8090 --metrics-port 0.0.0.0:{_CLIENT_PORT} --out /results/watch-$$(date +%s)"
    )
    made["command"] = ["sh", "-c", watch]
    made["environment"] = {}
    made["depends_on"] = {"router": {"condition": "service_healthy"}}
    made["ports"] = ["127.0.0.1:8090:8090"]
    made["volumes"] = ["results:/results"]
    return made


def _prometheus() -> Service:
    return {
        "image": images.PROMETHEUS,
        "restart": "unless-stopped",
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=7d",
            "--web.listen-address=0.0.0.0:9090",
        ],
        "networks": ["serving"],
        "ports": ["127.0.0.1:9090:9090"],
        "secrets": ["api-key"],
        "volumes": ["./prometheus:/etc/prometheus:ro", "ray-head:/tmp/ray:ro", "prometheus:/prometheus"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _grafana() -> Service:
    return {
        "image": images.GRAFANA,
        "restart": "unless-stopped",
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana-password",
            "GF_AUTH_ANONYMOUS_ENABLED": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
        },
        "networks": ["serving"],
        "ports": ["127.0.0.1:3000:3000"],
        "secrets": ["grafana-password"],
        "volumes": [
            "./grafana/provisioning:/etc/grafana/provisioning:ro",
            "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
            "grafana:/var/lib/grafana",
        ],
        "depends_on": {"prometheus": {"condition": "service_started"}},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _prometheus_config() -> dict[str, Any]:
    key = {"type": "Bearer", "credentials_file": "/run/secrets/api-key"}
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            # Ray's head lists its nodes, so workers that come later are there too. The file is a link to one
            # in /tmp/ray, so here too it has to be there.
            {
                "job_name": "ray",
                "file_sd_configs": [{"files": [f"/tmp/ray/{_NODES}"], "refresh_interval": "10s"}],
            },
            {
                "job_name": "rvtop-router",
                "authorization": key,
                "static_configs": [{"targets": ["router:8000"]}],
            },
            {"job_name": "rvtop-client", "static_configs": [{"targets": [f"rvtop:{_CLIENT_PORT}"]}]},
            {"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"]}]},
        ],
    }


def _data_source() -> dict[str, Any]:
    source = {"name": "Prometheus", "type": "prometheus", "access": "proxy", "url": "http://prometheus:9090"}
    return {"apiVersion": 1, "datasources": [{**source, "isDefault": True}]}


def _provider() -> dict[str, Any]:
    options = {"path": "/var/lib/grafana/dashboards"}
    return {"apiVersion": 1, "providers": [{"name": "rvtop", "type": "file", "options": options}]}


def _readme(kind: str) -> str:
    made = "\n".join(f"openssl rand -hex 32 > secrets/{name}    # {use}" for name, use in SECRETS.items())
    return f"""\
# rvtop, Ray and vLLM in containers ({kind})

Made by `rvtop deploy compose`; docs/kubernetes.md of rvtop says what each part is for.

```
mkdir -p secrets wheels
{made}
chmod 755 secrets && chmod 444 secrets/*    # containers read them as other users; keep this folder your own
cp /path/to/rvtop-*.whl wheels/    # python -m build --wheel
docker compose up --build --wait router
docker compose logs rvtop | grep token=    # the address for the browser (say 127.0.0.1 for 0.0.0.0)
```

The API is at http://127.0.0.1:8000, Prometheus at :9090, Grafana at :3000 (admin and
secrets/grafana-password), rvtop at :8090; all at the loopback address. Ray's dashboard and job port are
published nowhere: `docker compose exec head ray status`.
"""
