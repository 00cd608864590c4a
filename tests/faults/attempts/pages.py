"""/metrics pages of every kind beside a run: none, of other servers, backwards, coming and going."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import Done, ended, folder, ran, rvtop
from tests.faults.attempts.said import STREAM, chunked

SGLANG = """# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.28
sglang:gen_throughput{model_name="m"} 86.5
"""
TGI = """# TYPE tgi_queue_size gauge
tgi_queue_size 0
tgi_batch_current_size 4
tgi_request_duration_bucket{le="0.001"} 0
"""
LLAMA = """# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 39
llamacpp:requests_processing 1
"""
VLLM = """vllm:num_requests_running{{engine="{e}",model_name="m"}} {n}
vllm:generation_tokens_total{{engine="{e}",model_name="m"}} {t}
"""


@contextlib.contextmanager
def server(page: Callable[[int], tuple[int, str, str]]) -> Iterator[str]:
    """Serves completions, and for the n-th poll of /metrics (status, content type, text)."""
    polls = 0

    class Serves(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            nonlocal polls
            if self.path == "/metrics":
                status, kind, text = page(polls)
                polls += 1
            elif self.path == "/v1/models":
                status, kind, text = 200, "application/json", json.dumps({"data": [{"id": "m"}]})
            else:
                status, kind, text = 404, "text/plain", "no"
            data = text.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(chunked(STREAM))

        def log_message(self, *_: object) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that has gone is none."""

    made = Quiet(("127.0.0.1", 0), Serves)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        made.server_close()


def paged(page: Callable[[int], tuple[int, str, str]] | str, seconds: int = 2) -> Done:
    """A run beside such pages; every request is answered."""
    fixed = (lambda n: (200, "text/plain", page)) if isinstance(page, str) else page
    with server(fixed) as url:
        done = ran(url, "--rate", 10, "--duration", f"{seconds}s")
    assert done.ok > 5 and not done.errors, done.errors
    return done


def no_figures(done: Done) -> None:
    """Nothing is known of the server, and so it is said: missing, never 0."""
    found = done.summary["server"]
    assert found is None or all(
        found[key] is None for key in ("running_max", "waiting_max", "preemptions")
    ), found


@attempt("no /metrics: 404, 500, 401, an empty page, HTML, JSON, 302 in a circle")
def pages_none() -> None:
    for status, kind, text in (
        (404, "text/plain", "no"),
        (500, "text/plain", "oops"),
        (200, "text/plain", ""),
        (200, "text/html", "<html>log in</html>"),
        (200, "application/json", '{"a": 1}'),
    ):
        no_figures(paged(lambda n, s=(status, kind, text): s, 1))


@attempt("pages of SGLang, TGI and llama.cpp: the run goes on, unknown figures stay missing")
def pages_of_others() -> None:
    for page in (SGLANG, TGI, LLAMA):
        paged(page, 1)


@attempt("counters that go backwards, and jump to 10^300, NaN and -Inf")
def pages_backwards() -> None:
    values = ["100", "50", "1e300", "NaN", "-Inf", "0", "7"]
    done = paged(lambda n: (200, "text/plain", VLLM.format(e=0, n=values[n % 7], t=values[n % 7])), 6)
    text = (done.run / "summary.json").read_text() + (done.run / "timeline.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    for row in done.rows("timeline.jsonl"):
        rate = row.get("server_tokens_per_s")
        assert rate is None or rate >= 0, row


@attempt("engines that come and go with every poll")
def pages_engines_come_and_go() -> None:
    paged(lambda n: (200, "text/plain", "".join(VLLM.format(e=e, n=1, t=n) for e in range(n % 4))), 5)


@attempt("a page that is cut in the middle of a line, of a label, of a number")
def pages_cut() -> None:
    whole = VLLM.format(e=0, n=3, t=12345)
    paged(lambda n: (200, "text/plain", whole[: 10 + 17 * n % len(whole)]), 4)


@attempt("a page with labels of every escape, of 100 KB, twice the same")
def pages_labels() -> None:
    odd = 'vllm:num_requests_running{engine="a\\"b\\\\c\\n",model_name="%s",x="\u202e\x1b[2J"} 1\n' % (
        "y" * 100_000
    )
    paged(odd + odd + "vllm:num_requests_running 2\nvllm:num_requests_running{} 3\n}{\n", 2)


@attempt("a page that takes longer than its timeout, every second time")
def pages_slow() -> None:
    def page(n: int) -> tuple[int, str, str]:
        if n % 2:
            time.sleep(3)
        return 200, "text/plain", VLLM.format(e=0, n=1, t=n)

    paged(page, 4)


@attempt("timestamps behind the values, OpenMetrics' EOF and exemplars")
def pages_openmetrics() -> None:
    page = 'vllm:num_requests_running{engine="0",model_name="m"} 3 1700000000000\n# EOF\n'
    done = paged(page)
    assert done.summary["server"]["running_max"] == 3, done.summary["server"]


@attempt("--metrics-url that nobody answers, that is no URL, that is a file")
def pages_elsewhere() -> None:
    with server(lambda n: (404, "text/plain", "")) as url:
        for other in (
            "http://127.0.0.1:1/metrics",
            "http://",
            "file:///etc/passwd",
            "nonsense",
            "http://[::1",
        ):
            run = folder() / "run"
            words = ("--rate", 10, "--duration", "1s", "--output-tokens", 4, "--ui", "none")
            done = ended(rvtop("run", *words, "--target", url, "--metrics-url", other, "--out", run), run)
            assert done.code in (0, 2), (other, done.code, done.err)
            assert "root:" not in (done.out + done.err)
