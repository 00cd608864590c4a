"""The HTTP endpoints that a load can speak, and how a prompt becomes the fields that each asks for.

Pure: rows of prompts in, fields of request bodies out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

#: Documents of a rerank that the scenario gives no number for.
RERANK_DOCUMENTS = 8
#: What an answer may have of tokens where nothing says so and the endpoint must be told (``messages``).
_MOST_TOKENS = 256


@dataclass(frozen=True)
class Kind:
    """One endpoint. ``generates``: its answers are output tokens, which may be streamed; one that does not
    answers in one piece. ``lengths``: how it calls ``max_tokens`` and ``min_tokens``; the others it does not
    take. ``drops``: fields of a scenario's workload that it refuses."""

    path: str
    generates: bool
    lengths: Mapping[str, str]
    drops: frozenset[str] = frozenset()


_OPENAI = {"max_tokens": "max_tokens", "min_tokens": "min_tokens"}
#: Fields that ask for tokens, or for what only a server of ours tells of them.
_OF_TOKENS = frozenset({"temperature", "ignore_eos", "rvtop", "rag", "stream_options"})
KINDS = {
    "chat": Kind("/v1/chat/completions", True, _OPENAI),
    "completions": Kind("/v1/completions", True, _OPENAI),
    "responses": Kind(
        "/v1/responses", True, {"max_tokens": "max_output_tokens"}, frozenset({"rvtop", "stream_options"})
    ),
    "messages": Kind(
        "/v1/messages",
        True,
        {"max_tokens": "max_tokens"},
        frozenset({"rvtop", "ignore_eos", "stream_options"}),
    ),
    "embeddings": Kind("/v1/embeddings", False, {}, _OF_TOKENS),
    "rerank": Kind("/v1/rerank", False, {}, _OF_TOKENS),
}

#: Endpoints that hold no conversation.
NO_TURNS = ("completions", "embeddings", "rerank")


@dataclass(frozen=True)
class Api:
    """What is spoken with a target. ``name`` is a key of KINDS, "" for chat or completions as the prompts
    are; ``stream``: answers of tokens are streamed; ``batch``: texts of an embeddings request, documents of a
    rerank request, 0 for the usual number (1, RERANK_DOCUMENTS)."""

    name: str = ""
    stream: bool = True
    batch: int = 0

    @property
    def whole(self) -> bool:
        """Whether answers come in one piece: there is no first token then, only the time of the answer."""
        return not self.stream or not self.generates

    @property
    def generates(self) -> bool:
        """Whether answers are output tokens."""
        return not self.name or KINDS[self.name].generates

    @property
    def texts(self) -> int:
        """``batch``, or the usual number."""
        return self.batch or (RERANK_DOCUMENTS if self.name == "rerank" else 1)

    def kind(self, of_prompts: str) -> Kind:
        """The endpoint for prompts of ``messages`` or ``prompt``."""
        return KINDS[self.name or ("chat" if of_prompts == "messages" else "completions")]

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Why a row of prompts, which is sound in itself, can't be asked here; None when it can."""
        key = "steps" if row.get("steps") else "turns"
        if row.get(key) and self.name in NO_TURNS:
            return f'has "{key}", and endpoint {self.name} has no conversations'
        if isinstance(row.get("prompt"), list) and self.name in ("chat", "responses", "messages", "rerank"):
            return f'"prompt" is a list of token numbers, and endpoint {self.name} takes text'
        return None

    def said(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request that hold what is said, of a row with ``messages`` or ``prompt``; of
        embeddings and rerank that is the text alone, as ``text``."""
        messages, prompt = row.get("messages"), row.get("prompt")
        if self.name in ("embeddings", "rerank"):
            return {"text": prompt if messages is None else text_of(messages)}
        if self.name == "completions":
            return {"prompt": prompt if messages is None else text_of(messages)}
        if self.name == "responses":
            return {"input": prompt if messages is None else messages}
        if not self.name and messages is None:
            return {"prompt": prompt}
        talk = [{"role": "user", "content": prompt}] if messages is None else messages
        if self.name != "messages":
            return {"messages": talk}
        system = [one for one in talk if one["role"] == "system"]
        rest = [one for one in talk if one["role"] != "system"]
        if not rest:  # it has to begin with a user
            return {"messages": [{"role": "user", "content": text_of(system)}]}
        return {"messages": rest} | ({"system": text_of(system)} if system else {})

    def lengths(self, own: Mapping[str, Any], of_prompts: str, extra: Mapping[str, Any]) -> dict[str, Any]:
        """The lengths ``own`` (``max_tokens``, ``min_tokens``) as this endpoint calls them."""
        names = self.kind(of_prompts).lengths
        made = {names[key]: value for key, value in own.items() if key in names and names[key] not in extra}
        if self.name == "messages" and "max_tokens" not in extra:
            made.setdefault("max_tokens", _MOST_TOKENS)
        return made

    def common(self, body: Mapping[str, Any], extra: Mapping[str, Any], of_prompts: str) -> dict[str, Any]:
        """The fields that every request carries, of the workload's and the user's, which win; a user's None
        takes a field out."""
        kind = self.kind(of_prompts)
        ours = {key: value for key, value in body.items() if key not in kind.drops}
        fields = {key: value for key, value in (ours | dict(extra)).items() if value is not None}
        if not kind.generates:
            return fields
        fields["stream"] = self.stream
        if kind.lengths is _OPENAI and self.stream:
            given = extra.get("stream_options")
            options = given if isinstance(given, dict) else {}
            fields["stream_options"] = {**options, "include_usage": True}
        elif kind.lengths is _OPENAI:
            fields.pop("stream_options", None)
        return fields


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """What messages say, one below the other; content that is no text is left out."""
    said: list[str] = []
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        said += [text for text in texts if isinstance(text, str)]
    return "\n\n".join(said)


def content_of(message: Mapping[str, Any]) -> str:
    """The text of a message of a conversation, its parts joined as servers join them."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    texts = [part.get("text", "") if isinstance(part, dict) else part for part in content]
    return "\n".join(texts)


class Texts:
    """The texts of embeddings and rerank requests, each serialised once: a request of several takes those
    that follow in the file, its first ones behind its last."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._texts: list[bytes] = []
        self._documents: dict[int, bytes] = {}

    def add(self, text: Any, documents: Sequence[str] | None) -> None:
        """The text of the next row, and the ``documents`` that it brings."""
        if documents is not None:
            self._documents[len(self._texts)] = b",".join(orjson.dumps(one) for one in documents)
        self._texts.append(orjson.dumps(text))

    @property
    def problem(self) -> str | None:
        """Why the rows, all of which are there, make no request; None when they do."""
        if self._api.name == "rerank" and len(self._texts) == 1 and not self._documents:
            return 'a rerank needs documents: give the row its "documents", or the file a second prompt'
        return None

    def fields(self, number: int) -> bytes:
        """The fields of request ``number``, without braces."""
        api, text = self._api, self._texts[number]
        if api.name == "rerank":
            documents = self._documents.get(number) or self._following(number + 1, api.texts)
            return b'"query":%b,"documents":[%b]' % (text, documents)
        if api.texts == 1:
            return b'"input":%b' % text
        return b'"input":[%b]' % self._following(number, api.texts)

    def _following(self, begin: int, count: int) -> bytes:
        texts = self._texts
        return b",".join(texts[(begin + i) % len(texts)] for i in range(count))
