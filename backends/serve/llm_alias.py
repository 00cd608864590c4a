"""Serve LLM's ingress for a model with further names: it hands a request for one of them on under the model's
own. Only where a split gives it such names; else the ingress is as it ships."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from ray.serve.llm.ingress import OpenAiIngress


class AliasIngress(OpenAiIngress):
    """``aliases`` are further names of its one model."""

    def __init__(self, *args: Any, aliases: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._aliases = frozenset(aliases)

    def _get_response(self, *, body: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Serve LLM's own generator: no further one stands in the way of each token."""
        if body.model in self._aliases:
            body = body.model_copy(update={"model": next(iter(self._model_cards))})
        answers: AsyncGenerator[Any, None] = super()._get_response(body=body, **kwargs)
        return answers
