"""What ``rvtop export --format vllm-bench`` writes beside what vLLM's own client does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rvtop.results.export import vllm_bench
from tests.mock.fast import any_mock
from tests.unit.run_folder import command, make, phase, request

#: vLLM's program wants a distribution named vllm; the CPU build has another name.
_PROGRAM = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@pytest.mark.slow
def test_the_keys_are_those_of_vllms_own_client(tiny_model: Path, tmp_path: Path) -> None:
    rows = [request(0, "hold", 100, lag=0, first=50, last=90)]
    run = make(tmp_path / "run", rows, [phase("hold", 0.0, 1.0), command(1.5, "stop")], [])
    with any_mock(ttft_ms=5, step_ms=1, tokens=8) as mock:
        subprocess.run(
            [
                *(sys.executable, "-c", _PROGRAM, "--backend", "openai-chat", "--base-url", mock.url),
                *("--endpoint", "/v1/chat/completions", "--model", "mock", "--tokenizer", str(tiny_model)),
                *("--dataset-name", "random", "--random-input-len", "8", "--random-output-len", "8"),
                *("--num-prompts", "4", "--save-result", "--result-dir", str(tmp_path)),
                *("--result-filename", "theirs.json", "--goodput", "ttft:100"),
            ],
            check=True,
            timeout=500,
            stdout=subprocess.DEVNULL,
        )
    theirs = json.loads((tmp_path / "theirs.json").read_text("utf-8"))
    assert set(vllm_bench(run)) - set(theirs) == {"rvtop"}
    assert set(theirs) - set(vllm_bench(run)) == set()
