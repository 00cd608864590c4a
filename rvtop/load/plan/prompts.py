"""``prompts.jsonl`` as a worker reads it: each prompt ready to be joined into a request body.

``prompt_row.py`` says what a row holds: ``at_s`` (of a trace) is when it was sent, seconds from the trace's
start, and ``turns`` (of a conversation) or ``steps`` (of a task) what follows the first answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rvtop.errors import UserError
from rvtop.load.plan.api import Api, Texts
from rvtop.load.plan.prompt_row import row_problem
from rvtop.load.plan.steps import Message, Steps, Turn

_OWN = ("max_tokens", "min_tokens")  # what a prompt may say for itself


class PromptError(UserError):
    """A prompts file that can't be used; the text names file and line."""


class Prompts:
    """Request bodies for (prompt, model), joined from four parts that were serialised once.

    ``at_s``: the times of a trace, shape (n,), None when the prompts are none. ``steps``: what follows each
    prompt that is a task or that something follows; ``most_turns``: the requests of the longest of them;
    ``tasks``: whether some are tasks.
    """

    def __init__(
        self,
        path: Path,
        models: Sequence[str],
        body: Mapping[str, Any],
        extra: Mapping[str, Any] | None = None,
        *,
        api: Api = Api(),  # noqa: B008 - frozen
        data: bytes | None = None,
        whole: bool = True,
    ) -> None:
        """Reads the file, or ``data``, which is what it holds; unless ``whole``, nothing is read before
        :meth:`read`. ``api`` says which endpoint the bodies are for.
        ``extra`` wins over ``body`` and over what a prompt says; None there takes a field out.
        Raises PromptError."""
        self._extra = dict(extra or {})
        if "max_completion_tokens" in self._extra:  # servers refuse the old and the new name together
            self._extra.setdefault("max_tokens", None)
        self.api = api
        self.kind = ""
        self._texts = Texts(api)
        self.steps: dict[int, Steps] = {}
        self.tasks = False
        self._first: dict[int, list[dict[str, Any]]] = {}  # first messages of the conversations
        self._parts: list[bytes] = []
        self._own: list[bytes] = []  # the lengths of each
        self._least: dict[int, int] = {}  # min_tokens of the prompts that have one
        self._max_tokens: int | None = None
        self._times: list[float] = []
        self.at_s: npt.NDArray[np.float64] | None = None
        self.most_turns = 1
        self._unread: Iterator[None] = self._read(path, data, body)
        self._heads: list[bytes] = []
        self.add_models(models)
        self._body = body
        self._tail = b""
        if whole:
            self.read()

    def read(self, rows: int | None = None) -> bool:
        """Reads so many prompts more, None: all. Returns whether all are there. Raises PromptError."""
        count = sum(1 for _ in islice(self._unread, rows))
        return rows is None or count < rows

    def _read(self, path: Path, data: bytes | None, body: Mapping[str, Any]) -> Iterator[None]:
        """Takes in a prompt at each step; those of a trace and of conversations count when all are there."""
        for number, row in _rows(path, data):
            self._add(path, number, row, body)
            if not self._tail:
                self._tail = self._common(body)
            yield
        if not self._parts:
            raise PromptError(f"{path}: holds no prompt")
        if problem := self._texts.problem:
            raise PromptError(f"{path}: {problem}")
        self.at_s = np.array(self._times) if self._times else None
        self.most_turns = 1 + max((len(steps.turns) for steps in self.steps.values()), default=0)

    def _common(self, body: Mapping[str, Any]) -> bytes:
        """The end of every body: what all requests carry."""
        fields = {key: value for key, value in body.items() if key not in _OWN}
        return _fields(self.api.common(fields, self._extra, self.kind)) + b"}"

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def path(self) -> str:
        """The HTTP path that these prompts are for."""
        return self.api.kind(self.kind).path

    def add_models(self, models: Sequence[str]) -> None:
        """Adds models, numbered after those that are known."""
        self._heads += [b'{"model":' + orjson.dumps(model) + b"," for model in models]

    def limit_output(self, max_tokens: int | None) -> None:
        """Answers have at most ``max_tokens`` from now on, whatever the prompts say; None: as they say. What
        the user's own fields say stays."""
        self._max_tokens = max_tokens

    def body(self, prompt: int, model: int) -> bytes:
        """The body of one request."""
        own = self._own[prompt] if self._max_tokens is None else self._limited(self._least.get(prompt))
        part = self._parts[prompt] or self._texts.fields(prompt)
        return self._heads[model] + part + own + self._tail

    def first_messages(self, prompt: int) -> list[dict[str, Any]]:
        """What a conversation begins with."""
        return list(self._first[prompt])

    def turn_body(self, messages: Sequence[Message], turn: Turn, model: int) -> bytes:
        """The body of a follow-up, whose whole history is ``messages``."""
        own = _own(turn.own, self._body, self._extra)
        lengths = self._lengths(own) if self._max_tokens is None else self._limited(own.get("min_tokens"))
        part = orjson.dumps(self.api.said({"messages": list(messages)}))[1:-1]
        return self._heads[model] + part + lengths + self._tail

    def _limited(self, least: int | None) -> bytes:
        """The lengths of a request whose own ``min_tokens`` is ``least``, by :meth:`limit_output`."""
        most = self._max_tokens
        assert most is not None
        own = {"max_tokens": most} if least is None else {"max_tokens": most, "min_tokens": min(least, most)}
        return self._lengths({key: value for key, value in own.items() if key not in self._extra})

    def _lengths(self, own: Mapping[str, Any]) -> bytes:
        return _fields(self.api.lengths(own, self.kind, self._extra))

    def _add(self, path: Path, number: int, row: dict[str, Any], body: Mapping[str, Any]) -> None:
        times = self._times

        def fault(text: str) -> PromptError:
            return PromptError(f"{path}:{number}: {text}")

        problem = row_problem(row) or self.api.problem(row)
        if problem is not None:
            raise fault(problem)
        here = "messages" if "messages" in row else "prompt"
        if self.kind and here != self.kind:
            raise fault(f"has {here!r} where the lines before have {self.kind!r}")
        self.kind = here
        if self._parts and ("at_s" in row) != bool(times):
            raise fault('"at_s" must stand in every line or in none')
        if "at_s" in row:
            at_s = row["at_s"]
            late = times[-1] if times else 0.0
            if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not late <= at_s < 1e9:
                raise fault(f'"at_s" must be a time in seconds, not before the line above, got {at_s!r}')
            times.append(float(at_s))
        task = "steps" in row
        if task or row.get("turns"):
            follow = map(_turn, row["steps"] if task else row["turns"])
            self.steps[len(self._parts)] = Steps(tuple(follow), task=task)
            self._first[len(self._parts)] = row["messages"]
            self.tasks |= task
        own = _own(row, body, self._extra)
        if "min_tokens" in own:
            self._least[len(self._parts)] = own["min_tokens"]
        said = self.api.said(row)
        if "text" in said:  # with those of other rows it becomes the fields of a request
            self._texts.add(said["text"], row.get("documents"))
        self._parts.append(b"" if "text" in said else orjson.dumps(said)[1:-1])
        self._own.append(self._lengths(own))


def _own(row: Mapping[str, Any], body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The lengths of one request: its own win over those of all; what ``extra`` says is said there."""
    found = {key: row.get(key, body.get(key)) for key in _OWN if key not in extra}
    return {key: value for key, value in found.items() if value is not None}


def _fields(values: Mapping[str, Any]) -> bytes:
    """Further fields of a JSON object."""
    return b"," + orjson.dumps(values)[1:-1] if values else b""


def _turn(data: Mapping[str, Any]) -> Turn:
    own = {key: data[key] for key in _OWN if key in data}
    delay_s = float(data.get("tool_s", data.get("delay_s", 0.0)))
    after, whole = tuple(data.get("after", ())), bool(data.get("whole"))
    return Turn(tuple(data["messages"]), own, delay_s, after, whole)


def _rows(path: Path, data: bytes | None) -> Iterator[tuple[int, Any]]:
    """(line number, row) of every line that is not blank."""
    try:
        lines = (path.read_bytes() if data is None else data).splitlines()
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror}") from error
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise PromptError(f"{path}:{number}: not JSON: {error}") from error
        yield number, row
