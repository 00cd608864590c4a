"""An engine of a batch that computes nothing, and the command that runs a batch with it: for tests.

    python -m tests.batch_engine engine HOW --work FILE …     # what rvtop starts in place of backends.batch
    python -m tests.batch_engine job FILE OUT [--resume]      # rvtop batch with it, every way

What it does is said by files beside the work file's folder, ``PLAN`` (JSON): ``places`` of its batch, ``die``
(after so many rows, in the first start), ``hang`` (the same, and no more lines), ``kind`` of error it starts
with, ``pause_s`` between rows, ``part`` (the one that dies or hangs; default each). Each key that it computes
is appended to ``COMPUTED``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rvtop.batch.job import Plan

PLAN, COMPUTED, STARTED = "engine.json", "computed.log", "started.log"


def tokens_for(row: dict[str, Any]) -> list[int]:
    """What it answers: as many tokens as are asked for, told by the row's key."""
    return [(row["key"] * 31 + place) % 997 for place in range(row["max_tokens"] or 1)]


def command(plan: Plan, how: str, work: Path, part: int) -> list[str]:
    """As ``rvtop.batch.job.engine_command``."""
    return [sys.executable, "-m", "tests.batch_engine", "engine", how, str(work), str(part)]


def engine(work: Path) -> None:
    """One start of it. Ends with its stdin."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    folder = work.parent
    plan = json.loads((folder / PLAN).read_text()) if (folder / PLAN).exists() else {}
    with (folder / STARTED).open("a") as file:
        file.write(f"{os.getpid()}\n")
    starts = len((folder / STARTED).read_text().splitlines())
    if kind := plan.get("kind"):
        say("error", kind=kind, message="the model is\x1b[31m not there")
        sys.exit(2 if kind == "usage" else 4)
    places = int(plan.get("places", 4))
    say("step", name="engine", state="run", elapsed_s=0, detail="none")
    say("engine", engine="e", pid=os.getpid(), slots=places)
    rows = [json.loads(line) for line in work.read_text().splitlines()]
    for done, row in enumerate(rows):
        if starts <= plan.get("bad_starts", 1) and work.name.startswith(str(plan.get("part", ""))):
            if done == plan.get("die"):
                os._exit(9)
            if done == plan.get("hang"):
                (folder / "hung").touch()
                time.sleep(3600)
        with (folder / COMPUTED).open("a") as file:
            file.write(f"{row['key']}\n")
        step = {"span_s": 0.25, "steps": 1, "step_s": 0.25, "busy_s": 0.25 * places / 2}
        say("occupied", engine="e", running=places, slots=places, **step)
        if row["key"] in plan.get("refuses", ()):
            say("refused", key=row["key"], reason="too long: 9 tokens")
            continue
        tokens = tokens_for(row)
        told = {"text": f"answer {row['key']} \udc80", "token_ids": tokens, "finish_reason": "length"}
        say("row", key=row["key"], prompt_tokens=3, **told)
        time.sleep(plan.get("pause_s", 0))
    say("done")


def say(event: str, **fields: Any) -> None:
    os.write(1, json.dumps({"event": event, **fields}).encode() + b"\n")


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "engine":
        engine(Path(rest[1]))
        return
    from rvtop.batch.job import HOWS, Job, Plan
    from rvtop.cli.batch import run_batch

    job = Job(
        Plan(Path(rest[0]), HOWS[:1], "tiny", Path(rest[1]), resume="--resume" in rest), command=command
    )
    sys.exit(run_batch(job, ui="plain"))


if __name__ == "__main__":
    main()
