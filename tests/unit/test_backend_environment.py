"""What of the head's environment reaches engines on other nodes, and what must not be public."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.cluster import cluster
from backends.errors import StartFailure
from backends.settings import environment
from backends.settings.vllm import OUR_ENV

EXPERIMENT = {
    "HF_HOME": "/mnt/shared/hf",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "RVTOP_CACHE": "/mnt/shared/cache",
    "VLLM_ATTENTION_BACKEND": "FLASH_ATTN",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
}
SECRETS = {"HF_TOKEN": "s1", "VLLM_API_KEY": "s2", "OTEL_EXPORTER_OTLP_HEADERS": "api=s4"}
OTHERS = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "s3", "VLLM_QUANT": "fp8"}


def test_engines_hear_what_the_experiment_says_and_secrets_only_in_their_own_arguments() -> None:
    environ = {**EXPERIMENT, **SECRETS, **OTHERS}
    assert "VLLM_QUANT" in OUR_ENV
    assert environment.carried(environ) == EXPERIMENT | SECRETS
    assert environment.public(environ) == EXPERIMENT


def test_a_job_on_someones_cluster_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def init(address: str, **settings: Any) -> dict[str, Any]:
        asked.update(settings)
        return {"gcs_address": address}

    monkeypatch.setattr(cluster, "_init", init)
    for name in environment.carried():
        monkeypatch.delenv(name)
    for name, value in {**EXPERIMENT, **SECRETS, **OTHERS}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "5")
    cluster._attach("auto")
    assert asked["runtime_env"]["env_vars"] == EXPERIMENT


def test_a_cluster_of_ours_that_is_not_up_in_time_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    def init(address: str, **settings: Any) -> dict[str, Any]:
        folders.append(Path(settings["_temp_dir"]))
        if len(folders) < 3:
            raise cluster._NotUpInTime("Ray: The current node timed out during startup.")
        return {"gcs_address": address}

    monkeypatch.setattr(cluster, "_init", init)
    started = cluster._start(None)
    try:
        assert [folder.exists() for folder in folders] == [False, False, True]
    finally:
        assert started._folder is not None
        started._folder.close()
    folders.clear()
    monkeypatch.setattr(cluster, "_STARTS", 2)
    with pytest.raises(StartFailure, match="timed out during startup"):
        cluster._start(None)
    assert [folder.exists() for folder in folders] == [False, False]
