"""The table of what can bind a system that serves: which figures, under which condition, in which words, and
where that is written. The first rule that holds is the verdict; what changes it is in ``verdict_knobs``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rvtop.stats.limits import CPU_LIMIT, LAG_LEAST_SHARE
from rvtop.stats.verdict_figures import FULL, Figures
from rvtop.stats.verdict_said import (
    BATCH,
    CLIENT,
    DECODE,
    KV,
    NOTHING,
    ONE_ENGINE,
    ONE_SLOT,
    PREFILL,
    REPLICAS,
    ROUTER,
)

#: Fewer requests than this that wait on average are arrivals that meet by chance.
WAITS = 1.0
#: Time outside the engine below this is a network's or a busy machine's; above, it binds where it is most of
#: the TTFT.
OUTSIDE_MS, OUTSIDE_SHARE = 20.0, 0.5
#: vLLM's scheduler fills a step up to its budget before it leaves prompts waiting; steps at the end of a
#: burst lower the mean.
STEP_FULL = 0.6
#: Where nobody tells the budget: tokens a step over requests in the batch (decoding alone has one each), and
#: tokens a step, from which on steps are mostly prompts.
PROMPTS_IN_STEP, MANY_TOKENS = 8.0, 256.0
#: A batch that is the largest ever seen for so much of the time has no more places; one that is less often
#: still moves.
FLAT, MOVES = 0.7, 0.5
#: ITL by so much longer than at half the batch or less: each request pays for the others.
ITL_GROWS = 1.5
#: A batch twice as large that makes less than so many times the tokens/s is no help.
GAINS = 1.15
#: A GPU that is used less is not what decoding waits for.
GPU_BUSY = 0.7
#: Where the engines' own queue and prefill are so much of the TTFT, and late sends below what can be seen in
#: it, a client that is late bends the small figures, but is not what requests wait for.
INSIDE_SHARE = 0.9
#: What judges a rate needs so many seconds of it.
STEADY_S = 20

_METRICS = "https://docs.vllm.ai/en/stable/usage/metrics/"
_TUNING = "https://docs.vllm.ai/en/stable/configuration/optimization/"
_SERVE = "https://docs.ray.io/en/latest/serve/monitoring.html"
_DEPLOYMENT = "https://docs.ray.io/en/latest/serve/configure-serve-deployment.html"


@dataclass(frozen=True, slots=True)
class Rule:
    """``needs``: fields of Figures without which it can't be judged. ``shows``: three figures that say so, by
    their names in ``verdict_figures.TOLD``. ``steady``: holds for one rate only. ``source``: a page, or what
    was measured."""

    name: str
    needs: tuple[str, ...]
    holds: Callable[[Figures], bool]
    shows: tuple[str, str, str]
    words: str
    source: str
    steady: bool = False


def _waits(f: Figures) -> bool:
    return (f.waiting or 0.0) >= WAITS


def _waits_anywhere(f: Figures) -> bool:
    return _waits(f) or (f.queued or 0.0) >= WAITS


def _outside(f: Figures) -> bool:
    """Whether most of the TTFT lies outside the engine: of the mean, and of the median too, so that a few
    slow ones are not all."""
    if f.inside_ms is None or f.ttft_ms is None or f.ttft_p50_ms is None:
        return False
    outside = ((ttft, ttft - f.inside_ms) for ttft in (f.ttft_ms, f.ttft_p50_ms))
    return all(ms >= OUTSIDE_MS and ms >= OUTSIDE_SHARE * ttft for ttft, ms in outside)


def _full(f: Figures) -> bool:
    return f.full is not None and f.full >= FLAT


def _for_room(f: Figures) -> bool:
    """Whether most of what waits in the engines waits for room, and that is no small part of the TTFT."""
    return _waits(f) and (f.deferred or 0.0) < 0.5 * (f.waiting or 0.0) and not _outside(f)


def _client(f: Figures) -> bool:
    """Whether our own delays are what binds, and not only what bends the small figures of requests that wait
    in the engines for longer by far."""
    if f.limited is None:
        return False
    if f.ttft_ms is None or f.inside_ms is None or f.lag_ms is None or not _waits(f):
        return True
    small = f.lag_ms < LAG_LEAST_SHARE * f.ttft_ms and (f.worker_cpu or 0.0) <= CPU_LIMIT
    return not (small and f.inside_ms >= INSIDE_SHARE * f.ttft_ms)


def _one_engine(f: Figures) -> bool:
    found = f.worst_engine
    if found is None:
        return False
    worst, waiting, ttft_ms = found
    behind = (worst.waiting or 0.0) >= max(2.0, 3.0 * waiting + 1.0)
    slow = worst.ttft_ms is not None and bool(ttft_ms) and worst.ttft_ms >= 2.0 * ttft_ms + OUTSIDE_MS
    return behind and (slow or worst.ttft_ms is None or not ttft_ms)


def _too_few_replicas(f: Figures) -> bool:
    less = any((one.wanted or 0.0) - one.replicas >= 0.5 for one in f.deployments if one.replicas is not None)
    return less and _waits_anywhere(f)


def _serve_queues(f: Figures) -> bool:
    return (f.queued or 0.0) >= WAITS and not _full(f)


def _kv(f: Figures) -> bool:
    if (f.preempts or 0.0) >= 2.0:
        return True
    if f.kv is None or not _for_room(f):
        return False
    one_more = f.kv_with_one_more or 0.0
    return f.kv >= FULL or (one_more >= FULL and f.kv >= 0.5 and not _full(f))


def _one_slot(f: Figures) -> bool:
    engines = len(f.engines) or 1
    return _waits_anywhere(f) and f.places is not None and f.places <= engines and _full(f)


def _batch(f: Figures) -> bool:
    gains = f.gain is None or f.gain >= GAINS
    return _waits_anywhere(f) and _full(f) and gains and not _outside(f)


def _flat_batch(f: Figures) -> bool:
    """Places that nobody tells of: the batch stays at the largest that was ever seen while requests wait and
    the KV cache has room."""
    if f.places is not None or f.flat is None or (f.most_running or 0.0) < 1 or not _for_room(f):
        return False
    roomy = f.kv is not None and (f.kv_with_one_more or 0.0) < 0.9
    return roomy and f.flat >= FLAT


def _prefill(f: Figures) -> bool:
    if f.step is None or f.ttft_ms is None or _outside(f):
        return False
    if f.step_most:
        full_steps = f.step >= STEP_FULL * f.step_most
    else:
        prompts = f.step >= max(MANY_TOKENS, PROMPTS_IN_STEP * (f.running or 0.0))
        full_steps = prompts and (f.flat or 0.0) < MOVES and _for_room(f)
    computed = (f.prefill_ms or 0.0) >= 0.5 * f.ttft_ms
    return full_steps and not _full(f) and (_for_room(f) or computed)


def _router(f: Figures) -> bool:
    return _outside(f) and not _full(f)


def _gathered(f: Figures) -> bool:
    """A first token that is held like all others waits for one period at most, half of it on average."""
    if f.comb_ms is None or not f.ttft_p50_ms or _waits_anywhere(f):
        return False
    return f.comb_ms >= OUTSIDE_MS and 0.5 * f.comb_ms >= 0.25 * f.ttft_p50_ms


def _decode(f: Figures) -> bool:
    if f.lower is None or f.itl_ms is None or _outside(f):
        return False
    if _waits_anywhere(f) and not (_full(f) and f.gain is not None and f.gain < GAINS):
        return False
    return f.itl_ms >= ITL_GROWS * f.lower[1] and (f.gpu is None or f.gpu >= GPU_BUSY)


def _nothing(f: Figures) -> bool:
    served = f.target_rps is None or f.completed_rps is None or f.completed_rps >= 0.85 * f.target_rps
    calm = (f.waiting or 0.0) < 0.5 and (f.queued or 0.0) < 0.5 and not f.preempts and not _outside(f)
    calm = calm and not _gathered(f)
    room = (f.kv or 0.0) < 0.8 and (f.used is None or f.used <= 0.8)
    # A batch that only grows has no room either, and a busy GPU may have none.
    level = f.growth <= max(0.2, 0.02 * (f.in_flight or 0.0))
    grown = f.lower is not None and f.itl_ms is not None and f.itl_ms >= ITL_GROWS * f.lower[1]
    idle = f.gpu is None or f.gpu < FULL or f.lower is not None
    return served and calm and room and level and idle and not grown


RULES: tuple[Rule, ...] = (
    Rule(
        CLIENT, (), _client, ("lag", "cpu", "client ttft"),
        "rvtop's own load workers delay requests or reads: the figures are the client's, not the server's",
        "rvtop's limits of a client (late sends, a blocked event loop, no core left): docs/measuring.md",
    ),
    Rule(
        ONE_ENGINE, ("worst_engine",), _one_engine, ("engine wait", "engine ttft", "batch"),
        "requests wait at one engine while the others have room: it is slower, or is sent more",
        f"vllm:num_requests_waiting of each engine, {_METRICS}",
    ),
    Rule(
        REPLICAS, ("deployments",), _too_few_replicas, ("replicas", "queue", "wait"),
        "more replicas are wanted than are healthy, and requests wait meanwhile",
        f"ray_serve_autoscaling_target_replicas (rvc: rvtop:replicas) over replica_healthy, {_SERVE}",
    ),
    Rule(
        ONE_SLOT, ("places", "running"), _one_slot, ("batch", "wait", "gpu"),
        "each engine computes one request at a time, and the others wait for it",
        "the engines' places (/rvtop/topology) against those that run; docs/topologies.md",
    ),
    Rule(
        KV, ("kv", "waiting"), _kv, ("kv", "preempts", "wait"),
        "the KV cache has no blocks for one more request: requests wait for them, or are preempted and "
        "computed again",
        f"preemption means too little KV cache space: {_TUNING}#preemption",
    ),
    Rule(
        BATCH, ("places", "running"), _batch, ("batch", "wait", "kv"),
        "all places of the batch are taken while the KV cache has room",
        f"max_num_seqs bounds the batch: {_TUNING}",
    ),
    Rule(
        BATCH, ("waiting", "kv", "running"), _flat_batch, ("flat", "wait", "kv"),
        "the batch stays at its largest while requests wait and the KV cache has room: its places seem taken",
        f"max_num_seqs bounds the batch: {_TUNING}",
    ),
    Rule(
        REPLICAS, ("queued",), _serve_queues, ("ongoing", "queue", "batch"),
        "replicas are given no more requests (max_ongoing_requests), and those wait in Serve's routers while "
        "engines have room",
        f"max_ongoing_requests, {_DEPLOYMENT}",
    ),
    Rule(
        PREFILL, ("step", "ttft_ms"), _prefill, ("steps", "prompts", "ttft"),
        "steps are full of prompt tokens: first tokens wait for their turn in the budget of a step",
        f"max_num_batched_tokens trades TTFT for ITL: {_TUNING}#chunked-prefill",
    ),
    Rule(
        ROUTER, ("outside_ms",), _router, ("ttft", "batch", "kv"),
        "most of the TTFT lies outside the engine: network, router, or the processes that speak HTTP",
        "client's TTFT less the engine's queue and prefill; measured: one H100 makes 8.3 k tok/s behind one "
        "API server and 13.4 k behind four",
    ),
    Rule(
        ROUTER, ("ttft_ms",), _gathered, ("comb", "client ttft", "batch"),
        "something between engine and client gathers tokens, the first one too, and sends them together",
        "gaps between chunks (docs/why.md); Ray Serve LLM's batcher: https://github.com/ray-project/ray/issues/59681",
    ),
    Rule(
        DECODE, ("itl_ms", "lower"), _decode, ("itl", "batch", "gpu"),
        "each step takes longer the more requests it holds: decoding is the limit, not the room for it",
        f"vllm:inter_token_latency_seconds against the batch, {_METRICS}",
        steady=True,
    ),
    Rule(
        NOTHING, ("waiting", "ttft_ms"), _nothing, ("batch", "kv", "gpu"),
        "what arrives is served at once, and there is room for more",
        f"nothing waits (vllm:num_requests_waiting), {_METRICS}",
        steady=True,
    ),
)  # fmt: skip
