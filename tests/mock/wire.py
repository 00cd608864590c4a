"""What the Python mock says: chunks in the shape of vLLM 0.29's OpenAI server, metrics under its names.

The same bytes as render.h and record.h make; tests/unit/test_mock_twins.py holds the two together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

FINGERPRINT = "vllm-0.29.0-mock"
# fmt: off
WORDS = [  # all of six bytes: mock.c makes the next chunk of a stream by changing them in place
    " token", "질문", " first", "답변", " steps", "문서", " queue", "검색", " cache", "모델", " block",
    "서버", " batch", "요청", " serve", "응답", " actor", "시간", " model", "처리", " layer", "지연",
    " split", "속도", " merge", "기억", " reads", "단어", " write", "문장", " clock", "규정",
]
# fmt: on
TEXT = "text/plain; version=0.0.4; charset=utf-8"
#: Columns of the log between "id" and "end".
COLUMNS = (
    "arrival_ns",
    "first_ns",
    "last_ns",
    "tokens",
    "asked",
    "late_first_ns",
    "late_max_ns",
    "late_sum_ns",
    "blocked",
)
# Bucket edges of vLLM's histograms, seconds.
TOKEN_EDGES = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
TTFT_EDGES = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75]
TTFT_EDGES += [1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560]
E2E_EDGES = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]


class Histogram:
    """A Prometheus histogram: edges in seconds, observations in nanoseconds."""

    def __init__(self, edges: list[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, ns: int) -> None:
        seconds = ns / 1e9
        self.counts[next((i for i, edge in enumerate(self.edges) if seconds <= edge), len(self.edges))] += 1
        self.sum += seconds


@dataclass
class Model:
    """The counters of one served model."""

    name: str
    running: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    live_tokens: int = 0
    done: int = 0
    cut: int = 0
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_EDGES))
    itl: Histogram = field(default_factory=lambda: Histogram(TOKEN_EDGES))
    tpot: Histogram = field(default_factory=lambda: Histogram(TOKEN_EDGES))
    e2e: Histogram = field(default_factory=lambda: Histogram(E2E_EDGES))


@dataclass(eq=False)
class Stream:
    """One answer under way. Times are CLOCK_MONOTONIC nanoseconds, 0 = not yet."""

    id: str
    model: Model
    chat: bool
    sse: bool
    usage: bool
    continuous: bool
    n: int
    prompt_tokens: int
    created: int
    arrival: int
    sent: int = 0
    first: int = 0
    last: int = 0
    due: int = 0
    late_first: int = 0
    late_max: int = 0
    late_sum: int = 0
    clear_since: int = 0
    blocked: int = 0
    path: str = ""  # of the endpoint, where it is another than chat or completions …
    items: int = 0  # … and how many texts or documents were sent there

    def row(self, end: str) -> str:
        """This request's line of the log."""
        numbers = (self.arrival, self.first, self.last, self.sent, self.n)
        late = (self.late_first, self.late_max, self.late_sum, self.blocked)
        return "\t".join([self.id, *map(str, numbers), *map(str, late), end]) + "\n"


# ---- rendering: strings here are what vLLM 0.29's models dump; see render.h


def head(s: Stream) -> str:
    """What every chunk of a stream begins with."""
    name, kind = ("chatcmpl", "chat.completion.chunk") if s.chat else ("cmpl", "text_completion")
    start = f'data: {{"id":"{name}-{s.id}","object":"{kind}","created":{s.created}'
    return f'{start},"model":"{s.model.name}","choices":['


def usage(s: Stream, completion: int, details: str = "") -> str:
    total = s.prompt_tokens + completion
    return (
        f',"usage":{{"prompt_tokens":{s.prompt_tokens},"total_tokens":{total},'
        f'"completion_tokens":{completion}{details}}}'
    )


def role_event(s: Stream) -> str:
    counted = usage(s, 0, ',"completion_tokens_details":null') if s.continuous else ""
    return (
        head(s)
        + '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        f'{counted},"prompt_token_ids":null,"prompt_text":null}}\n\n'
    )


def content_event(s: Stream, start: int, end: int) -> str:
    words = "".join(WORDS[i % len(WORDS)] for i in range(start, end))
    final = end == s.n
    finish = '"length"' if final else "null"
    stop = ',"stop_reason":null' if final or not s.chat else ""
    if s.chat:
        choice = f'{{"index":0,"delta":{{"content":"{words}"}},"logprobs":null,"finish_reason":{finish}{stop}'
        choice += ',"token_ids":null}]'
    else:
        choice = f'{{"index":0,"text":"{words}","logprobs":null,"finish_reason":{finish}{stop}'
        choice += ',"prompt_token_ids":null,"token_ids":null}]'
    details = ',"completion_tokens_details":null' if s.chat else ""
    counted = usage(s, end, details) if s.continuous else ""
    mark = f',"system_fingerprint":"{FINGERPRINT}"' if final and not s.usage else ""
    return head(s) + choice + counted + mark + "}\n\n"


