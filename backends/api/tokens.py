"""``/tokenize`` and ``/detokenize``, in vLLM's shapes: what a prompt is to the model."""

from __future__ import annotations

from typing import Any

import orjson

from backends.api import fields
from backends.api.render import Renderer
from backends.api.request import messages_of, tools_of
from backends.errors import bad_request

# Field -> the values that ask for nothing special; anything else is refused.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "continue_final_message": (None, False),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
}


async def tokenize(data: dict[str, Any], renderer: Renderer, max_model_len: int) -> bytes:
    """The token ids of ``prompt`` or ``messages``, and how many the model's context holds. Raises ApiError
    (400)."""
    for field, neutral in UNSUPPORTED.items():
        if data.get(field) not in neutral:
            raise bad_request(f"`{field}` is not supported by this server; topology vllm takes it.", field)
    ids = await _ids(data, renderer)
    strings = await renderer.strings(ids) if fields.flag(data, "return_token_strs") else None
    counted = {"count": len(ids), "max_model_len": max_model_len, "tokens": ids, "token_strs": strings}
    return orjson.dumps(counted)


async def _ids(data: dict[str, Any], renderer: Renderer) -> tuple[int, ...]:
    if data.get("messages") is not None:
        generation = data.get("add_generation_prompt") is None or fields.flag(data, "add_generation_prompt")
        if fields.flag(data, "add_special_tokens"):
            text = "`add_special_tokens` is for a `prompt`: the chat template writes those of messages."
            raise bad_request(text, "add_special_tokens")
        return await renderer.chat(messages_of(data), tools_of(data), generation)
    prompt = data.get("prompt")
    if not isinstance(prompt, str):
        raise bad_request("`prompt` (a text) or `messages` must be given.", "prompt")
    special = data.get("add_special_tokens") is None or fields.flag(data, "add_special_tokens")
    return await renderer.text(prompt, special)


async def detokenize(data: dict[str, Any], renderer: Renderer) -> bytes:
    """The text of ``tokens``. Raises ApiError (400)."""
    ids = fields.token_ids(data.get("tokens"), "tokens")
    return orjson.dumps({"prompt": await renderer.decode(renderer.ids(ids, "tokens"))})
