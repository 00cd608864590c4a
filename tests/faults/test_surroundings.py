"""The light part of the suite passes beside whatever else runs, ran or is configured on a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.environment import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("cc") is None,
    reason="namespaces want root and `unshare`, the stub of NVML a C compiler",
)
@pytest.mark.parametrize("more", ["--ray=running", "--ray=stopped", "--ray=none --user=nobody"])
def test_the_light_suite_in_the_worst_surroundings(more: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.surroundings", *more.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-20000:] + ended.stderr[-2000:]
