"""What is kept of one request, and its line in ``requests.jsonl``.

Times are integer nanoseconds from the run's start on the monotonic clock; ``None`` is "never happened".
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from rvtop.load.native.loader import bucket_counter
from rvtop.stats.distribution import BUCKETS
from rvtop.stats.histogram import LAST_NS, bucket_of
from rvtop.text import printable

#: Every way a request can end other than well; ``http_<code>`` stands beside these.
ERRORS = (
    "dns",
    "tls",
    "refused",
    "timeout_connect",
    "timeout_ttft",
    "stalled",
    "reset",
    "stream_error",
    "bad_stream",
    "truncated",
    "empty",
    "cancelled",
    "dropped",
    "unfinished",
    "worker_lost",
    "client_limit",
)

#: Longest error text kept of one request.
TEXT_LIMIT = 300


_EDGES = LAST_NS.tobytes()


class Record:
    """One request from its intended time to its end. Filled by the client, read once at the end."""

    __slots__ = (
        "arm",
        "body",
        "cached_tokens",
        "chunks",
        "engine",
        "error",
        "error_text",
        "finish",
        "first_ns",
        "gaps",
        "headers_ns",
        "intended_ns",
        "last_ns",
        "model",
        "output_tokens",
        "phase",
        "prompt",
        "prompt_tokens",
        "sent_ns",
        "seq",
        "server",
        "target",
        "task",
        "turn",
    )

    def __init__(self, seq: int, phase: int, model: int, prompt: int, intended_ns: int) -> None:
        self.seq = seq
        self.phase = phase  # index into the plan's phases
        self.model = model  # index into the plan's models
        self.prompt = prompt  # index into prompts.jsonl
        self.intended_ns = intended_ns
        self.sent_ns = 0
        self.headers_ns = 0
        self.first_ns = 0
        self.last_ns = 0
        self.gaps = array("q")  # ns between token chunks, in order
        self.chunks = 0
        self.output_tokens: int | None = None  # the server's usage
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.finish: str | None = None
        self.engine: str | None = None
        self.arm: str | None = None  # which of several models behind one name answered
        self.server: dict[str, Any] | None = None  # usage.rvtop, if any
        self.error: str | None = None
        self.error_text = ""
        self.target = 0  # number of the target that it was made for
        self.turn: int | None = None  # of a conversation, from 0
        self.task: dict[str, Any] | None = None  # of a task: what its line says of the step
        self.body: list[bytes] | None = None  # the body as it came, where a next turn needs it

    def fail(self, kind: str, text: str = "") -> None:
        """Notes why the request ended; the first reason stays."""
        if self.error is None:
            self.error = kind
            self.error_text = printable(" ".join(text[: 4 * TEXT_LIMIT].split()), TEXT_LIMIT)

    @property
    def tokens(self) -> int:
        """Output tokens: the server's usage, else the chunks that were counted."""
        return self.chunks if self.output_tokens is None else self.output_tokens

    @property
    def told_tokens(self) -> int | None:
        """Output tokens of an answer in one piece that ended well; None of any other and without any."""
        return self.output_tokens if self.last_ns and not self.first_ns and self.error is None else None

    @property
    def from_usage(self) -> bool:
        """Whether the server counted: the output tokens, or the input of an answer that has none."""
        in_one_piece = bool(self.last_ns) and not self.first_ns
        return self.output_tokens is not None or (in_one_piece and self.prompt_tokens is not None)


def lines(
    records: Sequence[Record], t0_ns: int, phases: Sequence[str], models: Sequence[str], worker: int
) -> bytes:
    """The records' lines in ``requests.jsonl``."""
    if not records:
        return b""
    out = []
    for record, hist in zip(records, _gap_counts(records), strict=True):

        def since(ns: int) -> int | None:
            return ns - t0_ns if ns else None

        more: dict[str, Any] = {} if record.turn is None else {"turn": record.turn}
        if record.task is not None and record.turn is not None:
            more["task"] = {"id": record.seq - record.turn, **record.task}
        if record.target:
            more["target"] = record.target
        if record.arm is not None:
            more["arm"] = record.arm
        out.append(
            orjson.dumps(
                {
                    "id": record.seq,
                    "phase": phases[record.phase],
                    "model": models[record.model],
                    "worker": worker,
                    "engine": record.engine,
                    "prompt": record.prompt,
                    **more,
                    "intended_ns": record.intended_ns - t0_ns,
                    "sent_ns": since(record.sent_ns),
                    "headers_ns": since(record.headers_ns),
                    "first_token_ns": since(record.first_ns),
                    "last_token_ns": since(record.last_ns),
                    "itl_hist": hist,
                    "prompt_tokens": record.prompt_tokens,
                    "output_tokens": record.tokens if record.first_ns else record.told_tokens,
                    "cached_tokens": record.cached_tokens,
                    "chunks": record.chunks,
                    "token_source": "usage" if record.from_usage else "chunks",
                    "server": record.server,
                    "finish": record.finish,
                    "error": record.error,
                    "error_text": record.error_text or None,
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
        )
    return b"".join(out)


def _gap_counts(records: Sequence[Record]) -> list[Any]:
    """Each record's gaps as [bucket, count] pairs, for orjson."""
    count = bucket_counter(_EDGES)
    if count is not None:
        return [orjson.Fragment(count(record.gaps)) for record in records]
    # Binned all at once: one pass for a batch costs a twentieth of one pass a record.
    sizes = [len(record.gaps) for record in records]
    owner = np.repeat(np.arange(len(records)), sizes)
    gaps = np.concatenate([np.asarray(record.gaps, dtype=np.int64) for record in records])
    keys, counts = np.unique(owner * BUCKETS + bucket_of(gaps), return_counts=True)
    out: list[list[list[int]]] = [[] for _ in records]
    for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
        out[key // BUCKETS].append([key % BUCKETS, n])
    return out
