"""From messages or text to prompt token ids, with the model's own chat template and tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from jinja2 import TemplateError

from backends.errors import bad_request


class Renderer:
    """Renders prompts of one model in one thread of its own: a long RAG prompt takes milliseconds to
    tokenize, which the event loop that flushes tokens must not spend. ``vocab_size`` bounds token ids that
    clients send."""

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="render")

    @classmethod
    def load(cls, path: str | Path, *, trust_remote_code: bool = False) -> Renderer:
        """Loads the tokenizer of a model folder or Hub id (no weights)."""
        from transformers import AutoConfig, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        return cls(tokenizer, int(config.get_text_config().vocab_size))

    async def chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> tuple[int, ...]:
        """Token ids of a conversation, by default up to where the assistant speaks. Raises ApiError (400)
        when the template refuses it."""
        rendered: tuple[int, ...] = await self._off_loop(
            self._render_chat, list(messages), list(tools), add_generation_prompt
        )
        return rendered

    async def prompt(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        """Token ids of a text, or those that the client sent. Raises as :meth:`ids`."""
        return await self.text(prompt) if isinstance(prompt, str) else self.ids(prompt)

    async def text(self, prompt: str, add_special_tokens: bool = True) -> tuple[int, ...]:
        encoded: tuple[int, ...] = await self._off_loop(self._encode, prompt, add_special_tokens)
        return encoded

    async def decode(self, ids: tuple[int, ...]) -> str:
        """Text of tokens, special ones included."""
        return str(await self._off_loop(self._tokenizer.decode, list(ids)))

    async def strings(self, ids: tuple[int, ...]) -> list[str]:
        """Each token as it stands in the vocabulary."""
        return list(await self._off_loop(self._tokenizer.convert_ids_to_tokens, list(ids)))

    def ids(self, ids: tuple[int, ...], field: str = "prompt") -> tuple[int, ...]:
        """Token ids as the client sent them. Raises ApiError (400) for an id the model does not have."""
        for token in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token < self._vocab_size:
                raise bad_request(f"Token id {token} is out of vocabulary", field)
        return ids

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _off_loop(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _render_chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], add_generation_prompt: bool
    ) -> tuple[int, ...]:
        try:
            text = self._tokenizer.apply_chat_template(
                [_templated(message) for message in messages],
                tools=tools or None,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except TemplateError as error:
            raise bad_request(
                f"The model's chat template refuses these messages: {error}", "messages"
            ) from None
        except ValueError as error:  # a model without a chat template
            raise bad_request(str(error).splitlines()[0], "messages") from None
        # The template writes the special tokens itself.
        return self._encode(text, add_special_tokens=False)

    def _encode(self, text: str, add_special_tokens: bool) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))


def _templated(message: dict[str, Any]) -> dict[str, Any]:
    """A message as templates read it: the arguments of earlier tool calls are objects, not their JSON."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_call(call) for call in calls]}


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = orjson.loads(function["arguments"] or "{}")
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The `arguments` of a tool call are not JSON: {error}", "messages") from None
    return {**call, "function": {**function, "arguments": arguments}}
