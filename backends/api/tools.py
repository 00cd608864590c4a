"""What the API needs of an engine that knows its model's tool calls (vLLM's parsers; see
:mod:`backends.api.vllm_tools`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from backends.api.request import Call
from backends.engines.protocol import Delta


class ToolReader(Protocol):
    """Reads the tool calls out of one choice's text."""

    def part(self, delta: Delta) -> dict[str, Any] | None:
        """A streamed chunk's ``delta`` (``content``, ``tool_calls``); None while nothing can be told."""
        ...

    def whole(self, text: str, token_ids: Sequence[int]) -> dict[str, Any]:
        """What the whole answer's message says: ``content``, ``tool_calls``."""
        ...

    def reason(self, reason: str) -> str:
        """The finish reason, which is ``tool_calls`` when tools are called."""
        ...


class ToolUse(Protocol):
    """The tools of one request."""

    @property
    def described(self) -> Sequence[dict[str, Any]]:
        """The tools as the model's chat template gets them."""
        ...

    @property
    def special(self) -> Mapping[str, Any]:
        """For :attr:`backends.engines.protocol.GenerateRequest.special`."""
        ...

    def reader(self, prompt_ids: tuple[int, ...]) -> ToolReader: ...


class Tools(Protocol):
    """A model's tool calls."""

    def use(self, call: Call) -> ToolUse:
        """Raises ApiError (400) when the tools or ``tool_choice`` are wrong."""
        ...