def chunk(event: str) -> bytes:
    """An event as one chunk of the transfer encoding."""
    data = event.encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def render_tokens(s: Stream, to: int, join: int) -> bytes:
    """Tokens [s.sent, to) as they go on the wire, with what stands before the first and after the last."""
    parts = [chunk(role_event(s))] if s.sent == 0 and s.chat else []
    at = s.sent
    while at < to:
        end = min(to, at + join if at else 1)
        parts.append(chunk(content_event(s, at, end)))
        at = end
    if to == s.n:
        if s.usage:
            mark = f',"system_fingerprint":"{FINGERPRINT}"}}\n\n'
            parts.append(chunk(head(s) + "]" + usage(s, s.n) + mark))
        parts += [chunk("data: [DONE]\n\n"), b"0\r\n\r\n"]
    return b"".join(parts)


def render_whole(s: Stream) -> bytes:
    """The whole answer as one JSON document."""
    name, kind = ("chatcmpl", "chat.completion") if s.chat else ("cmpl", "text_completion")
    words = "".join(WORDS[i % len(WORDS)] for i in range(s.n))
    said = f'"text":"{words}"'
    if s.chat:
        rest = '"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null'
        said = f'"message":{{"role":"assistant","content":"{words}",{rest}}}'
    counted = usage(s, s.n, ',"prompt_tokens_details":null,"completion_tokens_details":null')
    return (
        f'{{"id":"{name}-{s.id}","object":"{kind}","created":{s.created},"model":"{s.model.name}",'
        f'"choices":[{{"index":0,{said},"logprobs":null,"finish_reason":"length","stop_reason":null,'
        f'"token_ids":null}}],"system_fingerprint":"{FINGERPRINT}"{counted}}}'
    ).encode()


def answer(close: bool, status: str, kind: str, body: bytes) -> bytes:
    """A whole HTTP answer of a known length."""
    end = "connection: close\r\n" if close else ""
    fields = f"server: rvtop-mock\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{end}"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


def refuse(close: bool, status: str, kind: str, message: str) -> bytes:
    body = f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":{int(status[:3])}}}}}'
    return answer(close, status, "application/json", body.encode())


def models_json(models: Iterable[Model]) -> bytes:
    """The answer of GET /v1/models."""
    cards = ",".join(
        f'{{"id":"{name}","object":"model","created":{int(time.time())},"owned_by":"vllm","root":"{name}",'
        '"parent":null,"max_model_len":131072,"permission":[]}'
        for name in [m.name for m in models]
    )
    return f'{{"object":"list","data":[{cards}]}}'.encode()


def metrics(models: list[Model], kv_tokens: float) -> bytes:
    """The answer of GET /metrics. kv_tokens: what the pretended KV cache holds."""
    lines: list[str] = []
    values: dict[str, tuple[str, Callable[[Model], float]]] = {
        "num_requests_running": ("gauge", lambda m: m.running),
        "num_requests_waiting": ("gauge", lambda m: 0),
        "kv_cache_usage_perc": ("gauge", lambda m: min(1.0, m.live_tokens / kv_tokens)),
        "num_preemptions_total": ("counter", lambda m: 0),
        "prompt_tokens_total": ("counter", lambda m: m.prompt_tokens),
        "generation_tokens_total": ("counter", lambda m: m.generation_tokens),
    }
    for name, (kind, of) in values.items():
        lines.append(f"# TYPE vllm:{name} {kind}")
        for m in models:
            lines.append(f'vllm:{name}{{engine="0",model_name="{m.name}"}} {of(m):.17g}')
    lines.append("# TYPE vllm:request_success_total counter")
    for reason, key in (("length", "done"), ("abort", "cut")):
        for m in models:
            labels = f'engine="0",finished_reason="{reason}",model_name="{m.name}"'
            lines.append(f"vllm:request_success_total{{{labels}}} {getattr(m, key):.17g}")
    for key, name in (
        ("ttft", "time_to_first_token_seconds"),
        ("itl", "inter_token_latency_seconds"),
        ("tpot", "request_time_per_output_token_seconds"),
        ("e2e", "e2e_request_latency_seconds"),
    ):
        lines.append(f"# TYPE vllm:{name} histogram")
        for m in models:
            histogram: Histogram = getattr(m, key)
            total = 0
            for edge, count in zip([*histogram.edges, None], histogram.counts, strict=True):
                total += count
                le = "+Inf" if edge is None else repr(float(edge))
                lines.append(f'vllm:{name}_bucket{{engine="0",le="{le}",model_name="{m.name}"}} {total}')
            lines.append(f'vllm:{name}_count{{engine="0",model_name="{m.name}"}} {total}')
            lines.append(f'vllm:{name}_sum{{engine="0",model_name="{m.name}"}} {histogram.sum:.17g}')
    return ("\n".join(lines) + "\n").encode()
