"""``/v1/embeddings``, in OpenAI's shape: vectors of the embedder that looks up questions (``--index``)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from backends.api import fields
from backends.errors import ApiError, bad_request

MAX_INPUTS = 2048  # OpenAI's limit


class Embedded(NamedTuple):
    """``vectors`` is a float32 array with a row a text; ``tokens`` is how many the texts took."""

    vectors: Any
    tokens: int


class Embeds(Protocol):
    """An embedder off the event loop."""

    @property
    def embedder(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Embedded: ...


async def embed(data: dict[str, Any], embedder: Embeds | None) -> bytes:
    """Raises ApiError: 400, or 404 for a model that is not the embedder."""
    if embedder is None:
        raise bad_request("This server has no embedder: start it with --index DIR (and --embedder).", "model")
    model = fields.text(data, "model")
    if model is not None and model != embedder.embedder:
        text = f"The model `{model}` does not embed; the embedder of this server is `{embedder.embedder}`."
        raise ApiError(404, text, type="NotFoundError", param="model")
    texts = _texts(data.get("input"))
    as_base64 = _as_base64(data.get("encoding_format"))
    dimensions = fields.integer(data, "dimensions", low=1)
    embedded = await embedder.embed(texts)
    dimension = embedded.vectors.shape[1]
    if dimensions not in (None, dimension):
        raise bad_request(
            f"dimensions={dimensions}: the vectors of this embedder have {dimension}.", "dimensions"
        )
    vectors = [
        base64.b64encode(row.tobytes()).decode() if as_base64 else row.tolist() for row in embedded.vectors
    ]
    return orjson.dumps(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(vectors)],
            "model": embedder.embedder,
            "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
        }
    )


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise bad_request("`input` must be a text or a list of texts (token ids are not taken).", "input")
    if not all(texts):
        raise bad_request("`input` must not hold an empty text.", "input")
    if len(texts) > MAX_INPUTS:
        raise bad_request(f"`input` holds {len(texts)} texts; at most {MAX_INPUTS} are taken.", "input")
    return texts


def _as_base64(given: Any) -> bool:
    if given not in (None, "float", "base64"):
        raise bad_request(f"encoding_format must be float or base64, got {given!r}.", "encoding_format")
    return bool(given == "base64")
