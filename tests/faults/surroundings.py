"""Runs tests in the worst surroundings that a user's machine may offer (Linux, as root; `make soak`):

    python -m tests.faults.surroundings [--ray running|stopped|none] [--user nobody] [PYTEST ARGUMENTS]

A copy of this tree below a path with a space in it; a Ray cluster with another Serve application, running or
stopped, and the folder of one that is long over; ports 6379, 8000 and 8265 taken; a ``/mnt/shared`` of the
experiment's layout with nothing usable in it; ``HOME`` and ``XDG_*`` with a user's files; a GPU (a stub of
NVML) and an ``nvidia-smi``; a proxy, ``RVTOP_*``, ``VLLM_*``, ``HF_*`` and ``RAY_ADDRESS`` set; no terminal,
LANG=C, umask 077, another working folder. All of it in namespaces of its own: the machine sees none of it.
Without arguments for pytest the light part of the suite runs. The exit code is pytest's.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIGHT = ("tests/unit", "tests/property", "tests/ui")
PORTS = (6379, 8000, 8265)
MODELS = ("ko-sroberta-multitask", "qwen25_3b", "qwen25_1_5b_instruct")
DISCOVERY = "prom_metrics_service_discovery.json"
START_LIMIT_S = 240.0

#: Files of a user, below HOME: name and content.
HOME_FILES = {
    ".netrc": "machine 127.0.0.1 login me password hidden\nmachine localhost login me password hidden\n",
    ".config/rvtop/config.toml": "= this is no TOML\n",
    ".config/pip/pip.conf": "[global]\nindex-url = http://127.0.0.1:9/simple\n",
    ".config/vllm/nothing": "",
    ".cache/rvtop/models/tiny/config.json": "{}",
    ".cache/rvtop/mock/mock": "",
    ".cache/huggingface/token": "hf_none",
    ".local/state/rvtop/deployments/old/state.json": "{",
    ".ray/auth_token": "0" * 64,
    ".pythonrc": "raise SystemExit('a start-up file of Python ran')\n",
    ".haproxy": "",
}

OWNER = """
import sys, ray
from ray import serve

