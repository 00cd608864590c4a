"""Ray's own autoscaler over fake nodes (`nodes_with_memory`) and an autoscaled run of rsc on it. Runs as
process 1 of namespaces of its own (user, process, network), so that nothing of it meets another Ray, and all
of it ends with it; prints the run's events as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GIB = 2**30
PORT = 6379
FIELDS = "min=1,max=2,initial=1,target=4,up=2,down=5,look_back=5"
# A replica takes most of a node's memory: the second one needs another node.
MEMORY_GIB = 1
NODE = {"CPU": 1, "memory": int(1.5 * GIB), "object_store_memory": 80 * 2**20}
LIMIT_S = 900
#: What `ray.cluster_utils.AutoscalingCluster` makes; the file that it reads is not in Ray's wheel.
CONFIG = {
    "cluster_name": "fake",
    "max_workers": 1,
    "provider": {
        "type": "external",
        "module": "tests.backends.nodes_with_memory.NodesWithMemory",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": NODE, "node_config": {}, "min_workers": 0, "max_workers": 1},
    },
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.2,
    "auth": {},
    "docker": {},
    **{key: [] for key in ("initialization_commands", "setup_commands", "rsync_exclude", "rsync_filter")},
    **{key: [] for key in ("head_setup_commands", "worker_setup_commands", "cluster_synced_files")},
    **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands")},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
}


def main(out: Path) -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    config = out / "autoscaler.json"
    config.write_text(json.dumps(CONFIG))
    environ = {
        **os.environ,
        "RAY_FAKE_CLUSTER": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    start = [
        *(
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            f"--port={PORT}",
            f"--autoscaling-config={config}",
            "--num-cpus=2",
        ),
        *(f"--memory={NODE['memory']}", f"--object-store-memory={NODE['object_store_memory']}"),
        *("--include-dashboard=false", "--node-ip-address=127.0.0.1"),
    ]
    subprocess.run(start, env=environ, check=True, stdout=sys.stderr, timeout=120)
    run = [
        *(sys.executable, "-P", "-m", "rvtop.cli", "run", "autoscale", "--topology", "rsc"),
        *("--model", "tiny=tiny", "--autoscale", FIELDS, "--ray-address", f"127.0.0.1:{PORT}"),
        *("--backend-options", f"--serve-memory {MEMORY_GIB}", "--out", str(out / "run")),
    ]
    done = subprocess.run(run, env=environ, stdout=sys.stderr, timeout=LIMIT_S)
    events = (out / "run" / "events.jsonl").read_text().splitlines()
    print(json.dumps([json.loads(line)["text"] for line in events]))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
