"""``python -m tests.sweeper OUT URL``: a sweep of real sessions on a server that is up, in no topology.

With a further argument N the N-th session of it takes ten minutes, so that it can be ended in the middle."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from rvtop.plain import run_plain
from rvtop.scenario.schema import Scenario
from rvtop.session.request import Outcome, SessionRequest, topology_options
from rvtop.study.sweep import SweepPlan, SweepRun, combinations
from rvtop.study.turns import run_turns


def scenario(duration: str) -> Scenario:
    told: dict[str, Any] = {
        "name": "short",
        "seed": 3,
        "workload": {"kind": "synthetic", "prompt_tokens": 8, "output_tokens": 4, "count": 8},
        "phases": [{"name": "hold", "rate": 10, "duration": duration, "drain": "60s"}],
    }
    return Scenario.model_validate(told)


def main(out: Path, url: str, long_one: int) -> int:
    short = scenario("2s")
    backend = topology_options("rvc", models=(), port=0, arguments=())
    plan = SweepPlan("rvc", combinations(["max_num_seqs=64,256"]), seed=1, work=short.model_dump_json())
    sweep = SweepRun(SessionRequest(short, out, backend=backend), plan)
    print(f"{sweep.resumed} done", flush=True)
    numbers = count(1)

    def run(asked: SessionRequest) -> Outcome:
        work = scenario("10m") if next(numbers) == long_one else short
        return run_plain(replace(asked, scenario=work, backend=None, url=url), quiet=True)

    return run_turns(sweep, run, lambda text: print(text, flush=True))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0))
