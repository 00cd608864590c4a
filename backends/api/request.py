"""The OpenAI-compatible surface, request side: a body's bytes -> a checked :class:`Call`, or ApiError.

Pure: no web framework, no engine, no tokenizer. Wording of errors follows vLLM's where it has one. Fields
that are unknown are ignored, as vLLM does; fields that would change the answer and are not supported
are refused, so that no answer is compared with settings that were never applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from backends.api import fields
from backends.api.defaults import NO_DEFAULTS, Defaults
from backends.errors import bad_request

Completions = Literal["chat", "completions"]
Endpoint = Completions | Literal["embeddings", "tokenize", "detokenize"]
Prompt = str | tuple[int, ...]
EMBEDDINGS = "/v1/embeddings"
PATHS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    EMBEDDINGS: "embeddings",
    "/tokenize": "tokenize",
    "/detokenize": "detokenize",
}

# vLLM's (and OpenAI's legacy) default for /v1/completions; chat without a limit may fill the context.
DEFAULT_COMPLETION_TOKENS = 16
MAX_STOP_STRINGS = 16
MAX_CHOICES = 128
INT64 = 2**63

# Field -> the values that ask for nothing special. Anything else is refused with 400, which names the
# topologies that take it: vLLM's own servers.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "best_of": (None, 0, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "prompt_logprobs": (None,),
    "parallel_tool_calls": (None, True),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "structured_outputs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "top_k": (None, 0, -1),
    "min_p": (None, 0),
    "min_tokens": (None, 0),
    "use_beam_search": (None, False),
}
NOWHERE = frozenset({"best_of", "suffix", "functions"})


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request. ``messages`` for chat, ``prompts`` (each text or token ids) for completions; the
    other is None. ``n`` choices are made of each prompt. ``max_tokens`` None means as many as the context
    holds. ``logprobs`` is how many alternatives are told of each token (0: only its own probability), None
    for none. ``rag_top_k`` asks for server-side retrieval, ``timings`` for ``usage.rvtop``."""

    endpoint: Completions
    model: str | None
    messages: tuple[dict[str, Any], ...] | None
    prompts: tuple[Prompt, ...] | None
    max_tokens: int | None
    max_tokens_field: str = "max_tokens"
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    n: int = 1
    logprobs: int | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    return_token_ids: bool = False
    rag_top_k: int | None = None
    timings: bool = False

    @property
    def generations(self) -> int:
        """How often an engine generates for it."""
        return self.n * (1 if self.prompts is None else len(self.prompts))


def parse_call(endpoint: Completions, body: bytes, defaults: Defaults = NO_DEFAULTS) -> Call:
    """Checks a request body. Raises ApiError (400) with what is wrong and where."""
    return call_of(endpoint, fields.json_object(body), defaults)


def call_of(endpoint: Completions, data: dict[str, Any], defaults: Defaults = NO_DEFAULTS) -> Call:
    """As :func:`parse_call`, of the fields of a body; ``data`` gets the defaults."""
    defaults.put_in(data)
    _refuse_unsupported(data)
    limit, limit_field = _max_tokens(endpoint, data)
    stream = fields.flag(data, "stream")
    include_usage, continuous = _stream_options(data, stream)
    temperature = _temperature(data)
    call = Call(
        endpoint=endpoint,
        model=fields.text(data, "model"),
        messages=messages_of(data) if endpoint == "chat" else None,
        prompts=_prompts(data) if endpoint == "completions" else None,
        max_tokens=limit,
        max_tokens_field=limit_field,
        temperature=temperature,
        top_p=_top_p(data),
        seed=fields.integer(data, "seed", low=-INT64, high=INT64 - 1),
        stop=_stop(data),
        stop_token_ids=fields.token_ids(data.get("stop_token_ids") or [], "stop_token_ids"),
        ignore_eos=fields.flag(data, "ignore_eos"),
        n=_n(data, temperature),
        logprobs=_logprobs(endpoint, data),
        tools=tools_of(data) if endpoint == "chat" else (),
        tool_choice=data.get("tool_choice") if endpoint == "chat" else None,
        stream=stream,
        include_usage=include_usage,
        continuous_usage=continuous,
        return_token_ids=fields.flag(data, "return_token_ids"),
        rag_top_k=_rag(data),
        timings=fields.flag(fields.object_field(data, "rvtop"), "timings", "rvtop.timings"),
    )
    if call.timings and call.generations > 1:
        raise bad_request("rvtop.timings are of one answer: ask for one prompt and n=1.", "rvtop.timings")
    return call


def fit_max_tokens(call: Call, prompt_tokens: int, max_model_len: int) -> int:
    """How many tokens may be generated. Raises ApiError (400) when prompt and output exceed the context;
    vLLM's wording."""
    wanted = call.max_tokens
    if wanted is not None and wanted > max_model_len:
        raise bad_request(
            f"{call.max_tokens_field}={wanted} cannot be greater than max_model_len={max_model_len}. "
            "Please request fewer output tokens.",
            call.max_tokens_field,
        )
    room = max_model_len - prompt_tokens
    needed = 1 if wanted is None else wanted  # a prompt that leaves no room for one token cannot be answered
    if room < needed:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested "
            f"{wanted or 0} output tokens and your prompt contains {prompt_tokens} input tokens, for a total "
            f"of {prompt_tokens + (wanted or 0)} tokens. Please reduce the length of the input prompt or the "
            "number of requested output tokens.",
            "input_tokens",
        )
    return room if wanted is None else wanted


