"""``rvtop choose --measure`` with both servers as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(3600)]
LIMIT_S = 3600


def test_every_cell_is_filled_and_the_other_model_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    pytest.importorskip("pyarrow")
    command = (sys.executable, "-P", "-m", "rvtop.cli", "choose", "--several-models", "--measure", "--json")
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    measured = [row["measured"] for row in told["rows"] if row["measured"]]
    assert len(measured) == 4
    assert not [cell for row in measured for cell in row.values() if "--" in cell]
    for topology in ("vllm", "rsv"):
        figures = told["figures"]["topologies"][topology]
        assert figures["other_sent"] > 0
        assert figures["other_failed"] == 0
        assert figures["overhead_bytes"] > 2**20
        folders = [tmp_path / "out" / name for name in figures["folders"]]
        assert all((folder / "summary.json").exists() for folder in folders)
