"""What a topology does another way, servers that are not ours above all, as data: topology -> (part of a
test's id, why). Such a test has to fail there: once it does not, its line here is wrong."""

from __future__ import annotations

_USAGE = "a whole answer's usage has two more fields (details, null) than a stream's"
_TIMINGS = "`rvtop: {timings}` is a field of ours; vLLM ignores it"
_RAG = "`rag` is a field of ours; vLLM ignores it"
_PARAM = "the same status with another `param` (the field of vLLM's own check, or null)"
_MORE = "vLLM can do it"
_GENERATES = "its model generates, and there is no embedder beside it"

VLLM = (
    ("test_streamed_and_whole_answers_are_the_same", _USAGE),
    ("test_stop_strings_end_the_text", _USAGE),
    ("test_timings_on_request", _TIMINGS),
    ("test_retrieval_here_is_retrieval_there", _RAG),
    ("maximum context length", _PARAM),
    ("at least one message", _PARAM),
    ("messages-required", _PARAM),
    ("n must be 1", _PARAM),
    ("list of those", _PARAM),
    ("must be given", _PARAM),
    ("a list of texts", _GENERATES),
    ("topology rvc takes them", _MORE),
    ("vllm and rsv take it", _MORE),
    ("test_embeddings", _GENERATES),
    ("rag.top_k", _RAG),
    ("rag-/v1/chat/completions", _RAG),
    ("out of vocabulary", _PARAM),
    ("test_what_is_no_request_at_all", "an error's type is `Bad Request`"),
    ("test_a_full_queue_is_429", "its queue has no end"),
)

_LATE = "its figures are Ray's to export, seconds late: test_rsv_process.py waits for them"
_INGRESS = "an error has the words, the type and no `param` of Serve LLM's ingress"

RSV = (
    ("test_streamed_and_whole_answers_are_the_same", _USAGE),
    ("test_stop_strings_end_the_text", _USAGE),
    ("test_timings_on_request", _TIMINGS),
    ("test_retrieval_here_is_retrieval_there", _RAG),
    ("test_openai_package_knows_our_errors", _MORE),
    ("test_embeddings", _GENERATES),
    ("test_tokens_and_back", "its ingress takes no messages at /tokenize"),
    ("test_bad_requests", _INGRESS),
    ("test_what_is_no_request_at_all", _INGRESS),
)

_NO_TOOLS = (("test_tools", "the Hugging Face engine reads no tool calls"),)
RVC = (("topology rvc takes them", "it does, started with vLLM's parser"),)

DIFFERENCES = {
    "baseline": _NO_TOOLS,
    "rac": _NO_TOOLS,
    "rsc": _NO_TOOLS,
    "graph": _NO_TOOLS,
    "rvc": RVC,
    "rsv": RSV,
    "vllm": VLLM,
}
#: How a topology is started so that it reads tool calls.
_PARSER = ("--engine-arg", "tool-call-parser=hermes", "--engine-arg", "enable-auto-tool-choice=true")
TOOLS = dict.fromkeys(("rvc", "rsv", "vllm"), _PARSER)
#: Tests that a topology now passes and now fails: they ask for a figure of this very moment.
_NO_GRPC = (("test_grpc", "it has a front end that is not ours, as it ships"),)
NOT_NOW = {
    "vllm": _NO_GRPC,
    "rsv": (
        *_NO_GRPC,
        ("test_a_full_queue_is_429", _LATE),
        ("test_a_client_that_goes_away", _LATE),
        ("test_metrics_grow_by_the_usage", _LATE),
        ("test_kv_cache_shows_while_it_is_held", _LATE),
    ),
}
#: Topologies whose start takes as long as tens of other tests: `make soak` runs theirs.
SLOW = frozenset({"rsv", "vllm", "graph"})
