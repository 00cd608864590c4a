"""The requests of a conversation or of a task, in the order that the answers of one lead to the next. Pure.

A conversation is a row of requests. A task is a graph of them: a step follows the steps that it names
(``after``), once the last of those has been answered and a tool has returned. Several steps that follow the
same one are branches; a step that follows several joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """A request that follows others, ``delay_s`` after the last of them was answered.

    ``after``: the numbers of those, from 0; none: the one before it. ``whole``: its messages are the whole
    prompt, and nothing of what was said before is put in front of them.
    """

    messages: tuple[dict[str, Any], ...]
    own: Mapping[str, Any]
    delay_s: float = 0.0
    after: tuple[int, ...] = ()
    whole: bool = False

    @property
    def recorded(self) -> bool:
        """Whether it brings the answer that stands before it; otherwise that is the model's own."""
        return self.whole or self.messages[0].get("role") == "assistant"


class Steps:
    """What is known of a conversation or a task before the load begins. Request 0 is the row's own, request k
    is ``turns[k - 1]``.

    ``followers[k]``: the requests that wait for k. ``base[k]``: the request whose messages and answer k goes
    on from: the one that it follows, or of several the last that all of them go back to. ``facts[k]``: what a
    task's line in ``requests.jsonl`` says of step k, None of a conversation.
    """

    __slots__ = ("after", "base", "facts", "followers", "keeps", "turns", "users")

    def __init__(self, turns: Sequence[Turn], *, task: bool = False) -> None:
        self.turns = tuple(turns)
        count = len(self.turns) + 1
        self.after = ((), *(turn.after or (k,) for k, turn in enumerate(self.turns)))
        followers: list[list[int]] = [[] for _ in range(count)]
        for k, before in enumerate(self.after):
            for one in before:
                followers[one].append(k)
        self.followers = tuple(map(tuple, followers))
        base = [0]
        for before in self.after[1:]:
            base.append(common(before, base))
        self.base = tuple(base)
        users, keeps = [0] * count, [False] * count
        for k, turn in enumerate(self.turns, 1):
            if turn.whole:
                continue
            users[base[k]] += 1
            keeps[base[k]] |= not turn.recorded
            for one in self.after[k]:
                keeps[one] |= one != base[k]
        self.users = tuple(users)  # how many requests go on from each
        self.keeps = tuple(keeps)  # whether each one's answer is needed
        self.facts = tuple(_facts(self.after, self.turns, _branches(self))) if task else None


def common(before: Sequence[int], base: Sequence[int]) -> int:
    """The last request that all of ``before`` go back to."""
    found = before[0]
    for one in before[1:]:
        while found != one:  # a base has a smaller number than what goes on from it
            found, one = (base[found], one) if found > one else (found, base[one])
    return found


def _branches(steps: Steps) -> list[str]:
    """The branch of each step: "" for the trunk, else ``2``, or ``2.1`` for a branch of that branch."""
    names = [""]
    for k in range(1, len(steps.after)):
        base = steps.base[k]
        beside = steps.followers[base]
        forks = len(steps.after[k]) == 1 and sum(len(steps.after[one]) == 1 for one in beside) > 1
        number = [one for one in beside if len(steps.after[one]) == 1].index(k) + 1 if forks else 0
        names.append(f"{names[base]}.{number}".lstrip(".") if forks else names[base])
    return names


def _facts(
    after: Sequence[tuple[int, ...]], turns: Sequence[Turn], branches: Sequence[str]
) -> Iterable[dict[str, Any]]:
    for step, (before, branch) in enumerate(zip(after, branches, strict=True)):
        tool_ns = round(turns[step - 1].delay_s * 1e9) if step else 0
        yield {"step": step, "of": len(after), "branch": branch, "after": list(before), "tool_ns": tool_ns}


@dataclass(slots=True)
class Talk:
    """A conversation or a task under way.

    ``open`` counts its requests that are in flight or wait for their time; at 0 it is over. Once a request
    has failed (``failed``) none follows any more.
    """

    number: int  # of its first request
    prompt: int
    model: int
    phase: int
    steps: Steps
    first: Sequence[Message]
    open: int = 1
    failed: bool = False
    _said: dict[int, list[Message]] = field(default_factory=dict)  # prompts that others go on from
    _users: dict[int, int] = field(default_factory=dict)  # how many are still to go on from them
    _answers: dict[int, str] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    def ended(self, step: int, answer: str) -> list[int]:
        """Request ``step`` was answered; returns those that may follow now, each after its own delay."""
        steps = self.steps
        self._ended.add(step)
        if not step:
            self._keep(0, list(self.first))
        if steps.keeps[step]:
            self._answers[step] = answer
        ready = [k for k in steps.followers[step] if self._ended.issuperset(steps.after[k])]
        self.open += len(ready) - 1
        return ready

    def gave_up(self) -> None:
        """A request failed, or could not be sent."""
        self.failed = True
        self.open -= 1

    def messages(self, step: int) -> Sequence[Message]:
        """The whole prompt of request ``step``, which is about to be sent; asked for once."""
        steps, turn = self.steps, self.steps.turns[step - 1]
        if turn.whole:
            said = list[Message](turn.messages)
        else:
            base = steps.base[step]
            self._users[base] -= 1
            # The last one that goes on from it takes it over: a long conversation is held once.
            said = list(self._said[base]) if self._users[base] else self._said.pop(base)
            if not turn.recorded:
                said.append({"role": "assistant", "content": self._answers[base]})
            joined = (one for one in steps.after[step] if one != base)
            said += ({"role": "user", "content": self._answers[one]} for one in joined)
            said += turn.messages
        self._keep(step, said)
        return said

    def _keep(self, step: int, said: list[Message]) -> None:
        if self.steps.users[step]:
            self._said[step], self._users[step] = said, self.steps.users[step]
