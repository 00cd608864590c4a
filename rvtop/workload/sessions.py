"""Recorded sessions of agents as tasks: what followed what is told from when calls began and ended.

A call follows those that had ended when it began, but for those that another of them follows already. They
are looked for in the innermost part of the session that the call belongs to (a sub-agent, say) and that has
some, so that sub-agents side by side stay branches until a call of the whole joins them. What lay between is
the tool's time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rvtop.load.plan.steps import common
from rvtop.scenario.workload import BYTES_A_TOKEN, MAX_PROMPT_BYTES
from rvtop.workload.block_text import BlockText
from rvtop.workload.rows import WorkloadError, user

#: No session of an agent has more; what follows what costs their square.
MOST_CALLS = 5000
#: A tool's time is at most this, as a row of prompts may have it.
_LONGEST_S = 1e6


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was recorded. Times are seconds; ``prompt`` and ``output`` are tokens.

    Its text is ``messages``, or else made up: of hash ``blocks``, or grown by so many tokens as its prompt is
    longer than what it goes on from. ``scope``: the parts of the session that it belongs to, the outermost
    first.
    """

    start_s: float
    end_s: float
    prompt: int
    output: int
    blocks: Sequence[Hashable] = ()
    messages: tuple[Mapping[str, Any], ...] = ()
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """``calls`` in the order of their beginning. ``block_tokens``: the length of their blocks."""

    name: str
    calls: Sequence[Call]
    block_tokens: int = 512

    @property
    def start_s(self) -> float:
        return self.calls[0].start_s


def session(name: str, calls: Iterable[Call], block_tokens: int = 512) -> Session:
    """Of calls in any order, one or more. Raises ValueError for too many."""
    ordered = sorted(calls, key=lambda call: (call.start_s, call.end_s))
    if len(ordered) > MOST_CALLS:
        raise ValueError(f"session {name} has {len(ordered):,} requests, at most {MOST_CALLS:,} are read")
    return Session(name, ordered, block_tokens)


def follows(calls: Sequence[Call]) -> list[list[int]]:
    """What each call but the first follows, by number. One that began before any other had ended follows
    the first."""
    earlier = [0]  # all that a call goes back to, a bit each
    found = []
    for k in range(1, len(calls)):
        before = _before(calls, k, earlier)
        found.append(before)
        bits = 0
        for j in before:
            bits |= earlier[j] | 1 << j
        earlier.append(bits)
    return found


def _before(calls: Sequence[Call], k: int, earlier: Sequence[int]) -> list[int]:
    mine = calls[k]
    ended = [j for j in range(k) if calls[j].end_s <= mine.start_s]
    for depth in range(len(mine.scope), -1, -1):
        part = mine.scope[:depth]
        near = [j for j in ended if calls[j].scope[:depth] == part]
        if near:
            followed = 0
            for j in near:
                followed |= earlier[j]
            return [j for j in near if not followed >> j & 1]
    return [0]


def rows(sessions: Iterable[Session], seed: int, path: str, *, timed: bool) -> Iterator[dict[str, Any]]:
    """Rows of ``prompts.jsonl``, a task each; ``timed``: each begins at its time since the first one, and
    they are to be in that order. Raises WorkloadError where they make too much text."""
    texts: dict[int, BlockText] = {}
    size, first_s = 0, None
    for number, one in enumerate(sessions):
        text = texts.setdefault(one.block_tokens, BlockText(seed, one.block_tokens))
        calls, after = one.calls, follows(one.calls)
        row: dict[str, Any] = {"id": f"{one.name or number}", **_said(calls[0], text, calls[0].prompt)}
        base, steps = [0], []
        for k, before in enumerate(after, 1):
            base.append(common(before, base))
            steps.append(_step(calls, k, before, base[k], text))
            size += BYTES_A_TOKEN * calls[k].prompt
        row["steps"] = steps
        if timed:
            first_s = one.start_s if first_s is None else first_s
            row["at_s"] = round(one.start_s - first_s, 6)
        size += BYTES_A_TOKEN * calls[0].prompt
        if size > MAX_PROMPT_BYTES:
            raise WorkloadError(
                f"{path}: its first {number + 1:,} sessions make more than {MAX_PROMPT_BYTES >> 30} GiB of "
                "prompts for each worker to hold; give workload.limit"
            )
        yield row


def _step(calls: Sequence[Call], k: int, before: Sequence[int], base: int, text: BlockText) -> dict[str, Any]:
    call = calls[k]
    pause = max(0.0, call.start_s - max(calls[j].end_s for j in before))
    joined = sum(calls[j].output for j in before if j != base)
    grown = call.prompt - calls[base].prompt - calls[base].output - joined
    whole = bool(call.messages or call.blocks or grown < 1)
    step = _said(call, text, call.prompt if whole else grown)
    step |= {"after": list(before), "tool_s": round(min(pause, _LONGEST_S / 2), 6)}
    return step | ({"whole": True} if whole else {})


def _said(call: Call, text: BlockText, tokens: int) -> dict[str, Any]:
    made = call.messages or (user(text.prompt(tokens, call.blocks)),)
    return {"messages": list(made), "max_tokens": call.output}
