"""A server's own spans stand in the traces of the requests that rvtop sent, whichever front vLLM has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.conftest import Launch
from tests.unit.collector import collector
from tests.unit.processes import wait_for

#: vLLM sends by gRPC unless told; and every five seconds.
SENDING = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "500"}


@pytest.mark.parametrize("topology", ["rvc", "rsv", "vllm"])
def test_the_engines_span_is_a_child_of_ours(
    launch: Launch, tiny_model: Path, tmp_path: Path, topology: str
) -> None:
    with collector() as at:
        backend = launch(
            *(topology, "--lease", "--model", f"tiny={tiny_model}", "--threads", "1"),
            *("--engine-arg", f"otlp-traces-endpoint={at.url}/v1/traces"),
            env=SENDING,
        )
        load = ["--rate", "4", "--duration", "3s", "--prompt-tokens", "20", "--output-tokens", "5"]
        subprocess.run(
            [
                *(sys.executable, "-m", "rvtop.cli", "run", "--target", backend.url, *load),
                *("--ui", "none", "--out", str(tmp_path / "run"), "--otlp", at.url),
            ],
            check=True,
            timeout=300,
        )
        rows = [json.loads(one) for one in (tmp_path / "run" / "requests.jsonl").read_text().splitlines()]
        assert len(rows) > 5

        def engines() -> dict[bytes, bytes]:
            return {one.trace_id: one.parent_span_id for one in at.spans if one.name == "llm_request"}

        ours = {one.trace_id: one.span_id for one in at.spans if one.name == "chat tiny"}
        assert len(ours) == len(rows)
        wait_for(lambda: ours.items() <= engines().items(), "the engine's spans")
