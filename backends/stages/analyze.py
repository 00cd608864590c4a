"""The stages of ``/analyze``: a text is prepared, two models judge it at the same time, their answers are
merged.

Both models are causal language models, and judge by likelihood: of each label, the mean log probability of
its tokens behind the same prompt (zero-shot classification: T. Brown et al., 2020, section 2.4). With one
``--model`` both are of it, with several sentiment is the first's and topic the second's."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from backends.api import fields
from backends.errors import bad_request
from backends.models.load import load_model, resolve_model
from backends.settings.options import ModelSpec, Options
from backends.stages.stage import Stage, loaded

PATH = "/analyze"
LABELS = {
    "sentiment": ("positive", "neutral", "negative"),
    "topic": ("work", "money", "travel", "health", "technology"),
}
_ASKS = {"sentiment": "The sentiment of this text is", "topic": "The topic of this text is"}
MOST_LABELS = 32
MOST_CHARACTERS = 100_000
MOST_LABEL_CHARACTERS = 100
# Tokens of a text that are judged; a shorter context cuts further.
_MOST_TOKENS = 512


def checked(body: bytes) -> tuple[str, dict[str, list[str]], bool]:
    """The text of a request, the labels of each branch, and whether timings are asked for. Raises ApiError
    (400)."""
    data = fields.json_object(body)
    text = fields.text(data, "text")
    if text is None or not text.strip():
        raise bad_request("`text` must be a text to analyze.", "text")
    if len(text) > MOST_CHARACTERS:
        raise bad_request(f"`text` has {len(text)} characters; at most {MOST_CHARACTERS} are taken.", "text")
    labels = {name: list(known) for name, known in LABELS.items()}
    given = data.get("labels") or {}
    if not isinstance(given, dict) or not set(given) <= set(labels):
        raise bad_request(f"`labels` must be an object with lists for {' and '.join(labels)}.", "labels")
    for name, words in given.items():
        sound = isinstance(words, list) and all(isinstance(word, str) and word.strip() for word in words)
        if not sound or not 2 <= len(set(words)) <= MOST_LABELS or len(set(words)) < len(words):
            raise bad_request(
                f"`labels.{name}` must be a list of 2 to {MOST_LABELS} different words.", "labels"
            )
        if max(map(len, words)) > MOST_LABEL_CHARACTERS:
            raise bad_request(
                f"`labels.{name}`: a label has at most {MOST_LABEL_CHARACTERS} characters.", "labels"
            )
        labels[name] = words
    told = data.get("rvtop")
    return text, labels, isinstance(told, dict) and told.get("timings") is True


class Preprocess(Stage):
    """A text as the models are to see it: Unicode's composed form, no control characters, single spaces."""

    def __init__(self, threads: int) -> None:
        super().__init__("preprocess", threads)

    async def clean(self, text: str) -> str:
        return await self.compute(1, cleaned, text)


class Judge(Stage):
    """A branch: which of several labels a text most likely has."""

    def __init__(self, stage: str, model: ModelSpec, options: Options, threads: int) -> None:
        super().__init__(stage, threads)
        path = loaded(f"--model {model.name}", resolve_model, model.source)
        self._model, self._tokenizer = loaded(
            f"--model {model.name}", load_model, path, options.dtype, self.device, options.trust_remote_code
        )
        self._ask = _ASKS[stage]
        self._longest = int(self._model.config.max_position_embeddings)
        self.told(reads=model.name)

    async def judge(self, text: str, labels: Sequence[str]) -> dict[str, Any]:
        """``label``, ``scores`` (by label, which sum to 1), and ``began`` and ``ended`` of its computing,
        Unix seconds."""
        return await self.compute(1, self._judge, text, list(labels))

    def _judge(self, text: str, labels: list[str]) -> dict[str, Any]:
        import torch

        began = time.time()
        encode = partial(self._tokenizer.encode, add_special_tokens=False)
        ask, tails = encode(f"\n{self._ask}"), [encode(f" {label}") for label in labels]
        # Past its context a model fails, on a GPU for good. What begins a text for it (BOS) stays.
        room = self._longest - len(ask) - max(map(len, tails))
        if room < 1:
            raise ValueError(f"a context of {self._longest} tokens holds no text beside the longest label")
        head = [*self._tokenizer.encode(text)[: min(_MOST_TOKENS, room)], *ask]
        means = []
        with torch.inference_mode():
            for tail in tails:
                ids = torch.tensor([[*head, *tail]], device=self.device)
                logs = torch.log_softmax(self._model(ids).logits[0, len(head) - 1 : -1].float(), dim=-1)
                means.append(logs.gather(1, ids[0, len(head) :, None]).mean())
            shares = torch.softmax(torch.stack(means), dim=0).tolist()
        scores = dict(zip(labels, shares, strict=True))
        return {
            "label": max(scores, key=lambda label: scores[label]),
            "scores": scores,
            "began": began,
            "ended": time.time(),
        }


class Merge(Stage):
    """Hands a text through the stages, and makes one answer of two."""

    def __init__(self, threads: int, preprocess: Any, sentiment: Any, topic: Any) -> None:
        """The others are handles of Serve's."""
        super().__init__("merge", threads)
        self._preprocess = preprocess
        self._branches = {"sentiment": sentiment, "topic": topic}

    async def analyze(self, text: str, labels: dict[str, list[str]], timings: bool) -> bytes:
        """The answer's body. What each stage took is from its call to its answer; ``branches_ms`` is how long
        both branches took together."""
        began = time.perf_counter()
        clean = await self._preprocess.clean.remote(text)
        prepared = time.perf_counter()
        judged = await asyncio.gather(
            *(_timed(branch.judge.remote(clean, labels[name])) for name, branch in self._branches.items())
        )
        joined = time.perf_counter()
        told = {
            "preprocess_ms": _ms(prepared - began),
            **{f"{name}_ms": _ms(took) for name, (_, took) in zip(self._branches, judged, strict=True)},
            "branches_ms": _ms(joined - prepared),
        }
        answers = {name: answer for name, (answer, _) in zip(self._branches, judged, strict=True)}
        return await self.compute(1, _merged, answers, told if timings else None, began, joined)


async def _timed(call: Any) -> tuple[dict[str, Any], float]:
    began = time.perf_counter()
    answer = await call
    return answer, time.perf_counter() - began


def _merged(
    answers: dict[str, dict[str, Any]], told: dict[str, Any] | None, began: float, joined: float
) -> bytes:
    body: dict[str, Any] = {
        name: {"label": answer["label"], "scores": answer["scores"]} for name, answer in answers.items()
    }
    if told is not None:
        spans = {f"{name}_span": [answer["began"], answer["ended"]] for name, answer in answers.items()}
        now = time.perf_counter()
        body["usage"] = {
            "rvtop": {**told, "merge_ms": _ms(now - joined), "total_ms": _ms(now - began), **spans}
        }
    return orjson.dumps(body)


def cleaned(text: str) -> str:
    """See :class:`Preprocess`. Pure."""
    composed = unicodedata.normalize("NFC", text)
    seen = "".join(char if unicodedata.category(char)[0] != "C" else " " for char in composed)
    return re.sub(r"\s+", " ", seen).strip()


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
