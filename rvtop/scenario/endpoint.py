"""Which endpoint a scenario speaks to, and what of the scenario does not go with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rvtop.load.plan.api import KINDS, NO_TURNS, Api
from rvtop.scenario.part import Mistake

EndpointName = Literal["chat", "completions", "responses", "messages", "embeddings", "rerank"]

#: Figures that an answer in one piece does not have.
_OF_TOKENS = ("ttft_", "itl_", "tpot_")


def endpoint_mistakes(data: Mapping[str, Any]) -> Iterator[Mistake]:
    """What of a scenario file's own data contradicts its ``endpoint``, ``stream`` or ``batch``."""
    name, stream = data.get("endpoint"), data.get("stream", True)
    if name is not None and not (isinstance(name, str) and name in KINDS):  # told as a wrong value
        return
    if data.get("batch") is not None and name not in ("embeddings", "rerank"):
        yield Mistake(
            "is for endpoint: embeddings (texts a request) or rerank (documents a request)", "batch"
        )
    if "stream" in data and name in ("embeddings", "rerank"):
        yield Mistake(f"is of endpoints that make tokens: {name} answers in one piece", "stream")
    workload = data.get("workload")
    if isinstance(workload, Mapping):
        yield from _of_workload(name, workload)
    if Api(name or "", stream is not False).whole:
        words = f"endpoint: {name}" if name in ("embeddings", "rerank") else "stream: false"
        yield from _of_figures(data, words)


def _of_workload(name: str | None, workload: Mapping[str, Any]) -> Iterator[Mistake]:
    turns = workload.get("turns", 1)
    several = (isinstance(turns, int) and turns > 1) or isinstance(turns, Mapping)
    for key, there in (("turns", several), ("multi_turn", workload.get("multi_turn") is True)):
        if there and name in NO_TURNS:
            yield Mistake(
                f"endpoint: {name} has no conversations; use chat, responses or messages", ("workload", key)
            )
    if workload.get("kind") == "tasks" and name in NO_TURNS:
        yield Mistake(
            f"tasks are conversations, which endpoint: {name} has not; use chat, responses or messages",
            ("workload", "kind"),
        )
    if workload.get("where") == "server" and name not in (None, "chat"):
        yield Mistake(f"server goes with endpoint: chat, not with {name}", ("workload", "where"))


def _of_figures(data: Mapping[str, Any], words: str) -> Iterator[Mistake]:
    slo, thresholds = data.get("slo"), data.get("thresholds")
    if data.get("stop_when_saturated") is True:
        yield Mistake(
            f"{words} has no first token, whose growth tells over-saturation", "stop_when_saturated"
        )
    for key in ("ttft_ms", "tpot_ms"):
        if isinstance(slo, Mapping) and slo.get(key) is not None:
            yield Mistake(f"{words} has no first token, so nothing to limit; use e2e_ms", ("slo", key))
    for key in thresholds if isinstance(thresholds, Mapping) else ():
        if str(key).startswith(_OF_TOKENS):
            yield Mistake(
                f"{words} has no such figure; use e2e_p99_ms and its like", ("thresholds", str(key))
            )
