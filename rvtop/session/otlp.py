"""``--otlp URL``: a span a request, sent to an OpenTelemetry collector.

A thread makes spans of the lines that go into ``requests.jsonl`` anyway, so neither the load nor the
session's loop waits for a collector. What that does not take in time is left out and told once: no run ends
for it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson

import rvtop
from rvtop.errors import UserError
from rvtop.load.wire import traceparent
from rvtop.target.probe import shown

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rvtop.session.spans import SpanMaker

PATH = "/v1/traces"
#: Spans in one request to the collector.
_BATCH = 512
#: Bytes of lines that wait at most; what comes beyond is left out.
_MOST_WAITING = 32 << 20
#: A collector gets this long for a batch, and at the run's end for all that waits.
_SEND_LIMIT_S, _END_LIMIT_S = 5.0, 10.0

Send = Callable[[Sequence["ReadableSpan"]], bool]


def endpoint(url: str) -> str:
    """Where spans go: ``url``, with ``/v1/traces`` unless it has a path. Raises UserError."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not url.isprintable() or parts.query or parts.fragment:
        raise UserError(f"--otlp {shown(url)}: must look like http://127.0.0.1:4318")
    if "@" in parts.netloc:
        raise UserError(
            f"--otlp {shown(url)}: a password in a URL shows in process lists; use OTEL_EXPORTER_OTLP_HEADERS"
        )
    return url if parts.path.strip("/") else url.rstrip("/") + PATH


def check_installed() -> None:
    """Raises UserError where OpenTelemetry is not there."""
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http"), find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:  # of a package around it
        found = (None, None)
    if None in found:
        raise UserError("--otlp: OpenTelemetry is not installed; pip install 'rvtop[otlp]'")


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises UserError where the user's own headers name a trace."""
    if any(name.lower() == traceparent.HEADER.decode() for name in headers):
        raise UserError("--otlp: a header traceparent is given too, and each request needs its own; drop one")


class SpanSender:
    """Sends the spans of one run. ``send`` hands a batch over and tells whether it was taken. It may block:
    only the thread calls it. ``on_trouble`` is called there once, with a line for the user."""

    def __init__(self, url: str, maker: SpanMaker, send: Send, on_trouble: Callable[[str], None]) -> None:
        self._url, self._maker, self._send, self._on_trouble = url, maker, send, on_trouble
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes of them
        self._changed = threading.Condition()
        self._until: float | None = None  # the end's limit, once it is to end
        self._failing = self._told = False
        self.sent = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def add(self, lines: bytes) -> None:
        """Takes in the lines of requests that ended; never waits."""
        if not lines:
            return
        with self._changed:
            if self._waiting + len(lines) > _MOST_WAITING:
                self.lost += lines.count(b"\n")
                return
            self._lines.append(lines)
            self._waiting += len(lines)
            self._changed.notify()

    def close(self) -> str:
        """Sends what waits, as far as there is time; a line on what came of it all. Blocks."""
        with self._changed:
            self._until = monotonic() + _END_LIMIT_S
            self._changed.notify()
        self._thread.join(_END_LIMIT_S + _SEND_LIMIT_S)
        with self._changed:
            self.lost += sum(lines.count(b"\n") for lines in self._lines)
            self._lines.clear()
        all_of = f"{self.sent} of {self.sent + self.lost}" if self.lost else f"{self.sent}"
        return f"{all_of} spans sent to {shown(self._url)}"

    def _run(self) -> None:
        while (lines := self._next()) is not None:
            rows = lines.splitlines()
            for begin in range(0, len(rows), _BATCH):
                self._send_batch(rows[begin : begin + _BATCH])

    def _next(self) -> bytes | None:
        """The lines to send next; None: there is no more, or no more time."""
        with self._changed:
            while not self._lines:
                if self._until is not None:
                    return None
                self._changed.wait()
            if self._late:
                return None
            lines = b"".join(self._lines)
            self._lines.clear()
            self._waiting = 0
            return lines

    @property
    def _late(self) -> bool:
        """Whether no more is to be sent: the end waits for no collector that takes nothing."""
        return self._until is not None and (self._failing or monotonic() > self._until)

    def _send_batch(self, rows: Sequence[bytes]) -> None:
        if self._late:
            self.lost += len(rows)
            return
        self._failing = not self._send([self._maker.span(orjson.loads(row)) for row in rows])
        if not self._failing:
            self.sent += len(rows)
            return
        self.lost += len(rows)
        if not self._told:
            self._told = True
            self._on_trouble(
                f"{shown(self._url)} takes no spans: is an OTLP/HTTP collector there? The run goes on"
            )


class Collector:
    """An OpenTelemetry collector that takes spans by OTLP/HTTP."""

    def __init__(self, url: str) -> None:
        """Imports what spans need, which takes a second; sends nothing yet. Raises what ``endpoint`` does."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)  # we say it once ourselves
        self._url = url
        self._exporter = OTLPSpanExporter(endpoint=endpoint(url), timeout=_SEND_LIMIT_S)
        self.run = secrets.randbits(64) or 1  # the number of this run's traces

    def sender(
        self, t0_unix_ns: int, path: str, about: Mapping[str, str], on_trouble: Callable[[str], None]
    ) -> SpanSender:
        """What sends the spans of the run that began at ``t0_unix_ns`` and sends to ``path``; ``about`` are
        attributes of the whole run."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        from rvtop.session.spans import SpanMaker

        version = rvtop.__version__
        resource = Resource.create({"service.name": "rvtop", "service.version": version, **about})
        maker = SpanMaker(self.run, t0_unix_ns, path, resource, InstrumentationScope("rvtop", version))
        return SpanSender(self._url, maker, self._send, on_trouble)

    def _send(self, spans: Sequence[ReadableSpan]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return self._exporter.export(spans) is SpanExportResult.SUCCESS
