"""Inside namespaces: the services of a compose file, each in a network namespace of its own with the name
that the others call it by, and run by its own command.

    python -m tests.deploy.stack FOLDER REQUESTS

FOLDER has what `rvtop deploy compose` wrote, and ``secrets``. Images are not used: programs are those of this
machine, volumes and secrets are bound where the file says, /tmp is a service's own. Grafana, which no package
has, is left out. The last line of stdout is JSON: Prometheus' targets and the codes of requests to the
router.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.in_namespace import loopback_up

LEFT_OUT = "grafana"
NETWORK = "10.99.0."
LIMIT_S = 900.0
_ORDER = ("head", "worker", "router", "prometheus", "rvtop")
_PROGRAMS = {"prometheus": ["prometheus"]}  # the entry points of foreign images


def main() -> None:
    folder, requests = Path(sys.argv[1]).absolute(), int(sys.argv[2])
    stack = yaml.safe_load((folder / "compose.yaml").read_text())
    services = {name: stack["services"][name] for name in _ORDER}
    assert set(stack["services"]) == {*services, LEFT_OUT}
    addresses = {name: f"{NETWORK}{number}" for number, name in enumerate(services, 10)}
    _network(addresses, folder)
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            _healthy(name, other, stack["services"][other], addresses)
        _start(folder, name, service)
    key = (folder / "secrets" / "api-key").read_text().strip()
    router = f"http://{addresses['router']}:8000"
    model = services["router"]["environment"]["MODEL_ID"].partition("=")[0]
    codes = Counter(_ask(router, model, key) for _ in range(requests))
    up = _targets(f"http://{addresses['prometheus']}:9090")
    print(json.dumps({"codes": codes, "without key": _ask(router, model, ""), "targets": up}))


def _network(addresses: dict[str, str], folder: Path) -> None:
    """A bridge, and for each service a namespace on it; names are in /etc/hosts, which all share."""
    loopback_up()
    _run("mount -t tmpfs tmpfs /run")
    _run(f"ip link add br0 type bridge && ip addr add {NETWORK}1/24 dev br0 && ip link set br0 up")
    for name, address in addresses.items():
        _run(
            f"ip netns add {name} && ip link add v-{name} type veth peer name eth0 netns {name} && "
            f"ip link set v-{name} master br0 up && ip -n {name} link set lo up && "
            f"ip -n {name} addr add {address}/24 dev eth0 && ip -n {name} link set eth0 up && "
            # As Docker's networks have it: Ray takes the address from which it would go out.
            f"ip -n {name} route add default via {NETWORK}1"
        )
    hosts = folder / "hosts"
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    hosts.write_text("\n".join(lines) + "\n")
    _run(f"mount --bind {hosts} /etc/hosts")
    # Ray asks DNS beside /etc/hosts; Docker's answers at once, this machine's is not reached from in here.
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    _run(f"mount --bind {resolver} /etc/resolv.conf")


def _start(folder: Path, name: str, service: dict[str, Any]) -> None:
    """A service's command where its file says, its output in FOLDER/NAME.log."""
    own = folder / "volumes" / f"tmp-{name}"
    binds = [(own, "/tmp")]
    for secret in service.get("secrets", ()):
        binds.append((folder / "secrets" / secret, f"/run/secrets/{secret}"))
    for volume in service.get("volumes", ()):
        source, target = volume.split(":")[:2]
        at = folder / source if source.startswith(".") else Path(source)
        binds.append((at if at.is_absolute() else folder / "volumes" / source, target))
    # Places for what is bound; those beside them, at the root, the test makes.
    script = ["mount -t tmpfs tmpfs /run", "mkdir -p /run/secrets", "mount -t tmpfs tmpfs /mnt"]
    for source, target in binds:
        if source.suffix == "" and not source.is_file():
            source.mkdir(parents=True, exist_ok=True)
        made = f"mkdir -p {target}" if source.is_dir() else f"touch {target}"
        script.append(f"{made} && mount --bind {source} {target}")
    words = [*_PROGRAMS.get(name, []), *service["command"]]
    script.append("exec " + shlex.join(word.replace("$$", "$") for word in words))
    environment = {
        **{
            one: os.environ[one]
            for one in ("PATH", "LD_LIBRARY_PATH", "RVTOP_CACHE", "LC_ALL")
            if one in os.environ
        },
        "HOME": "/tmp",
        "PYTHONPATH": os.getcwd(),
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "RAY_raylet_start_wait_time_s": "120",
        **service.get("environment", {}),
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with (folder / f"{name}.log").open("wb") as log:
        subprocess.Popen(
            [
                *("ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--fork", "--mount-proc"),
                *("sh", "-ec", "\n".join(script)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )


def _healthy(of: str, name: str, service: dict[str, Any], addresses: dict[str, str]) -> None:
    """Waits for a service's health check, run in its own network."""
    check = service.get("healthcheck")
    if check is None:
        return
    words = check["test"]
    assert words[0] == "CMD"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    token = Path(sys.argv[1], "secrets", "ray-token")
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token.absolute())}
    began = time.monotonic()
    while subprocess.run(
        ["ip", "netns", "exec", name, *words[1:]], env=environment, capture_output=True, check=False
    ).returncode:
        if time.monotonic() - began > LIMIT_S:
            raise SystemExit(f"{of} waits for {name}, which is not healthy")
        time.sleep(1)


def _ask(router: str, model: str, key: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{router}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _targets(prometheus: str) -> dict[str, list[str]]:
    """Job -> health of each of its targets, once none of them is unknown or down, or after a while."""
    began = time.monotonic()
    while True:
        found: dict[str, list[str]] = {}
        try:
            with urllib.request.urlopen(f"{prometheus}/api/v1/targets", timeout=10) as answer:
                for target in json.loads(answer.read())["data"]["activeTargets"]:
                    found.setdefault(target["labels"]["job"], []).append(target["health"])
        except OSError:
            pass
        jobs = len(found) == 4 and len(found.get("ray", ())) >= 3
        if time.monotonic() - began > 120 or (
            jobs and {"up"} == {one for job in found.values() for one in job}
        ):
            return found
        time.sleep(2)


def _run(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
