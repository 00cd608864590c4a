"""A recorded trace as rows of ``prompts.jsonl``: made-up text of the recorded lengths, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvtop.scenario.trace_format import SESSIONS, detect
from rvtop.scenario.units import human_duration
from rvtop.scenario.workload import BYTES_A_TOKEN, MAX_PROMPT_BYTES, TraceWorkload
from rvtop.workload import aiperf, otel, sessions, traces
from rvtop.workload.block_text import BlockText
from rvtop.workload.rows import WorkloadError, user_row


@dataclass(frozen=True)
class Replay:
    """The requests of a trace that are to be sent: its rows by time."""

    workload: TraceWorkload
    trace: traces.Trace
    picked: Sequence[int]

    def tokens(self, row: int) -> int:
        """Length of a row's prompt after the cap."""
        return min(self.trace.prompt[row], self.workload.max_prompt_tokens or self.trace.prompt[row])

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Rows by time, the first at 0 s; the same seed gives the same rows."""
        texts = BlockText(seed, self.trace.block_tokens)
        start = self.trace.at_us[self.picked[0]]
        for i, row in enumerate(self.picked):
            made = user_row(f"trace-{i}", texts.prompt(self.tokens(row), self.trace.blocks_of(row)))
            yield made | {
                "max_tokens": self.trace.output[row],
                "at_s": (self.trace.at_us[row] - start) / 1e6,
            }

    def told(self) -> str:
        """What became of the trace, in words."""
        at_us = self.trace.at_us
        lasts = (at_us[self.picked[-1]] - at_us[self.picked[0]]) / 1e6
        words = f"{len(self.picked):,} requests of {human_duration(round(lasts, 3))}"
        limit = self.workload.max_prompt_tokens
        cut = sum(self.trace.prompt[row] > limit for row in self.picked) if limit is not None else 0
        if cut:
            words += f", {cut:,} prompts cut to {limit:,} tokens"
        if self.trace.silent:
            rows = len(self.trace) + self.trace.silent
            words += f", {self.trace.silent:,} of the trace's {rows:,} rows left out (no prompt or no answer)"
        return words


def sessions_of(workload: TraceWorkload, seed: int) -> Iterable[dict[str, Any]] | None:
    """The rows of a trace of sessions, each to begin at its time; None of a trace of single requests. Raises
    WorkloadError."""
    path = Path(workload.file)
    kind = detect(path, workload.format)
    if kind not in SESSIONS:
        return None
    start_s, limit = workload.start_s or 0.0, workload.limit
    if workload.max_prompt_tokens is not None:
        raise WorkloadError(
            f"{path}: workload.max_prompt_tokens is not for sessions ({kind}), which grow; take it out"
        )
    if kind == "aiperf":
        block = workload.block_tokens
        return aiperf.rows(path, seed, timed=True, limit=limit, block_tokens=block, start_s=start_s)
    try:
        found = otel.read(path)
    except OSError as error:
        raise WorkloadError(f"{path}: can't be read: {error.strerror}") from error
    picked = [one for one in found if one.start_s >= found[0].start_s + start_s]
    return sessions.rows(picked[:limit], seed, str(path), timed=True)


def load(workload: TraceWorkload, on_progress: Callable[[int], None]) -> Replay:
    """Reads the workload's trace. Raises WorkloadError (damage, nothing left, too much)."""
    path = Path(workload.file)
    trace = traces.read(path, detect(path, workload.format), workload.block_tokens, on_progress)
    picked = trace.pick(workload.start_s or 0.0, workload.limit)
    if not len(picked):
        after = f" from {human_duration(workload.start_s)} on" if workload.start_s and len(trace) else ""
        raise WorkloadError(f"{path}: holds no request with a prompt and an answer{after}")
    replay = Replay(workload, trace, picked)
    size = BYTES_A_TOKEN * sum(replay.tokens(row) for row in picked)
    if size > MAX_PROMPT_BYTES:
        raise WorkloadError(
            f"{path}: its {len(picked):,} requests make about {size / (1 << 30):.3g} GiB of prompts for each"
            " worker to hold; give workload.limit or workload.max_prompt_tokens"
        )
    return replay
