"""The stages of topology `graph`: flags -> :class:`GraphOptions`. Stdlib only."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from backends.errors import UsageError

#: In the order in which a request with `rag` passes them; then comes the LLM.
RETRIEVAL = ("embed", "search", "rerank")
LLM = "llm"
#: Those of ``/analyze``: the two in the middle at the same time.
ANALYSIS = ("preprocess", "sentiment", "topic", "merge")
STAGES = (*RETRIEVAL, LLM, *ANALYSIS)
STORES = ("faiss", "lancedb")
#: What orders passages without a model; ``none`` leaves the stage out.
WORDS, NO_RERANKER = "words", "none"
MOST_REPLICAS = 32
PROFILE_S = 30.0

#: Those that other topologies refuse, as argparse names them.
_FLAGS = (
    *("stage_replicas", "auto", "vector_store", "reranker", "no_analyze"),
    *("embed_batch", "embed_batch_wait"),
)


@dataclass(frozen=True)
class GraphOptions:
    """``replicas`` of each stage, 1 where it is not named. ``profile_s`` is for how many seconds the stages
    are measured before the cores (or GPUs) are split over them, None: they are not. ``reranker`` is
    ``words``, ``none``, or a cross-encoder's folder or Hub id. ``embed_batch`` questions at most are embedded
    in one call, the first of which waits up to ``embed_wait_s`` for the others."""

    replicas: Mapping[str, int] = field(default_factory=dict)
    profile_s: float | None = None
    store: str = STORES[0]
    reranker: str = WORDS
    analyze: bool = True
    embed_batch: int = 16
    embed_wait_s: float = 0.002

    def first(self, stage: str) -> int:
        """Its replicas at the start."""
        return self.replicas.get(stage, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own, without defaults, so that giving one shows."""
    add = parser.add_argument_group("Stages (topology graph)").add_argument
    add("--stage-replicas", metavar="STAGE=N,…", help=f"replicas of {', '.join(STAGES)} (default: 1 each)")
    add(
        "--auto",
        nargs="?",
        type=float,
        const=PROFILE_S,
        metavar="SECONDS",
        help=f"measure the stages for so long ({PROFILE_S:g}), then split cores or GPUs over them",
    )
    add("--vector-store", metavar="STORE", help=f"what searches the vectors: {', '.join(STORES)}")
    add(
        "--reranker",
        metavar="MODEL",
        help=f"a cross-encoder's folder or Hub id, `{WORDS}` (BM25 over the passages) or `{NO_RERANKER}`",
    )
    add("--no-analyze", action="store_const", const=True, help="leave /analyze and its stages out")
    add("--embed-batch", type=int, metavar="N", help="questions embedded in one call at most (16)")
    add("--embed-batch-wait", type=float, metavar="S", help="seconds that the first of them waits (0.002)")


def from_args(args: argparse.Namespace) -> GraphOptions:
    """Raises UsageError."""
    given = {
        "replicas": _replicas(args.stage_replicas) if args.stage_replicas is not None else None,
        "profile_s": args.auto,
        "store": args.vector_store,
        "reranker": args.reranker,
        "analyze": False if args.no_analyze else None,
        "embed_batch": args.embed_batch,
        "embed_wait_s": args.embed_batch_wait,
    }
    options = GraphOptions(**{name: value for name, value in given.items() if value is not None})
    if options.profile_s is not None:
        if not 1 <= options.profile_s < math.inf:
            raise UsageError(f"--auto {options.profile_s:g}: must be a number of seconds, 1 or more")
        if options.replicas:
            raise UsageError("--stage-replicas: --auto says how many there are; leave one of the two out")
    if options.store not in STORES:
        raise UsageError(f"--vector-store {options.store}: must be one of {', '.join(STORES)}")
    if options.embed_batch < 1:
        raise UsageError(f"--embed-batch {options.embed_batch}: must be at least 1")
    if not 0 <= options.embed_wait_s < math.inf:
        raise UsageError(
            f"--embed-batch-wait {options.embed_wait_s:g}: must be a number of seconds, 0 or more"
        )
    for stages, missing, why in (
        (ANALYSIS, not options.analyze, "--no-analyze"),
        (("rerank",), options.reranker == NO_RERANKER, f"--reranker {NO_RERANKER}"),
    ):
        named = next((stage for stage in stages if missing and stage in options.replicas), None)
        if named is not None:
            raise UsageError(f"--stage-replicas {named}: {why} leaves it out; leave one of the two out")
    return options


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when one of the flags is given to a topology without stages."""
    for name in _FLAGS:
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for topology graph: {topology} has no stages")


def _replicas(text: str) -> dict[str, int]:
    """``STAGE=N,…``. Raises UsageError."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, count = part.partition("=")
        if not equals or name not in STAGES or name in found:
            raise UsageError(
                f"--stage-replicas {part!r}: write STAGE=N, each of {', '.join(STAGES)} once, such as embed=2"
            )
        found[name] = int(count) if count.isdecimal() else 0
        if not 1 <= found[name] <= MOST_REPLICAS:
            raise UsageError(f"--stage-replicas {part!r}: must be a whole number from 1 to {MOST_REPLICAS}")
    return found
