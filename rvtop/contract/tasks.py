"""Tasks of agents: what the screen shows of them."""

from __future__ import annotations

from dataclasses import dataclass

#: So many steps are listed, the first ones.
MOST_STEPS = 32


@dataclass(frozen=True, slots=True)
class TaskStep:
    """What a step of all tasks was like since the phase began: how many were answered, the mean TTFT (ms) and
    prompt (tokens), and the share (0..1) of the prompts' tokens that came from the prefix cache, where the
    server tells it."""

    step: int
    count: int
    ttft_ms: float | None = None
    prompt_tokens: float | None = None
    hit_share: float | None = None


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks since the load began, and of those that were done in the last minute the rates and the mean
    times (ms; ``stats.tasks.Waited`` says what they are). ``open``: begun, with a step answered and others
    to come; ``cut``: left open by the end of a phase. ``good_per_minute``: with every step within the SLO,
    None without one."""

    done: int = 0
    failed: int = 0
    cut: int = 0
    open: int = 0
    per_minute: float | None = None
    good_per_minute: float | None = None
    wall_ms: float | None = None
    wall_p99_ms: float | None = None
    model_ms: float | None = None
    tool_ms: float | None = None
    own_ms: float | None = None
    queue_ms: float | None = None
    steps: tuple[TaskStep, ...] = ()
