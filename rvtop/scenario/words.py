"""A workload in plain words, for ``rvtop scenario explain``."""

from __future__ import annotations

from rvtop.load.plan.api import KINDS, Api
from rvtop.scenario.lengths import Lengths
from rvtop.scenario.units import human_duration
from rvtop.scenario.workload import (
    PluginWorkload,
    PromptsWorkload,
    RagWorkload,
    SyntheticWorkload,
    TasksWorkload,
    TraceWorkload,
    Workload,
)


def sends_words(workload: Workload) -> str:
    """What is sent: where prompts come from, how long they and their answers are."""
    if isinstance(workload, RagWorkload):
        words = _rag(workload)
    elif isinstance(workload, PromptsWorkload):
        words = _prompts(workload)
    elif isinstance(workload, SyntheticWorkload):
        words = _synthetic(workload)
    elif isinstance(workload, TasksWorkload):
        words = _tasks(workload)
    elif isinstance(workload, PluginWorkload):
        words = f"prompts of the plugin {workload.name}, {_output(workload, f'{workload.max_tokens} tokens')}"
    else:
        words = _trace(workload)
    temperature = "" if workload.temperature is None else f", temperature {workload.temperature:g}"
    return words + temperature


def endpoint_words(api: Api) -> str:
    """Which endpoint is spoken, and what its requests hold."""
    path = KINDS[api.name].path if api.name else "chat or completions, as the prompts are"
    unsent = "output lengths are not sent"
    if api.name == "embeddings":
        return f"{path}, {api.texts} text{'s' if api.texts > 1 else ''} a request; {unsent}"
    if api.name == "rerank":
        where = "the prompts that follow, or a row's own"
        return f"{path}, {api.texts} documents a request ({where}); {unsent}"
    return path if api.stream else f"{path}, answers in one piece"


def output_words(workload: Workload, requests: float) -> str:
    """How many tokens ``requests`` requests (or conversations) ask for, as the end of a sentence."""
    turns, mean = workload.turns_mean, workload.output_mean
    one = "task" if isinstance(workload, TasksWorkload) else "conversation"
    if turns is None:
        return f", each a {one} of as many requests as recorded"
    more = f", each a {one} of {_turns(workload)}" if turns > 1 else ""
    if mean is None:
        return f"{more}, output tokens as recorded"
    # A conversation that the phase's end cuts short asks for less.
    bound = "at most " if turns > 1 or not workload.ignore_eos else ""
    lengths: tuple[object, ...] = ()
    if isinstance(workload, SyntheticWorkload):
        lengths = workload.output_tokens, workload.turns
    elif isinstance(workload, TasksWorkload):
        lengths = workload.output_tokens, workload.steps
    drawn = any(isinstance(length, Lengths) for length in lengths)
    return f"{more}, {bound}{'about ' if drawn else ''}{requests * turns * mean:,.0f} output tokens"


def _output(workload: Workload, tokens: str) -> str:
    return f"{tokens} out" if workload.ignore_eos else f"at most {tokens} out"


def _rag(workload: RagWorkload) -> str:
    source = (
        "the sample questions" if workload.questions == "sample" else f"questions of {workload.questions}"
    )
    where = "before the load starts" if workload.where == "client" else "by the server"
    length = _output(workload, f"{workload.max_tokens} tokens")
    return f"{source}, {workload.top_k} passages each retrieved {where}, {length}"


def _prompts(workload: PromptsWorkload) -> str:
    first = f"the first {workload.limit:,} " if workload.limit is not None else ""
    if not workload.sharegpt:
        return f"{first}prompts of {workload.file}, {_output(workload, f'{workload.output_limit} tokens')}"
    tokens = "as many tokens as the recorded answer (taken as a token per 4 bytes)"
    if workload.max_tokens is not None:
        tokens = f"{workload.max_tokens} tokens"
    length = _output(workload, tokens)
    if not workload.multi_turn:
        return f"{first}first questions of the ShareGPT conversations in {workload.file}, {length}"
    think = (
        f", {human_duration(workload.think_s)} to think before each next question" if workload.think_s else ""
    )
    return f"{first}ShareGPT conversations of {workload.file} with their recorded answers{think}, {length}"


