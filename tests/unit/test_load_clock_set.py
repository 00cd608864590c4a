"""A wall clock that is set while an answer is on its way dates nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rvtop.load.native.loader import native
from tests.mock.process import MockError
from tests.mock.wall_clock import wall_clock

#: Prints how long after its writing a token is dated, with the clock set by the sign and the number given.
_SCRIPT = """
import os, sys, time
from tests.unit.poller_bench import Bench
bench = Bench()
for _ in range(40):  # the kernel begins to stamp some time after the first socket has asked for it
    bench.add(tcp=True)
    time.sleep(0.005)
bench.poller.poll(0)
bench.expect_tokens(0)
time.sleep(0.2)
written = time.perf_counter_ns()
bench.servers[0].sendall(b"x")
open(os.environ["RVTOP_STEP"], "w").write(sys.argv[1] * 3600)
bench.poller.poll(0)
print(bench.conns[0].read_ns - written, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not native(), reason="the read path in C was not built here")
@pytest.mark.parametrize("sign", ["+", "-"])
def test_an_arrival_is_not_dated_by_a_clock_that_was_set_meanwhile(sign: str, tmp_path: Path) -> None:
    try:
        env, _ = wall_clock(tmp_path)
    except MockError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, sign],
        env={**os.environ, **env, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > -5_000_000  # 0.2 s before would be when the poller had looked last