ray.init(address="127.0.0.1:6379", log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": 8000})


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Theirs:
    def __call__(self, request):
        return {"models": "none"}


serve.run(Theirs.bind(), name="theirs", route_prefix="/")
print("up", flush=True)
sys.stdin.read()
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ray", choices=("running", "stopped", "none"), default="running")
    parser.add_argument("--user", help="run pytest as this user, by default as root")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options, tests = parser.parse_known_args()
    if options.inside is not None:
        return inside(options.inside, options.ray, options.user, tests or ["-q", *LIGHT])
    Path("/tmp/ray").mkdir(exist_ok=True)  # something to mount on
    with tempfile.TemporaryDirectory(prefix="rvs-", dir="/tmp") as base:
        os.chmod(base, 0o755)
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        apart += ["bash", "-c", '"$@"; exit $?', "init"]  # reaps orphans, as an init does
        again = [sys.executable, "-m", "tests.faults.surroundings", f"--inside={base}", *sys.argv[1:]]
        return subprocess.run([*apart, *again], cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode


def inside(base: Path, ray: str, user: str | None, tests: list[str]) -> int:
    """In the namespaces: ends, with all that it started, when it returns (its process is their init)."""
    lo_up()
    for name in ("lib", "bin", "elsewhere", "ray"):
        (base / name).mkdir()
    (base / "ray").chmod(0o777)
    mount(base / "ray", Path("/tmp/ray"))
    (base / "mnt/shared/faiss_index").mkdir(parents=True)
    for name in MODELS:
        (base / "mnt/shared/models" / name).mkdir(parents=True)
    mount(base / "mnt", Path("/mnt"))
    python = copied(base)
    nvml(base)
    env = environment(base)
    leftover()
    if ray != "none":
        cluster(base, stop=ray == "stopped")
    squat()
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={base / 'a b' / 'rvtop'}"]
    command += [str(base / "a b" / "rvtop" / test) if test.startswith("tests") else test for test in tests]
    if user is not None:
        shutil.chown(base / "home", user)
        for path in [*(base / "home").rglob("*"), *(base / "a b").rglob("*"), base / "a b"]:
            shutil.chown(path, user) if not path.is_symlink() else None
        command = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={pwd.getpwnam(user).pw_gid}",
            "--clear-groups",
            *command,
        ]
    print(f"surroundings: {' '.join(command)}", flush=True)
    return subprocess.run(
        command, env=env, cwd=base / "elsewhere", umask=0o077, stdin=subprocess.DEVNULL, check=False
    ).returncode


def lo_up() -> None:
    """A network namespace begins with its loopback down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up_and_running = 0x1 | 0x40
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", up_and_running))


def mount(what: Path, where: Path) -> None:
    subprocess.run(["mount", "--bind", str(what), str(where)], check=True)


def copied(base: Path) -> Path:
    """A copy of the tree and a venv in it, below a path with a space, that everybody may read; its Python."""
    (base / "python").mkdir()
    mount(Path(sys.base_prefix), base / "python")  # it may lie in a home that is closed to others
    tree = base / "a b" / "rvtop"
    ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "runs")
    shutil.copytree(ROOT, tree, ignore=ignored)
    original = base / "python" / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    subprocess.run([original, "-m", "venv", "--without-pip", str(tree / ".venv")], check=True)
    (site,) = (tree / ".venv").glob("lib/python3*/site-packages")
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "copied.pth").write_text("\n".join([str(tree), *packages]) + "\n")
    return tree / ".venv" / "bin" / "python"


def nvml(base: Path) -> None:
    stub = Path(__file__).with_name("nvml_stub.c")
    library = base / "lib" / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(stub), "-lm"], check=True)
    ctypes.CDLL(str(library)).nvmlInit_v2()
    smi = base / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-0)'\n")
    smi.chmod(0o755)


def environment(base: Path) -> dict[str, str]:
    """Of a user who has set everything."""
    home = base / "home"
    for name, text in HOME_FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    proxies = {
        name: "http://127.0.0.1:9"
        for proxy in ("http_proxy", "https_proxy", "all_proxy")
        for name in (proxy, proxy.upper())
    }
    temp = base / "a long and winding folder for temporary files" / ("of a job " * 4).strip()
    temp.mkdir(parents=True)
    for path in (temp, temp.parent):
        path.chmod(0o777)
    return {
        "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{base / 'lib'}:{base / 'python' / 'lib'}",  # the Python's own library too
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "XDG_RUNTIME_DIR": str(home),
        "PYTHONSTARTUP": str(home / ".pythonrc"),
        "TMPDIR": str(temp),
        "LANG": "C",
        "NO_COLOR": "1",
        "COLUMNS": "20",
        "LINES": "5",
        "TZ": "Asia/Kathmandu",
        "RVTOP_API_KEY": "a-key-of-the-user",
        "RVTOP_CACHE": str(home / ".cache/rvtop"),
        "RVTOP_THEME": "light",
        "RVTOP_PURE_READS": "1",
        "RVTOP_RAY_FOLDER": str(base),
        "VLLM_MAX_MODEL_LEN": "16",
        "VLLM_GPU_MEM_UTIL": "7",
        "VLLM_KV_CACHE_DTYPE": "none",
        "VLLM_QUANT": "none",
        "VLLM_PORT": "8000",
        "VLLM_TARGET_DEVICE": "cuda",
        "VLLM_USE_RUST_FRONTEND": "1",
        "RAY_ADDRESS": "127.0.0.1:6379",
        "RAY_AUTH_MODE": "token",
        "RAY_TMPDIR": "/tmp/ray",
        "HF_HOME": str(home / ".cache/huggingface"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_TOKEN": "hf_none",
        "CUDA_VISIBLE_DEVICES": "0",
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
        **proxies,
    }


def cluster(base: Path, *, stop: bool) -> None:
    """A cluster in Ray's own place, with its dashboard, token authentication off, and Serve on port 8000."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(base),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["start", "--head", "--port=6379", "--dashboard-port=8265", "--num-cpus=2", "--num-gpus=0"]
    start += ["--object-store-memory=100000000", "--disable-usage-stats"]
    log = (base / "cluster.log").open("wb")
    subprocess.run([*ray, *start], env=env, check=True, stdout=log, stderr=log, timeout=START_LIMIT_S)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
    )
    assert owner.stdout is not None
    giving_up = threading.Timer(START_LIMIT_S, owner.kill)
    giving_up.start()
    if b"up" not in iter(lambda: owner.stdout.readline().strip(), b""):  # type: ignore[union-attr]
        raise SystemExit((base / "cluster.log").read_text("utf-8", "replace")[-3000:])
    giving_up.cancel()
    if stop:
        owner.kill()
        subprocess.run([*ray, "stop", "--force"], env=env, check=True, stdout=log, stderr=log)
    left = sorted(path.name for path in Path("/tmp/ray").iterdir())
    print(
        f"surroundings: Ray {'was stopped' if stop else 'runs'}; /tmp/ray has {', '.join(left)}", flush=True
    )


def leftover() -> None:
    """What a cluster of last week left behind, its address included."""
    session = Path("/tmp/ray/session_2026-01-01_00-00-00_000000_1")
    (session / "sockets").mkdir(parents=True)
    for name in ("raylet", "plasma_store"):
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(session / "sockets" / name))
    (session / DISCOVERY).write_text('[{"labels": {"job": "ray"}, "targets": ["127.0.0.1:8265"]}]')
    Path("/tmp/ray/session_latest").symlink_to(session)
    Path("/tmp/ray", DISCOVERY).symlink_to(session / DISCOVERY)
    Path("/tmp/ray/ray_current_cluster").write_text("127.0.0.1:6379")


def squat() -> None:
    """Something listens on each of the well-known ports."""
    for port in PORTS:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:  # the cluster has it
            listener.close()
            continue
        listener.listen()
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()


def _answer(listener: socket.socket) -> None:
    while True:
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"-ERR this is another program\r\n")


if __name__ == "__main__":
    sys.exit(main())
