"""Log probabilities of tokens in OpenAI's two shapes, with as many alternatives as vLLM tells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backends.engines.protocol import Engine, TokenLogprobs
from backends.errors import bad_request

# JSON has no infinity; OpenAI writes this.
LEAST = -9999.0


def of_chat(tokens: Iterable[TokenLogprobs], top: int) -> dict[str, Any]:
    """``{"content": [{token, logprob, bytes, top_logprobs}]}``."""
    content = [
        _entry(*own) | {"top_logprobs": [_entry(*pair) for pair in (own, *rest)[:top]]}
        for own, *rest in tokens
    ]
    return {"content": content}


def of_text(tokens: Iterable[TokenLogprobs], top: int, offset: int = 0) -> dict[str, Any]:
    """Four lists of the same length; ``text_offset`` counts characters from ``offset`` on."""
    lists: dict[str, Any] = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
    for pairs in tokens:
        text, logprob = pairs[0]
        lists["text_offset"].append(offset)
        lists["token_logprobs"].append(max(logprob, LEAST))
        lists["tokens"].append(text)
        lists["top_logprobs"].append({other: max(value, LEAST) for other, value in pairs[: top + 1]})
        offset += len(text)
    return lists


def _entry(text: str, logprob: float) -> dict[str, Any]:
    return {
        "token": text,
        "logprob": max(logprob, LEAST),
        "bytes": list(text.encode("utf-8", errors="replace")),
    }


def check_logprobs(wanted: int | None, engines: Iterable[Engine]) -> None:
    """Raises ApiError (400), in vLLM's words, when an engine cannot tell of so many tokens."""
    if wanted is None:
        return
    for engine in engines:
        most = engine.info.max_logprobs
        if 0 <= most < wanted:
            raise bad_request(
                f"Requested sample logprobs of {wanted}, which is greater than max allowed: {most}",
                "logprobs",
            )
