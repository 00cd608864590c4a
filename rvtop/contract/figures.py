"""The one table of what engines tell of themselves. Telemetry, the screen, its help, the plain lines and the
summary read it, so a new figure is one entry of ``FIGURES``.

A figure has one key here and many names out there: vLLM's own (``vllm:…``), our Hugging Face engines'
(``rvtop:…``, same suffixes where the meaning is the same), and both again as Ray re-exports them
(``ray_vllm_…`` since Ray sanitises the colon, ``ray_vllm:…`` before that). Exporters add ``_total`` to
counters and ``_bucket``/``_sum``/``_count`` to histograms; the reader takes counters with and without.
Names checked against vLLM 0.29's ``v1/metrics/loggers.py``; older names stand after newer ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["gauge", "counter", "histogram", "share", "info"]
Combine = Literal["sum", "max"]
Format = Literal["count", "percent", "bytes", "ms", "split"]

#: Between a figure's key and the value of its label: ``waiting_by_reason/capacity``.
SPLIT = "/"

#: Chunks count as tokens while their ratio to the server's usage is this close to 1: a server may put several
#: tokens into a chunk, and its gaps are no ITL then.
RATIO_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One figure of an engine. The first four fields say what is read:

    ``suffixes`` are its names without prefix, the preferred first: when a page holds two of them for one
    engine (old and new during a deprecation) only the first counts. ``unit`` is that of the page.
    ``combine`` says how engines, and several series of one engine, make one figure. ``skip`` drops
    series by label: {label: values not counted}. ``label`` splits a gauge or counter: one value for each
    value of that label, under the key ``key/value``. ``buckets``: of a histogram whose mean is enough only
    the sum and the count are read. A ``share`` is no series: it is the first of its ``parts`` over the
    second, over all engines that of the sums; ``rest``: what is missing to 1. With a ``label`` there
    is one for each value of the first part's. An ``info`` is told by labels alone (``telemetry.adapters``).

    The others say where it is shown; without ``heading`` it is nowhere. Counters count since rvtop began to
    watch, means of histograms cover the last 10 s. ``format`` "split": each label's share of all. ``row``:
    its importance as a column of an engine's row (1 first, 0: none). ``foot``: below the engines, all
    together. ``plain``: its name in the plain lines, where it stands if it is told, or ``always``.
    ``alarm``: above 0 it wants attention. ``summary``: its name in the summary's ``server`` block.
    """

    key: str
    kind: Kind
    suffixes: tuple[str, ...]
    unit: str
    help: str
    combine: Combine = "sum"
    skip: Mapping[str, frozenset[str]] = field(default_factory=dict)
    label: str = ""
    buckets: bool = True
    parts: tuple[str, ...] = ()
    rest: bool = False
    heading: str = ""
    format: Format = "count"
    row: int = 0
    foot: bool = False
    plain: str = ""
    always: bool = False
    alarm: bool = False
    summary: str = ""

    @property
    def scale(self) -> float:
        """What a value on the page is multiplied by where it is shown: seconds become milliseconds."""
        return 1000.0 if self.unit == "s" else 1.0


_NOT_OK = {"finished_reason": frozenset({"abort", "error"})}

