"""What an engine is asked for each choice of an answer."""

from __future__ import annotations

from collections.abc import Mapping

from backends.api.request import INT64, Call, fit_max_tokens
from backends.api.response import Answer, Choice
from backends.api.tools import Tools, ToolUse
from backends.engines.protocol import GenerateRequest
from backends.errors import bad_request

Generation = tuple[int, GenerateRequest]  # the choice's index, and what its engine is asked
Trace = Mapping[str, str]  # a request's headers by which its client's trace goes on


def tool_use(call: Call, tools: Tools | None) -> ToolUse | None:
    """Raises ApiError (400) for tools that nothing here would read out of the answer."""
    if not call.tools:
        return None
    if tools is None:
        raise bad_request(
            "`tools` are not supported by this server: topology rvc takes them when it is started with "
            "--engine-arg tool-call-parser=NAME (vLLM's name of the model's parser), and so do vllm and rsv.",
            "tools",
        )
    return tools.use(call)


def generation(
    answer: Answer, choice: Choice, max_model_len: int, use: ToolUse | None, trace: Trace | None
) -> Generation:
    """What the engine does for a choice. The choices of a prompt differ by their seed, as vLLM's do."""
    call = answer.call
    seed = None if call.seed is None else _wrapped(call.seed + choice.index % call.n)
    request = GenerateRequest(
        request_id=answer.request_id if len(answer.choices) == 1 else f"{answer.request_id}-{choice.index}",
        prompt_ids=choice.prompt_ids,
        max_tokens=fit_max_tokens(call, len(choice.prompt_ids), max_model_len),
        temperature=call.temperature,
        top_p=call.top_p,
        seed=seed,
        stop=call.stop,
        stop_token_ids=call.stop_token_ids,
        ignore_eos=call.ignore_eos,
        logprobs=call.logprobs,
        special=use.special if use else None,
        trace=trace,
        adapter=answer.adapter,
    )
    return choice.index, request


def _wrapped(seed: int) -> int:
    """A seed in 64 bits: the one after the largest is the smallest."""
    return (seed + INT64) % (2 * INT64) - INT64
