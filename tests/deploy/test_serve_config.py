"""The Serve config in a RayService: taken out as it is, a Ray cluster without KubeRay serves by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import in_namespace, made

pytestmark = pytest.mark.slow
REQUESTS = 100


@pytest.mark.skipif(not in_namespace.possible(), reason="no namespaces of our own here")
@pytest.mark.parametrize("topology", ["rsc", "rsv"])
def test_the_serve_config_in_the_manifest_serves(topology: str, tiny_model: Path, tmp_path: Path) -> None:
    asked = made.options(
        topology, gpus=0, cpus="2", source=str(tiny_model), claim="weights", cluster=None, replicas=(1, 1)
    )
    text = made.one(made.objects(asked), "RayService")["spec"]["serveConfigV2"]
    config = tmp_path / "config.yaml"
    config.write_text(text)
    key = {"RVTOP_API_KEY": "a-key-of-the-test"} if topology == "rsc" else {}
    settings = {"MODEL_ID": asked.model_id, "VLLM_CPU_KVCACHE_SPACE": "1", **key}
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        done = subprocess.run(
            [
                *in_namespace.UNSHARE,
                *(sys.executable, "-m", "tests.deploy.serve_text", str(config), asked.model, str(REQUESTS)),
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **settings, "RAY_raylet_start_wait_time_s": "120"},
            timeout=1500,
        )
    assert done.returncode == 0, log.read_text()[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "codes": {"200": REQUESTS},
        "models": [asked.model],
        "without key": 401 if key else 200,
    }