# -- fields ------------------------------------------------------------------------------------------------


def _refuse_unsupported(data: dict[str, Any]) -> None:
    for field, neutral in UNSUPPORTED.items():
        value = data.get(field)
        if value not in neutral:
            where = "" if field in NOWHERE else "; the topologies vllm and rsv take it"
            raise bad_request(f"`{field}` is not supported by this server (got {value!r}){where}.", field)


def _n(data: dict[str, Any], temperature: float) -> int:
    n = fields.integer(data, "n", low=1, high=MAX_CHOICES) or 1
    if n > 1 and temperature == 0.0:  # vLLM's rule and words: they would all be the same
        raise bad_request(f"n must be 1 when using greedy sampling, got {n}.", "n")
    return n


def _logprobs(endpoint: Completions, data: dict[str, Any]) -> int | None:
    if endpoint == "completions":
        given = data.get("logprobs")
        return None if given is False else fields.integer(data, "logprobs", low=0)
    top = fields.integer(data, "top_logprobs", low=0) or 0
    if fields.flag(data, "logprobs"):
        return top
    if top:
        raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    return None


def tools_of(data: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The tools that a model may call. Raises ApiError (400)."""
    tools = data.get("tools")
    if not tools and data.get("tool_choice") not in (None, "none", "auto"):
        raise bad_request("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise bad_request("`tools` must be a list of tools.", "tools")
    for i, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            form = '{"type": "function", "function": {"name": …}}'
            raise bad_request(f"`tools[{i}]` must be {form}.", f"tools[{i}]")
    return tuple(tools)


def messages_of(data: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """A conversation, each content a text. Raises ApiError (400)."""
    messages = data.get("messages")
    if messages is None:
        raise bad_request("`messages` is required.", "messages")
    if not isinstance(messages, list):
        raise bad_request("`messages` must be a list of messages.", "messages")
    if not messages:
        raise bad_request(
            "Cannot apply chat template to an empty conversation. Provide at least one message.", "messages"
        )
    return tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages))


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request(f"`{where}` must be an object with a `role` and a `content`.", where)
    content = message.get("content")
    if content is None:
        content = ""
    elif isinstance(content, list):  # OpenAI's content parts: text only, joined as vLLM joins them
        content = "\n".join(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    elif not isinstance(content, str):
        raise bad_request(f"`{where}.content` must be a string or a list of text parts.", f"{where}.content")
    return {**message, "content": content}


def _part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise bad_request(f'`{where}` must be {{"type": "text", "text": …}}: this server reads text only.', where)


def _prompts(data: dict[str, Any]) -> tuple[Prompt, ...]:
    """One text, one list of token ids, or a list of either."""
    prompt = data.get("prompt")
    several = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], str | list)
    return tuple(map(_prompt, prompt)) if isinstance(prompt, list) and several else (_prompt(prompt),)


def _prompt(prompt: Any) -> Prompt:
    if isinstance(prompt, str) and prompt:
        return prompt
    if prompt is None or prompt in ("", []):
        raise bad_request("`prompt` must be provided and non-empty.", "prompt")
    if isinstance(prompt, list):
        return fields.token_ids(prompt, "prompt")
    raise bad_request("`prompt` must be a string or a list of token ids, or a list of those.", "prompt")


def _max_tokens(endpoint: Completions, data: dict[str, Any]) -> tuple[int | None, str]:
    for field in ("max_completion_tokens", "max_tokens"):
        limit = fields.integer(data, field, low=1)
        if limit is not None:
            return limit, field
    return (DEFAULT_COMPLETION_TOKENS if endpoint == "completions" else None), "max_tokens"


def _stream_options(data: dict[str, Any], stream: bool) -> tuple[bool, bool]:
    options = fields.object_field(data, "stream_options")
    if options and not stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    usage = fields.flag(options, "include_usage", "stream_options.include_usage")
    continuous = fields.flag(options, "continuous_usage_stats", "stream_options.continuous_usage_stats")
    return usage, usage and continuous


def _temperature(data: dict[str, Any]) -> float:
    value = fields.number(data, "temperature", 1.0)
    if value < 0.0:
        raise bad_request(f"temperature must be non-negative, got {value}.", "temperature")
    if value > 2.0:
        raise bad_request(f"temperature must be in [0, 2], got {value}.", "temperature")
    return value


def _top_p(data: dict[str, Any]) -> float:
    value = fields.number(data, "top_p", 1.0)
    if not 0.0 < value <= 1.0:
        raise bad_request(f"top_p must be in (0, 1], got {value}.", "top_p")
    return value


def _stop(data: dict[str, Any]) -> tuple[str, ...]:
    stop = data.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise bad_request("`stop` must be a string or a list of strings.", "stop")
    if any(not text for text in stops):
        raise bad_request("`stop` must not hold an empty string.", "stop")
    if len(stops) > MAX_STOP_STRINGS:
        raise bad_request(f"`stop` holds {len(stops)} strings; at most {MAX_STOP_STRINGS} are taken.", "stop")
    return tuple(stops)


def _rag(data: dict[str, Any]) -> int | None:
    if data.get("rag") is None:
        return None
    top_k = fields.integer(fields.object_field(data, "rag"), "top_k", low=1, high=100, where="rag.top_k")
    return 4 if top_k is None else top_k
