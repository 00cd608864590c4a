"""What changes a verdict: the knob of each, and a topology's options with it turned. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rvtop.stats import verdict_said as names
from rvtop.stats.verdict_figures import Figures, Server

#: Topologies that run vLLM, and those whose engines compute one request at a time unless told otherwise.
VLLM = ("rvc", "rsv", "vllm")
#: Places of a batch where one at a time was the limit; tokens a step where nobody tells how many there are.
_SOME_PLACES, _SOME_TOKENS = 8, 8192
#: More of a GPU's memory leaves too little for what vLLM takes beside its cache.
_MOST_MEMORY = 0.95
#: Of the options of one topology those that every other one takes, with a value each.
_SHARED = ("--dtype", "--threads", "--max-model-len", "--max-queue", "--index", "--embedder", "--seed")
_SHARED_SWITCHES = ("--trust-remote-code",)
#: In the value of `--autoscale`: the most replicas that there may be.
_MOST_REPLICAS = re.compile(r"(^\d+:|\bmax(?:_replicas)?=)(\d+)")


@dataclass(frozen=True, slots=True)
class Knob:
    """``text`` names it on the line. ``topology`` and ``arguments`` start it so (``arguments`` None: nothing
    that rvtop could start); ``line`` is the same for a server of one's own, as its own command has it."""

    text: str
    topology: str = ""
    arguments: tuple[str, ...] | None = None
    line: str = ""


def knob_of(name: str, f: Figures, server: Server) -> Knob:
    """The knob of a verdict."""
    find = _KNOBS.get(name)
    return find(f, server) if find is not None else Knob("")


def option(arguments: Sequence[str], flag: str) -> str | None:
    """The value of an option, written either way; the last one counts, and before it the same as an
    ``--engine-arg``, as vLLM's backends have it. None where it is not given."""
    found = engine_arg(arguments, flag)
    if found is not None:
        return found
    for place, word in enumerate(arguments):
        if word == flag and place + 1 < len(arguments):
            found = arguments[place + 1]
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def engine_arg(arguments: Sequence[str], key: str) -> str | None:
    """The value of ``--engine-arg KEY=VALUE``."""
    found = None
    for value in _engine_args(arguments):
        name, _, given = value.partition("=")
        if _key(name) == _key(key):
            found = given
    return found


def with_option(arguments: Sequence[str], flag: str, value: str) -> tuple[str, ...]:
    """``arguments`` with an option set to ``value``, in place of what it was; as an ``--engine-arg`` where it
    was one, which would win."""
    if engine_arg(arguments, flag) is not None:
        return with_engine_arg(arguments, flag.lstrip("-"), value)
    return (*_without(arguments, lambda word, after: word == flag), flag, value)


def with_engine_arg(arguments: Sequence[str], key: str, value: str) -> tuple[str, ...]:
    """The same for an argument of vLLM's."""

    def is_it(word: str, after: str) -> bool:
        return word == "--engine-arg" and _key(after.partition("=")[0]) == _key(key)

    return (*_without(arguments, is_it), "--engine-arg", f"{key}={value}")


def _engine_args(arguments: Sequence[str]) -> list[str]:
    found = [word.partition("=")[2] for word in arguments if word.startswith("--engine-arg=")]
    return found + [after for word, after in pairwise(arguments) if word == "--engine-arg"]


