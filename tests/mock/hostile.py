"""A server whose every text tries to act on a terminal: ids, labels, errors, usage, headers.

``with HostileServer() as s``: ``s.url`` answers /v1/models, /rvtop/topology, /metrics and /health, and each
POST in the next of the ways of ``WAYS``.
"""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

#: Clears the screen, sets the title (also in C1: one byte each), turns text round, hides it, breaks the line.
ACTS = (
    "\x1b[2J\x1b]0;title\x07\x9b2J\x9d0;t\x9c\u202egpj\u2066\u2069\u200b\u2028\r\x7f\U000e0041"
    "[bold red][link=x]"
)
#: None of these may reach a screen, a pipe or a file as it is.
RAW = "\x1b\x07\x9b\x9d\x9c\u202e\u2066\u2069\u200b\u2028\r\x7f\U000e0041"


def evil(name: str) -> str:
    """A text that is called ``name``, so that the test finds it again."""
    return f"{name}{ACTS}"


MODEL = evil("MODEL")


class HostileServer:
    """On a port of this machine, in a thread. ``models`` are the model ids of the requests that came."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.ways = itertools.cycle(WAYS)
        outer = self

        class Handler(_Handler):
            server_says = outer

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients under test hang up; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_says: HostileServer

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def version_string(self) -> str:
        return "SERVER\x9b2J"

    def answer(
        self, status: int, body: bytes, kind: str = "application/json", note: str = "HEADER\x9b2J"
    ) -> None:
        self.send_response(status, "REASON\x9b2J")
        self.send_header("Content-Type", kind)
        self.send_header("X-Note", note)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            card = {"id": MODEL, "owned_by": evil("OWNER"), "object": evil("OBJECT")}
            self.answer(200, json.dumps({"object": "list", "data": [card]}).encode())
        elif self.path == "/rvtop/topology":
            node = {"metrics_url": "http://127.0.0.1:9/" + ACTS, "hostname": evil("HOST"), "id": evil("ID")}
            self.answer(
                200, json.dumps({"topology": evil("TOPOLOGY"), "ray": True, "nodes": [node]}).encode()
            )
        elif self.path == "/metrics":
            self.answer(200, metrics().encode(), "text/plain; version=0.0.4")
        else:
            self.answer(200, evil("HEALTH").encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server_says.models.append(body["model"])
        next(self.server_says.ways)(self)


def metrics() -> str:
    """An engine, a GPU, a node and a deployment, all with names that act."""

    def label(text: str) -> str:
        return evil(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    engine = f'engine="{label("ENGINE")}",model_name="{label("LABEL")}",node="{label("NODE")}"'
    gpu = f'gpu="0",Hostname="{label("GPUHOST")}",modelName="{label("GPU")}"'
    serve = f'deployment="{label("DEPLOYMENT")}",application="{label("APP")}"'
    return (
        f"vllm:num_requests_running{{{engine}}} 3\n"
        f"vllm:num_requests_waiting{{{engine}}} 2\n"
        f"vllm:kv_cache_usage_perc{{{engine}}} 0.5\n"
        f"vllm:generation_tokens_total{{{engine}}} 7\n"
        f"DCGM_FI_DEV_FB_USED{{{gpu}}} 100\nDCGM_FI_DEV_FB_FREE{{{gpu}}} 100\n"
        f'ray_node_cpu_utilization{{ip="{label("RAYNODE")}"}} 50\n'
        f"ray_serve_deployment_replica_healthy{{{serve}}} 1\n"
    )


def _events(*events: Any) -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def _stream(handler: _Handler, *events: Any) -> None:
    handler.answer(200, _events(*events), "text/event-stream")


def _token(text: str, finish: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def good(handler: _Handler) -> None:
    usage = {
        "completion_tokens": 2,
        "prompt_tokens": evil("PROMPTS"),
        "prompt_tokens_details": {"cached_tokens": [evil("CACHED")]},
        "rvtop": {"engine": evil("USAGE_ENGINE"), evil("KEY"): evil("VALUE")},
    }
    end = {"choices": [], "usage": usage}
    _stream(handler, _token(evil("TOKEN")), _token("b", evil("FINISH")), end, "[DONE]")


def stream_error(handler: _Handler) -> None:
    _stream(handler, _token("a"), {"error": {"message": evil("STREAM_ERROR"), "code": 500}}, "[DONE]")


def odd_error(handler: _Handler) -> None:
    _stream(handler, {"error": {"detail": [evil("ODD_ERROR")]}}, "[DONE]")


def http_error(handler: _Handler) -> None:
    handler.answer(500, evil("HTTP_ERROR").encode())


def not_json(handler: _Handler) -> None:
    _stream(handler, "{" + ACTS.replace("\r", ""), "[DONE]")


def bad_header(handler: _Handler) -> None:
    handler.answer(200, b"", note="HEADER\x1b]0;t\x07")


def not_http(handler: _Handler) -> None:
    handler.wfile.write(b"NOT_HTTP\x1b[2J\x9b2J\r\n\r\n")
    handler.close_connection = True


def redirect(handler: _Handler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:9/LOCATION\x9b2J")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


WAYS = (good, http_error, stream_error, odd_error, not_json, bad_header, not_http, redirect)
