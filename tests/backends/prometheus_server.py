"""A real Prometheus of a test: what it scrapes is named while it runs."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import yaml

#: Debian's package is called so too. Where it is not installed its tests are skipped.
HERE = shutil.which("prometheus") is not None
LIMIT_S = 60.0


class Prometheus:
    """``prometheus`` with a folder of its own, which scrapes each second."""

    def __init__(self, folder: Path, rules: str = "") -> None:
        self._targets = folder / "targets.json"
        self._jobs: dict[str, dict[str, Any]] = {}
        self.name([])
        (folder / "rules.yml").write_text(rules)
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"] if rules else [],
            "scrape_configs": [
                {
                    "job_name": "all",
                    "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                *("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def name(self, pages: list[str], job: str = "") -> None:
        """Scrapes these pages (URLs) from now on as ``job``, beside those of other jobs."""
        if job:
            self._jobs[job] = {"pages": pages}
        groups = [
            {
                "targets": [urlsplit(page).netloc],
                "labels": {"job": job, "__metrics_path__": urlsplit(page).path},
            }
            for job, told in self._jobs.items()
            for page in told["pages"]
        ]
        part = self._targets.with_suffix(".part")
        part.write_text(json.dumps(groups))
        part.replace(self._targets)

    def get(self, path: str, **parameters: Any) -> Any:
        """The ``data`` of an answer of its HTTP API."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def finite(self, expr: str, start: float, end: float, step: float = 5.0) -> int:
        """How many finite samples an expression has over a time."""
        found = self.get("query_range", query=expr, start=start, end=end, step=step)["result"]
        return sum(math.isfinite(float(value)) for series in found for _, value in series["values"])

    def value(self, expr: str, at: float | None = None) -> float | None:
        """The value of an expression that has one series, now or at a time."""
        found = self.get("query", query=expr, **({} if at is None else {"time": at}))["result"]
        return float(found[0]["value"][1]) if found else None

    def values_of(self, label: str, series: str, start: float) -> list[str]:
        """What ``label_values(series, label)`` of Grafana asks for."""
        return list(self.get(f"label/{label}/values", **{"match[]": series, "start": start}))

    def firing(self, job: str | None = None) -> dict[str, Mapping[str, str]]:
        """The alerts that fire now, of ``job`` alone if it is given, with their labels."""
        return {
            alert["labels"]["alertname"]: alert["labels"]
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing" and job in (None, alert["labels"].get("job"))
        }

    def until(self, true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        """Waits; the limit is far beyond what it takes."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                if true():
                    return
            except httpx.TransportError:
                assert self._process.poll() is None, "Prometheus has ended"
            assert time.monotonic() < deadline, f"{what}: not in {limit_s:g} s"
            time.sleep(0.25)

    def __enter__(self) -> Self:
        self.until(lambda: self._client.get("/-/ready").status_code == 200, "Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(LIMIT_S)
        self._log.close()


@contextmanager
def pages(page: Callable[[int], str]) -> Iterator[str]:
    """The address of a page that is made each time it is read: ``page`` of how often it has been."""
    read = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal read
            read += 1
            body = page(read).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # who scrapes has gone
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()