def _synthetic(workload: SyntheticWorkload) -> str:
    words = f"made-up prompts of {_tokens(workload.prompt_tokens)}"
    if workload.prefix_tokens is not None:
        whose = f"{100 * workload.prefix_share:.4g} % of them" if workload.prefix_share < 1 else "all"
        one = "a shared prefix" if workload.prefixes == 1 else f"one of {workload.prefixes} shared prefixes"
        words += f", {whose} after {one} of {workload.prefix_tokens} tokens more"
    if workload.turns_mean > 1:
        words += f", in conversations of {_turns(workload)}"
        if workload.think_s:
            words += f" with {human_duration(workload.think_s)} to think between them"
    return f"{words}, {_output(workload, _tokens(workload.output_tokens))}"


def _tasks(workload: TasksWorkload) -> str:
    if workload.file is not None:
        first = f"the first {workload.limit:,} " if workload.limit is not None else ""
        length = _output(workload, f"{workload.output_limit} tokens")
        return f"{first}tasks of {workload.file}, {length} where a step says no other"
    assert workload.prompt_tokens is not None and workload.growth_tokens is not None
    assert workload.output_tokens is not None
    words = f"{workload.count:,} made-up tasks of {_turns(workload)}: a prompt of "
    words += _tokens(workload.prompt_tokens)
    if workload.prefix_tokens is not None:
        words += f" after a shared prefix of {workload.prefix_tokens} more"
    words += f", then {_tokens(workload.growth_tokens)} more a step"
    if workload.tool_ms is not None:
        drawn = workload.tool_ms
        words += f", a tool of {drawn if isinstance(drawn, int) else _drawn(drawn)} ms before each"
    if workload.fan_share is not None:
        wide = workload.fan_out if isinstance(workload.fan_out, int) else _drawn(workload.fan_out)
        words += f", {wide} branches before {100 * workload.fan_share:.4g} % of them"
    return f"{words}, {_output(workload, _tokens(workload.output_tokens))}"


def _trace(workload: TraceWorkload) -> str:
    kind = f"{workload.format} " if workload.format is not None else ""
    first = f"the first {workload.limit:,}" if workload.limit is not None else "the"
    words = f"{first} requests of the {kind}trace {workload.file}"
    if workload.start_s:
        words += f" from {human_duration(workload.start_s)} on"
    words += " at their recorded times, made-up prompts of the recorded lengths"
    if workload.max_prompt_tokens is not None:
        words += f" (cut at {workload.max_prompt_tokens:,} tokens)"
    return f"{words}, {_output(workload, 'as many tokens as recorded')}"


def _turns(workload: Workload) -> str:
    turns: int | Lengths = 1
    if isinstance(workload, SyntheticWorkload):
        turns = workload.turns
    elif isinstance(workload, TasksWorkload):
        turns = workload.steps
    return f"{turns} requests" if isinstance(turns, int) else f"{_drawn(turns)} requests"


def _tokens(length: int | Lengths) -> str:
    return f"{length} tokens" if isinstance(length, int) else f"{_drawn(length)} tokens"


def _drawn(length: Lengths) -> str:
    """``600 ± 100 (normal, 1 to 2,048)``."""
    if length.dist == "uniform":
        return f"{length.low:,} to {length.high:,.0f} (uniform)"
    spread = f" ± {length.std:,g}" if length.std is not None else ""
    bounds = (
        f", {length.low:,} to {length.high:,.0f}" if length.max is not None else f", {length.low:,} or more"
    )
    return f"{length.mean:,g}{spread} ({length.dist}{bounds})"
