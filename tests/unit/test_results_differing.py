"""What differs between two sides but for their figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rvtop.contract.run_files import ENVIRONMENT
from rvtop.results.compare import SPAN, Side, compare
from rvtop.results.differing import differing_runs, differing_servers, server_facts_of

CONFIG = "model='tiny', max_num_seqs=8, speculative_config=None, compilation_config={'level': 0, 'x': [1]}"


def test_servers_that_tell_their_configuration() -> None:
    a = {"version": "0.29.0", "vllm_config": CONFIG, "vllm_env": {"VLLM_USE_V1": True}}
    b = {"version": "0.29.1", "vllm_config": CONFIG.replace("seqs=8", "seqs=16"), "vllm_env": {"NEW": 1}}
    assert differing_servers(a, b) == ["server: version 0.29.0 → 0.29.1", "server: max_num_seqs 8 → 16"]
    assert differing_servers(a, a) == ["servers: the same, as far as they tell"]
    assert differing_servers(a, {}) == ["servers: B does not tell its configuration"]
    long = differing_servers({"x": "\x1b[31m"}, {"x": "y" * 500})[0]
    assert "\x1b" not in long
    assert len(long) < 100


def test_runs_of_other_work_and_settings() -> None:
    a = Side("rvc", "runs/a", {}, work={SPAN: "all", "seed": "0"}, setting={"workers": "1"})
    b = replace(a, work={SPAN: "hold", "seed": "1"}, setting={"workers": "1", "models": "q3b"})
    assert differing_runs(compare(a, b)) == ["work: seed 0 → 1", "setting: models -- → q3b"]
    assert differing_runs(compare(a, a)) == ["work and settings: the same"]


@pytest.mark.parametrize("text", ["", "[]", '{"server": 3}', "{", "[" * 100_000])
def test_a_folder_that_does_not_tell(text: str, tmp_path: Path) -> None:
    assert server_facts_of(tmp_path) == {}
    (tmp_path / ENVIRONMENT).write_text(text)
    assert server_facts_of(tmp_path) == {}


def test_both_servers_of_live_pairs(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT).write_text(
        json.dumps({"server": {"version": "1"}, "server_b": {"version": "2"}})
    )
    told = [server_facts_of(tmp_path, key) for key in ("server", "server_b")]
    assert differing_servers(*told) == ["server: version 1 → 2"]