#: In the order in which the screen shows them.
FIGURES: tuple[Figure, ...] = (
    Figure(
        "running", "gauge", ("num_requests_running",), "requests",
        "Requests that the engine computes on now: its batch.",
        heading="run", row=2, plain="running", always=True, summary="running_max",
    ),
    Figure(
        "waiting", "gauge", ("num_requests_waiting",), "requests",
        "Requests that arrived at the engine and wait for a place in its batch.",
        heading="wait", row=1, plain="waiting", always=True, alarm=True, summary="waiting_max",
    ),
    Figure(
        "kv_usage", "gauge", ("kv_cache_usage_perc", "gpu_cache_usage_perc"), "share 0..1",
        "Share of the KV-cache blocks in use; near 1 requests wait or are preempted. Of several engines the "
        "fullest.",
        "max", heading="KV", format="percent", plain="KV", always=True, summary="kv_cache_usage",
    ),
    Figure(
        "kv_bytes", "gauge", ("kv_cache_bytes",), "bytes",
        "Bytes of keys and values that live sequences hold (Hugging Face engines).",
        heading="KV held", format="bytes",
    ),
    Figure(
        "alloc_reserved", "gauge", ("allocator_reserved_bytes",), "bytes",
        "Memory that the engine's allocator took from the device.",
    ),
    Figure(
        "alloc_allocated", "gauge", ("allocator_allocated_bytes",), "bytes",
        "Memory that live tensors of the engine occupy.",
    ),
    Figure(
        "generation_tokens", "counter", ("generation_tokens",), "tokens",
        "Output tokens made since the server began; its growth is the server's tokens/s.",
    ),
    Figure(
        "prompt_tokens", "counter", ("prompt_tokens",), "tokens",
        "Prompt tokens taken in since the server began, cached ones included.",
    ),
    Figure(
        "cached_tokens", "counter", ("prompt_tokens_cached",), "tokens",
        "Prompt tokens that came from the prefix cache instead of being computed.",
    ),
    Figure(
        "prefix_queries", "counter", ("prefix_cache_queries", "gpu_prefix_cache_queries"), "tokens",
        "Prompt tokens looked up in the prefix cache.",
    ),
    Figure(
        "prefix_hits", "counter", ("prefix_cache_hits", "gpu_prefix_cache_hits"), "tokens",
        "Prompt tokens found in the prefix cache.",
    ),
    Figure(
        "prefix_hit_rate", "share", (), "share 0..1",
        "Share of the prompt tokens looked up in the prefix cache that were found there.",
        parts=("prefix_hits", "prefix_queries"),
        heading="prefix hits", format="percent", foot=True, summary="prefix_cache_hit_rate",
    ),
    Figure(
        "preemptions", "counter", ("num_preemptions",), "requests",
        "Running requests put back into the queue because the KV cache was full; they compute again.",
        heading="pre", row=3, foot=True, alarm=True, summary="preemptions",
    ),
    Figure("drafts", "counter", ("spec_decode_num_drafts",), "drafts", "Steps that drafted tokens ahead."),
    Figure(
        "accepted_at", "counter", ("spec_decode_num_accepted_tokens_per_pos",), "tokens",
        "Drafts that held, by their place behind the last token.", label="position",
    ),
    Figure("drafted", "counter", ("spec_decode_num_draft_tokens",), "tokens", "Tokens drafted ahead."),
    Figure("accepted", "counter", ("spec_decode_num_accepted_tokens",), "tokens", "Drafts that held."),
    Figure(
        "acceptance", "share", (), "share 0..1", "Share of drafted tokens that held.",
        parts=("accepted", "drafted"),
        heading="accepted", format="percent", foot=True, plain="accepted", summary="draft_acceptance_rate",
    ),
    Figure(
        "acceptance_at", "share", (), "share 0..1",
        "Of all drafts, the share whose token at a position held: 0 is the first one drafted.",
        parts=("accepted_at", "drafts"), label="position",
        heading="accepted at", format="percent", foot=True, summary="draft_acceptance_by_position",
    ),
    Figure(
        "adapters_running", "info", ("lora_requests_info",), "adapters",
        "LoRA adapters that the engine computes with now, and in how many engines.",
        label="running_lora_adapters", heading="adapters", foot=True,
    ),
    Figure(
        "adapters_waiting", "info", ("lora_requests_info",), "adapters",
        "LoRA adapters whose requests wait, and in how many engines: for a place in the batch, which has "
        "vLLM's max_loras.",
        label="waiting_lora_adapters", heading="adapters waiting", foot=True,
    ),
    Figure(
        "fragmentation", "share", (), "share 0..1",
        "Share of the memory that an engine's allocator holds and no live tensor occupies: fragments between "
        "KV caches that grow and go, and blocks kept for later (Hugging Face engines on GPUs).",
        parts=("alloc_allocated", "alloc_reserved"), rest=True,
        heading="frag", format="percent", row=4, foot=True, plain="frag", summary="allocator_fragmentation",
    ),
    Figure(
        "queue_time", "histogram", ("request_queue_time_seconds",), "s",
        "Mean time that requests waited in the engine before they were first computed on.", buckets=False,
        heading="queue", format="ms", foot=True, summary="queue_time_ms_mean",
    ),
    Figure(
        "prefill_time", "histogram", ("request_prefill_time_seconds",), "s",
        "Mean time from the start of a request's computation to its first token.", buckets=False,
        heading="prefill", format="ms", foot=True, summary="prefill_time_ms_mean",
    ),
    Figure(
        "decode_time", "histogram", ("request_decode_time_seconds",), "s",
        "Mean time from a request's first token to its last.", buckets=False,
        heading="decode", format="ms", foot=True, summary="decode_time_ms_mean",
    ),
    Figure(
        "step_tokens", "histogram", ("iteration_tokens_total",), "tokens",
        "Mean tokens, of prompts and of answers, that one step of the engine computes.", buckets=False,
        heading="step tokens",
    ),
    Figure(
        "waiting_by_reason", "gauge", ("num_requests_waiting_by_reason",), "requests",
        "Waiting requests by reason: capacity (the batch or the KV cache is full), deferred (LoRA budget, KV "
        "transfer, blocked).",
        label="reason", heading="waiting for", foot=True, alarm=True, plain="waiting for",
        summary="waiting_by_reason_max",
    ),
    Figure(
        "prompt_tokens_by_source", "counter", ("prompt_tokens_by_source",), "tokens",
        "Where prompt tokens came from: computed, the engine's own prefix cache, another engine's KV cache.",
        label="source", heading="prompts from", format="split", foot=True, plain="prompts from",
        summary="prompt_tokens_by_source",
    ),
    Figure(
        "requests_ok", "counter", ("request_success",), "requests",
        "Requests that ended well (stop or length), by the server's count.", skip=_NOT_OK,
    ),
    Figure(
        "ttft", "histogram", ("time_to_first_token_seconds",), "s",
        "Time to first token as the server sees it: from the request's arrival there, no network.",
    ),
    Figure(
        "itl", "histogram", ("inter_token_latency_seconds", "time_per_output_token_seconds"), "s",
        "Time between two tokens of one request, as the server sees it; one event a token.",
    ),
    Figure(
        "e2e", "histogram", ("e2e_request_latency_seconds",), "s",
        "Time from a request's arrival at the server to its last token.",
    ),
)  # fmt: skip