def _key(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _without(arguments: Sequence[str], is_it: Callable[[str, str], bool]) -> list[str]:
    """``arguments`` without an option and its value."""
    kept: list[str] = []
    place = 0
    while place < len(arguments):
        word, equals, value = arguments[place].partition("=")
        after = value if equals else (arguments[place + 1] if place + 1 < len(arguments) else "")
        if word.startswith("--") and is_it(word, after):
            place += 1 if equals else 2
            continue
        kept.append(arguments[place])
        place += 1
    return kept


# -- one for each verdict --------------------------------------------------------------------


def _made(server: Server, text: str, arguments: tuple[str, ...], line: str = "") -> Knob:
    topology = server.topology if server.owned else None
    return Knob(text, topology or "", arguments if topology else None, line)


def _client(f: Figures, server: Server) -> Knob:
    remedy = (f.limited or "").rpartition(": ")[2]
    more = "ray:N" if "--workers ray:" in remedy else "auto"  # where this machine has no more to give
    return Knob(remedy or "--workers", line=f"rvtop … --workers {more}")


def _is_hf(server: Server) -> bool:
    """Whether it is a topology whose engines are not vLLM's, and take none of its options."""
    return server.topology is not None and server.topology not in VLLM


def _places(server: Server, f: Figures, most: int | None = None) -> Knob:
    each = max(server.places.values(), default=0) or math.ceil(f.most_running or 0.0)
    now = most if most is not None else each
    more = _SOME_PLACES if now <= 1 else 2 * now
    flag = "--engine-concurrency" if _is_hf(server) else "--max-num-seqs"
    if flag == "--max-num-seqs" and option(server.arguments, flag) is None:
        flag = "--engine-concurrency" if option(server.arguments, "--engine-concurrency") else flag
    arguments = with_option(server.arguments, flag, str(more))
    return _made(server, f"{flag.lstrip('-').replace('-', '_')} {now or '--'}→{more}", arguments,
                 f"vllm serve … --max-num-seqs {more}")  # fmt: skip


def _batch(f: Figures, server: Server) -> Knob:
    return _places(server, f)


def _one_slot(f: Figures, server: Server) -> Knob:
    if not _is_hf(server):
        return _places(server, f)
    kept: list[str] = []
    for place, word in enumerate(server.arguments):
        flag, equals, _ = word.partition("=")
        if flag in _SHARED:
            kept += [word] if equals else list(server.arguments[place : place + 2])
        elif word in _SHARED_SWITCHES:
            kept.append(word)
    text, line = "topology rvc (continuous batching)", "rvtop up rvc …"
    return Knob(text, "rvc", tuple(kept), line) if server.owned else Knob(text, line=line)


def _kv(f: Figures, server: Server) -> Knob:
    """Blocks that were counted out are the first cause; then a smaller type, then more of the memory."""
    if _is_hf(server):  # its cache is as large as its places need
        return _replicas_more(server)
    given = server.arguments
    for key in ("num_gpu_blocks_override", "kv_cache_memory_bytes"):
        now = engine_arg(given, key)
        if now is not None and now.isdecimal():
            more = str(2 * int(now))
            flag = f"--{key.replace('_', '-')}"
            return _made(server, f"{key} {now}→{more}", with_engine_arg(given, key, more),
                         f"vllm serve … {flag} {more}")  # fmt: skip
    used = _number(option(given, "--gpu-memory-utilization") or "")
    if used is not None and used < _MOST_MEMORY:
        more = f"{min(_MOST_MEMORY, 2 * used):g}"
        return _made(
            server,
            f"gpu_memory_utilization {used:g}→{more}",
            with_option(given, "--gpu-memory-utilization", more),
            f"vllm serve … --gpu-memory-utilization {more}",
        )
    if not server.gpus and server.topology is not None:
        return Knob("gpu_memory_utilization, which on the CPU is the share of the machine's memory")
    if option(given, "--kv-cache-dtype") in (None, "auto"):
        arguments = with_option(given, "--kv-cache-dtype", "fp8")
        return _made(server, "kv_cache_dtype fp8", arguments, "vllm serve … --kv-cache-dtype fp8")
    return _replicas_more(server)


def _prefill(f: Figures, server: Server) -> Knob:
    now = server.step_tokens
    more = 2 * now if now else _SOME_TOKENS
    arguments = with_engine_arg(server.arguments, "max_num_batched_tokens", str(more))
    return _made(server, f"max_num_batched_tokens {now or '--'}→{more}; prefix caching where prompts share",
                 arguments, f"vllm serve … --max-num-batched-tokens {more}")  # fmt: skip


def _router(f: Figures, server: Server) -> Knob:
    given = server.arguments
    if server.topology == "rsv":
        if option(given, "--stream-batching-ms") is None and "--direct-streaming" not in given:
            arguments = with_option(given, "--stream-batching-ms", "0")
            return _made(server, "stream_batching_interval_ms 50→0", arguments,
                         "experimental_configs: {stream_batching_interval_ms: 0}")  # fmt: skip
        return Knob("more replicas of Serve's ingress, or --direct-streaming")
    flags = {"rvc": "--front-processes", "vllm": "--api-server-count"}
    flag = flags.get(server.topology or "")
    if flag is not None:
        now = _number(option(given, flag) or "1") or 1
        more = str(2 * round(now))
        return _made(server, f"{flag} {now:g}→{more}", with_option(given, flag, more),
                     f"vllm serve … --api-server-count {more}")  # fmt: skip
    if server.topology is None and server.engine in (None, "vllm"):
        return Knob(
            "--api-server-count, or cores for the front end", line="vllm serve … --api-server-count 4"
        )
    return Knob("cores for the processes that speak HTTP")


def _wider(server: Server) -> Knob | None:
    """More replicas at most, where they follow the load."""
    scale = option(server.arguments, "--autoscale")
    if scale is None:
        return None
    most_text = _MOST_REPLICAS.search(scale)
    most = 2 * int(most_text[2]) if most_text else 2  # one where nothing says it
    wider = f"{scale},max={most}"
    if most_text:
        wider = f"{scale[: most_text.start(2)]}{most}{scale[most_text.end(2) :]}"
    given = with_option(server.arguments, "--autoscale", wider)
    return _made(server, f"autoscale {scale}→{wider}", given, f"autoscaling_config: {{max_replicas: {most}}}")


def _stage_more(server: Server) -> Knob:
    """One more LLM of each model: a graph's stages have replicas of their own."""
    asked = option(server.arguments, "--stage-replicas") or ""
    counts = dict(part.strip().partition("=")[::2] for part in asked.split(",") if part.strip())
    given = counts.get("llm", "")
    now = _replicas_now(server, given)
    text, line = f"llm.replicas {now}→{now + 1}", f"rvtop set llm.replicas={now + 1}"
    if any(word.partition("=")[0] == "--auto" for word in server.arguments):
        return Knob(text, line=line)  # which takes no --stage-replicas
    wanted = ",".join(f"{stage}={count}" for stage, count in (counts | {"llm": str(now + 1)}).items())
    return _made(server, text, with_option(server.arguments, "--stage-replicas", wanted), line)


def _replicas_now(server: Server, given: str) -> int:
    """Of a model. Most servers say it themselves: they may have been started elsewhere, or changed since."""
    return server.replicas or (int(given) if given.isdecimal() else 1)


def _replicas_more(server: Server) -> Knob:
    wider = _wider(server)
    if wider is not None:
        return wider
    if server.topology == "graph":
        return _stage_more(server)
    if "--auto-place" in server.arguments:  # which takes no --num-replicas
        return Knob("GPUs: --auto-place has planned replicas for all that there are")
    now = _replicas_now(server, option(server.arguments, "--num-replicas") or "")
    given = with_option(server.arguments, "--num-replicas", str(now + 1))
    if server.topology in (None, "baseline", "vllm"):
        return Knob("another server beside it, or quantisation", line="vllm serve … --data-parallel-size 2")
    return _made(server, f"num_replicas {now}→{now + 1}", given)


def _decode(f: Figures, server: Server) -> Knob:
    return _replicas_more(server)


def _replicas(f: Figures, server: Server) -> Knob:
    given = server.arguments
    if any((one.wanted or 0.0) - one.replicas >= 0.5 for one in f.deployments if one.replicas is not None):
        return Knob("replicas that start: their log, and room for them in the cluster")
    now = option(given, "--max-ongoing")
    if now is not None and now.isdecimal():
        most = max(server.places.values(), default=0)
        more = str(most if most > int(now) else 2 * int(now))
        return _made(server, f"max_ongoing_requests {now}→{more}", with_option(given, "--max-ongoing", more),
                     f"max_ongoing_requests: {more}")  # fmt: skip
    wider = _wider(server)
    if wider is not None:
        return wider
    if server.topology is None:
        return Knob("max_ongoing_requests, or more replicas", line="max_ongoing_requests: 64")
    return _replicas_more(server)


def _one_engine(f: Figures, server: Server) -> Knob:
    found = f.worst_engine
    return Knob(f"the log of {found[0].name}" if found else "its log")


def _nothing(f: Figures, server: Server) -> Knob:
    return Knob("↑ more load")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_KNOBS: Mapping[str, Callable[[Figures, Server], Knob]] = {
    names.CLIENT: _client,
    names.ROUTER: _router,
    names.BATCH: _batch,
    names.KV: _kv,
    names.PREFILL: _prefill,
    names.DECODE: _decode,
    names.REPLICAS: _replicas,
    names.ONE_SLOT: _one_slot,
    names.ONE_ENGINE: _one_engine,
    names.NOTHING: _nothing,
}
