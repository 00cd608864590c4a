"""Tool calls by vLLM's own parsers: what they ask of the sampling, and what they read out of the text.

Which parser reads a model's calls is the user's to say, as with ``vllm serve``: ``--engine-arg
tool-call-parser=NAME``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from backends.api.request import Call
from backends.engines.protocol import Delta
from backends.engines.vllm_args import check_tool_parser, one_line, refusals
from backends.errors import bad_request, internal

log = logging.getLogger("backends.vllm")


class VllmTools:
    """The tool calls of one model, by the parser of a name. Raises as
    :func:`backends.engines.vllm_args.check_tool_parser`."""

    def __init__(self, name: str, tokenizer: Any, model_config: Any) -> None:
        check_tool_parser(name)
        from vllm.parser import ParserManager

        self._parser = ParserManager.get_parser(tool_parser_name=name, enable_auto_tools=True)
        self._tokenizer = tokenizer
        self._config = model_config

    def use(self, call: Call) -> VllmToolUse:
        """See :class:`backends.api.tools.Tools`."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        asked: dict[str, Any] = {"messages": list(call.messages or ()), "tools": list(call.tools)}
        if call.tool_choice is not None:
            asked["tool_choice"] = call.tool_choice
        try:
            request = ChatCompletionRequest.model_validate(asked)
        except refusals() as error:
            raise bad_request(one_line(error), "tools") from None
        return VllmToolUse(self._make, request)

    def _make(self, tools: Any) -> Any:
        assert self._parser is not None
        return self._parser(self._tokenizer, tools, model_config=self._config)


class VllmToolUse:
    """See :class:`backends.api.tools.ToolUse`."""

    def __init__(self, make: Any, request: Any) -> None:
        self.described = [tool.model_dump() for tool in request.tools]
        self._make = make
        self._request = make(request.tools).adjust_request(request)

    @property
    def special(self) -> Mapping[str, Any]:
        special: dict[str, Any] = {}
        if self._request.structured_outputs is not None:
            special["structured_outputs"] = self._request.structured_outputs
        if not self._request.skip_special_tokens:
            special["skip_special_tokens"] = False
        return special

    def reader(self, prompt_ids: tuple[int, ...]) -> VllmToolReader:
        return VllmToolReader(self._make(self._request.tools), self._request, list(prompt_ids))


class VllmToolReader:
    """See :class:`backends.api.tools.ToolReader`."""

    def __init__(self, parser: Any, request: Any, prompt_ids: list[int]) -> None:
        self._parser = parser
        self._request = request
        self._prompt_ids = prompt_ids
        self._called = False

    def part(self, delta: Delta) -> dict[str, Any] | None:
        try:
            message = self._parser.parse_delta(
                delta.text,
                list(delta.token_ids),
                self._request,
                self._prompt_ids,
                finished=delta.finish is not None,
            )
        except Exception as error:
            raise _unread(error) from error
        if message is None:
            return None
        self._called = self._called or bool(message.tool_calls)
        said: dict[str, Any] = message.model_dump(exclude_unset=True)
        return said

    def whole(self, text: str, token_ids: Sequence[int]) -> dict[str, Any]:
        from vllm.entrypoints.chat_utils import make_tool_call_id

        try:
            _, content, calls = self._parser.parse(
                text, self._request, enable_auto_tools=True, model_output_token_ids=token_ids
            )
        except Exception as error:
            raise _unread(error) from error
        self._called = bool(calls)
        made = [
            {
                "id": call.id or make_tool_call_id(),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls or ()
        ]
        return {"content": content, "tool_calls": made} if made else {"content": content}

    def reason(self, reason: str) -> str:
        """As OpenAI and vLLM say it: a call of a tool that the client named ends with ``stop``."""
        named = self._request.tool_choice not in (None, "none", "auto", "required")
        return "tool_calls" if self._called and not named and reason == "stop" else reason


def _unread(error: Exception) -> Exception:
    log.exception("a tool call could not be read")
    return internal(f"vLLM's parser could not read the tool call: {type(error).__name__}: {one_line(error)}")