BY_KEY: Mapping[str, Figure] = {figure.key: figure for figure in FIGURES}
#: Those that are shown somewhere.
SHOWN: tuple[Figure, ...] = tuple(figure for figure in FIGURES if figure.heading)


def of_name(name: str) -> Figure:
    """The figure of a key or of ``key/value``. Raises KeyError."""
    return BY_KEY[name.partition(SPLIT)[0]]


def shown(values: Mapping[str, float]) -> dict[str, float]:
    """What the screen needs of ``values`` by key: shares made of their parts, the rest left out."""
    made = {}
    for figure in SHOWN:
        if figure.parts:
            for name, part in _first_parts(figure, values):
                share = share_of(figure, part, values.get(figure.parts[1]))
                if share is not None:
                    made[name] = share
        elif figure.key in values:
            made[figure.key] = values[figure.key]
    made.update((name, value) for name, value in values.items() if SPLIT in name)
    return made


def _first_parts(figure: Figure, values: Mapping[str, float]) -> list[tuple[str, float | None]]:
    """(key of a share, its first part): one, or one for each value of the label."""
    first = figure.parts[0]
    if not figure.label:
        return [(figure.key, values.get(first))]
    found = ((name.partition(SPLIT), value) for name, value in values.items())
    return [
        (f"{figure.key}{SPLIT}{label}", value)
        for (key, split, label), value in found
        if split and key == first
    ]


def share_of(figure: Figure, part: float | None, whole: float | None) -> float | None:
    """A share, 0..1, of its parts; None while one is missing or there is nothing to have a share of."""
    if part is None or not whole:
        return None
    share = min(1.0, part / whole)
    return 1.0 - share if figure.rest else share


def combined(engines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One value for each key that an engine tells of, by the figures' ``combine``."""
    made: dict[str, float] = {}
    for values in engines:
        for name, value in values.items():
            if name not in made:
                made[name] = value
            elif of_name(name).combine == "max":
                made[name] = max(made[name], value)
            else:
                made[name] += value
    return made


def split(figure: Figure, values: Mapping[str, float]) -> list[tuple[str, float]]:
    """What there is of a figure with a label: (label's value, share or count), without counts that are 0."""
    start, zeros = figure.key + SPLIT, figure.kind == "share"
    found = [
        (name[len(start) :], value)
        for name, value in values.items()
        if name.startswith(start) and (value or zeros)
    ]
    if figure.format != "split":
        return found
    total = sum(value for _, value in found)
    return [(name, value / total) for name, value in found]


def texts(
    figures: Iterable[Figure], values: Mapping[str, float], write: Mapping[str, Callable[[float | None], str]]
) -> Iterator[tuple[Figure, list[str]]]:
    """Each of ``figures`` that ``values`` tells of, as text: one, or one for each value of its label.
    ``write`` has a function for each format."""
    for figure in figures:
        if figure.label:
            parts = [f"{name} {write[figure.format](value)}" for name, value in split(figure, values)]
            if parts:
                yield figure, parts
        elif figure.key in values:
            yield figure, [write[figure.format](values[figure.key])]
