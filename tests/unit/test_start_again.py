"""A backend that lost its cluster is a new program in the same process, with the same port."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import asyncio, json, os, socket
from backends.process import again
from backends.process.running import StartAgain

why = again.remember()
listener = again.listener() or socket.create_server(("127.0.0.1", 0))
facts = {"why": why, "pid": os.getpid(), "port": listener.getsockname()[1], "again": again.is_again(),
         "nodes": again.nodes_before(), **{what: again.changed_before(what) for what in ("set", "split")}}
print(json.dumps({**facts, "mine": os.environ.get("MINE"), "given": os.environ["GIVEN"]}), flush=True)
if not why:
    os.environ["MINE"] = "set while it ran"
    again._SAID_S, again._CLOSE_LIMIT_S = 0.0, HANGS

    class Running:
        async def close(self, grace_s):
            await asyncio.sleep(60)

    reason = StartAgain("the head was lost")
    reason.nodes = 3
    again.keep("set", {"max_tokens": 7, "temperature": 1})
    again.keep("set", {"temperature": None})
    asyncio.run(again.start_again(reason, Running(), listener, os.dup(1)))
    print("it came back")
"""


def test_it_keeps_its_process_and_port_and_says_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("HANGS", "0.1")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"GIVEN": "x", "PATH": ""},
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["why"], first["again"]) == ("", False)
    assert (second["why"], second["again"]) == ("the head was lost", True)
    assert (first["nodes"], second["nodes"]) == (0, 3)
    assert (second["pid"], second["port"]) == (first["pid"], first["port"])
    assert second["mine"] is None  # what it set for the cluster that is gone
    assert second["given"] == "x"
    assert (first["set"], second["set"]) == ({}, {"max_tokens": 7, "temperature": None})
    assert second["split"] == {}
    assert "the head was lost" in done.stderr
