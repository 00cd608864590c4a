"""Stands in for ``python -m backends`` where its end is tested, not its answers. The topology is how it acts.

steady: serves /health. slow: never ready. broken: fails to start. crashes: ends with 3 once ready.
stubborn: ignores every wish to stop, its child too, which is in a session of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        sick = os.path.exists(os.environ.get("FAKE_SICK", ""))
        body = b'{"error": {"message": "no engine"}}' if sick else b'{"status": "ok"}'
        self.send_response(503 if sick else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def emit(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def lease() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("topology")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lease", action="store_true")
    parser.add_argument("--model", action="append", default=[])
    args, _ = parser.parse_known_args()
    print("a line of the engine's log", file=sys.stderr, flush=True)
    emit("step", name="weights", state="run", elapsed_s=0.0, detail="tiny")
    if args.topology == "broken":
        print("CUDA out of memory: tried to allocate 2 GiB", file=sys.stderr, flush=True)
        emit("step", name="weights", state="fail", elapsed_s=0.1, detail="tiny")
        emit("error", kind="start", message="the weights do not fit")
        sys.exit(4)
    if args.topology == "stubborn":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    else:
        threading.Thread(target=lease, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if args.topology == "slow":
        time.sleep(600)
    server = ThreadingHTTPServer((args.host, args.port), Answers)
    server.daemon_threads = True
    emit("step", name="weights", state="done", elapsed_s=0.2, detail="tiny")
    url = f"http://{args.host}:{server.server_address[1]}"
    emit("ready", url=url, models=args.model or ["tiny"], pid=os.getpid(), topology=args.topology)
    if args.topology == "crashes":
        threading.Timer(0.3, os._exit, (3,)).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
