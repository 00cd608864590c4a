"""A Ray cluster that is not ours: two nodes on this machine, with token authentication, and an application of
its owner on Ray Serve. Runs in a process of its own, which other processes of a test attach to.

    python -m tests.backends.someones_cluster PORT HEAD_CPUS APART [HEAD_IP]

Commands on stdin, one a line: ``kill [NODE]`` (the newest worker node, or that one, dies), ``add`` (another
one joins), ``serve`` (starts Serve with the owner's application), ``status``, ``kill-gcs`` and ``start-gcs``
(the head's; with ``RAY_REDIS_ADDRESS`` it has its state in Redis), ``drain SECONDS NODE`` (a worker node is
announced to go), ``wait COUNT`` (until so many nodes are there), ``stop`` and
``cont`` (the newest worker's raylet is suspended); each is answered by one
JSON line. It all ends with stdin. With HEAD_IP the head has that address, and no worker: those are started
elsewhere. With APART 1 each worker has a loopback address of its own: drivers attach to any node of their
address, and end with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

ANSWER_LIMIT_S = 120.0
CPUS = 2
#: A driver waits 30 s for its node otherwise. (The 30 s which Ray gives the node itself are fixed.)
NODE_START = {"RAY_raylet_start_wait_time_s": "60"}
START_TRIES = 3


class SomeonesCluster:
    """The test's end."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        head_cpus: int = CPUS,
        env: Mapping[str, str] | None = None,
        token: str | None = None,
        head_ip: str = "",
        apart: bool = False,
    ) -> None:
        """``port`` of the head's GCS (0: a free one) and ``token`` are those of a cluster before, where it is
        to take its place."""
        self.token_file = folder / "token"
        self.token_file.write_text(token or secrets.token_hex(32))
        self.token_file.chmod(0o600)
        self.log = folder / "cluster.log"
        words = [str(port), str(head_cpus), str(int(apart)), head_ip]
        with self.log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.backends.someones_cluster", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **NODE_START, **self.auth, **(env or {})},
                text=True,
            )
        started = self._answer()
        self.address = started["address"]
        self._folder = started["folder"]

    @property
    def env(self) -> dict[str, str]:
        """What who attaches needs; with ``auto`` also where its address is written down."""
        return {**self.auth, "RAY_TMPDIR": self._folder}

    @property
    def auth(self) -> dict[str, str]:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        """Ends all of it at once, as a head node that is lost with all that runs there."""
        self._process.kill()
        self._process.wait(60)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        return dict(json.loads(line))


def started(folders: pytest.TempPathFactory) -> SomeonesCluster:
    """A cluster. On a busy machine Ray's own start of one fails now and then, which is not what we test:
    it is tried ``START_TRIES`` times, and the last failure is raised with the end of its log."""
    for _ in range(START_TRIES - 1):
        with contextlib.suppress(AssertionError):
            return SomeonesCluster(folders.mktemp("theirs"))
    return SomeonesCluster(folders.mktemp("theirs"))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever Ray prints is no answer

    from backends.process.scratch_dir import OwnedTempDir

    folder = OwnedTempDir("rvtop-theirs-")
    os.environ["RAY_TMPDIR"] = str(folder.path)
    os.environ.update(folder.env)  # whatever is left over carries it
    try:
        _host(answers)
    finally:
        folder.close()


def _host(answers: Any) -> None:
    import ray
    from ray.cluster_utils import Cluster

    quiet = {"enable_worker_prestart": False, "prestart_worker_first_driver": False}
    port, head_cpus, apart = (int(word) for word in sys.argv[1:4])
    ip = "".join(sys.argv[4:])
    addresses = (f"127.0.0.{number}" for number in range(2, 255))

    def add() -> Any:
        return cluster.add_node(**node, **({"node_ip_address": next(addresses)} if apart else {}))

    node = {"num_cpus": CPUS, "object_store_memory": 80 * 2**20}
    head = {**node, "num_cpus": head_cpus, "_system_config": quiet, "include_dashboard": False}
    if port:
        head["gcs_server_port"] = port
    if ip:
        head["node_ip_address"] = ip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workers = [] if ip else [add()]
    cluster.wait_for_nodes()
    ray.init(cluster.address, namespace="theirs", configure_logging=False, log_to_driver=False)
    print(json.dumps({"address": cluster.address, "folder": os.environ["RAY_TMPDIR"]}), file=answers)
    for command in map(str.strip, sys.stdin):
        answer: dict[str, Any] = {}
        words = command.split()
        if command.startswith("kill") and command != "kill-gcs":
            lost = next(node for node in workers if node.node_id in words) if words[1:] else workers[-1]
            workers.remove(lost)
            cluster.remove_node(lost, allow_graceful=False)
        elif command == "add":
            workers.append(add())
            cluster.wait_for_nodes()  # also until Ray has noticed that a killed one is dead
        elif command == "serve":
            answer = _serve()
        elif command.startswith("wait"):  # for so many nodes
            until = time.monotonic() + ANSWER_LIMIT_S
            while sum(row["Alive"] for row in ray.nodes()) < int(words[1]) and time.monotonic() < until:
                time.sleep(0.2)
        elif command == "kill-gcs":
            cluster.head_node.kill_gcs_server()
        elif command == "start-gcs":
            cluster.head_node.start_gcs_server()
        elif command.startswith("drain"):
            answer = _drain(cluster.address, words[2], int(words[1]))
        elif command in ("stop", "cont"):
            number = signal.SIGSTOP if command == "stop" else signal.SIGCONT
            for process in workers[-1].all_processes["raylet"]:
                os.kill(process.process.pid, number)
        elif command == "status":
            answer = _status()
        print(json.dumps(answer), file=answers)
    cluster.shutdown()


def _drain(address: str, node_id: str, seconds: int) -> dict[str, Any]:
    """What `ray drain-node` does, as a cloud's agent for spot machines would have it done."""
    words = ["--address", address, "--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    words += ["--reason-message", "spot", "--deadline-remaining-seconds", str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "drain-node", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return {"code": done.returncode, "said": done.stderr[-500:]}


def _serve() -> dict[str, Any]:
    import socket

    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")

    @serve.deployment(ray_actor_options={"num_cpus": 0})
    class Theirs:
        def __call__(self, request: Any) -> dict[str, int]:
            return {"pid": os.getpid()}

    serve.run(Theirs.bind(), name="theirs", route_prefix="/theirs")
    return {"url": f"http://127.0.0.1:{port}/theirs"}


def _status() -> dict[str, Any]:
    """Serve's applications, and the named actors of all namespaces."""
    import ray
    from ray import serve

    actors = sorted(actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True))
    # Asking Serve for its status would start it.
    apps = sorted(serve.status().applications) if "SERVE_CONTROLLER_ACTOR" in actors else []
    return {"actors": actors, "apps": apps}


if __name__ == "__main__":
    main()
