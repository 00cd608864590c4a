"""Inside a namespace: a Ray cluster of one node, ``serve deploy`` of a Serve config as it is, and requests.

    python -m tests.deploy.serve_text CONFIG.yaml MODEL REQUESTS

The last line of stdout is JSON: how many requests were answered, and with which status one without a key is
refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from tests.deploy.in_namespace import loopback_up

URL = "http://127.0.0.1:8000"
BIN = Path(sys.executable).parent
LIMIT_S = 900.0


def main() -> None:
    config, model, count = sys.argv[1:]
    loopback_up()
    _run("ray", "start", "--head", "--num-cpus=4", "--disable-usage-stats", "--node-ip-address=127.0.0.1")
    _run("serve", "deploy", config)
    began = time.monotonic()
    while _status(model, "Say one word.") != 200:
        if time.monotonic() - began > LIMIT_S:
            _run("serve", "status")
            raise SystemExit("it did not come up")
        time.sleep(1)
    codes = Counter(_status(model, f"Question {number}?") for number in range(int(count)))
    models = [card["id"] for card in json.loads(_get("/v1/models"))["data"]]
    print(json.dumps({"codes": codes, "models": models, "without key": _status(model, "Hi", key=None)}))


def _run(program: str, *words: str) -> None:
    subprocess.run([str(BIN / program), *words], check=True, stdout=sys.stderr)


def _request(path: str, key: str | None, body: bytes | None = None) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return urllib.request.Request(f"{URL}{path}", body, headers)


def _get(path: str) -> bytes:
    with urllib.request.urlopen(_request(path, os.environ.get("RVTOP_API_KEY")), timeout=60) as answer:
        return bytes(answer.read())


def _status(model: str, text: str, key: str | None = "") -> int:
    """Of one chat completion; 0 while nothing listens. ``key`` empty: the environment's."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
    key = os.environ.get("RVTOP_API_KEY") if key == "" else key
    request = _request("/v1/chat/completions", key, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


if __name__ == "__main__":
    main()
