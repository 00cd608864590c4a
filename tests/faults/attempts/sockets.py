"""``--control``: clients that send half lines, flood, hang and lie; stale sockets and those of others."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.attempts import Skip, attempt
from tests.faults.attempts.cli import Done, check, ended, folder, lines, mock, rvtop, stopped, until

_NOBODY = 65534
_WAIT_S = 60.0


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Where a socket may lie: folders of attempts may be too deep."""
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        yield Path(base) / "s"


@contextlib.contextmanager
def session(*words: object, target: str = "") -> Iterator[tuple[Any, Path, Path]]:
    """A run that only a command or a signal ends: its process, its folder, its socket."""
    with contextlib.ExitStack() as stack:
        url = target or stack.enter_context(mock()).url
        path = stack.enter_context(place())
        run = folder() / "run"
        load = ("--rate", 20, "--duration", "20m", "--output-tokens", 8)
        process = rvtop(
            "run", *load, "--target", url, "--out", run, "--ui", "none", "--control", path, *words
        )
        until(lambda: lines(run) >= 5 or process.poll() is not None, "five requests")
        assert process.poll() is None, process.communicate()
        yield process, run, path


def dial(path: Path) -> socket.socket:
    """A connection, its greeting unread."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_WAIT_S)
    client.connect(str(path))
    return client


def asked(path: Path, *sent: bytes) -> list[dict[str, Any]]:
    """What is answered to bytes, up to the end of the connection or one answer a line."""
    found = []
    with dial(path) as client, client.makefile("rb") as answers:
        answers.readline()
        with contextlib.suppress(OSError):  # it may be cut off while we send
            for part in sent:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            found = [json.loads(line) for line in answers]
    return found


def ctl(path: Path, *words: object, code: int = 0, says: str = "") -> Done:
    """``rvtop ctl``, which must end with ``code`` and, where it fails, say so in one line."""
    done = ended(rvtop("ctl", path, *words), path)
    assert done.code == code, (words, done.code, done.err)
    if code:
        assert done.err.startswith("rvtop: ") and len(done.err.splitlines()) == 1, done.err
    assert says in done.err + done.out, (done.err, done.out)
    assert "\x1b" not in done.err + done.out
    return done


def goes_on(run: Path) -> None:
    """Requests still end."""
    before = lines(run)
    until(lambda: lines(run) >= before + 5, "five more requests")


@attempt("half a line, a byte at a time, a line too long, NULs, JSON 5000 deep: the run goes on")
def control_lines() -> None:
    with session() as (process, run, path):
        assert asked(path, b'{"cmd": "rate", "rp') == []
        assert "ok" in asked(path, *(bytes([byte]) for byte in b'{"cmd":"mark","note":"slowly"}\n'))[0]
        (answer,) = asked(path, b'{"cmd": "mark", "note": "' + b"x" * (1 << 20) + b'"}\n')
        assert "longer than" in answer["error"]
        odd = (b"\0" * 50, b"\xff\xfe", b"[" * 5000 + b"]" * 5000, b"null", b"1e999", b'{"cmd":{}}', b"{}")
        for text in odd:
            (answer,) = asked(path, text + b"\n")
            assert "error" in answer, (text[:20], answer)
        goes_on(run)
        stopped(process, run)


@attempt("six clients that send commands as fast as they can and read nothing: the run goes on")
def control_floods() -> None:
    with session() as (process, run, path):
        stop = threading.Event()

        def flood(number: int) -> None:
            line = (b'{"cmd":"snapshot"}\n', b'{"cmd":"rate","rps":-1}\n', b'{"cmd":"watch"}\n')[number % 3]
            with contextlib.suppress(OSError), dial(path) as client:
                client.settimeout(1)
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        client.sendall(line * 500)

        floods = [threading.Thread(target=flood, args=(n,)) for n in range(6)]
        for thread in floods:
            thread.start()
        try:
            for _ in range(3):
                goes_on(run)
                ctl(path, "snapshot")
        finally:
            stop.set()
            for thread in floods:
                thread.join()
        goes_on(run)
        done = stopped(process, run)
        assert not {"worker_lost", "client_limit"} & set(done.errors), done.errors


@attempt("two clients that command at once, fifty commands each: all are in the log, in one order")
def control_two_at_once() -> None:
    with session() as (process, run, path):
        answers: list[dict[str, Any]] = []

        def steps(first: int) -> None:
            text = b"".join(b'{"cmd":"rate","rps":%d}\n' % (first + n % 5) for n in range(50))
            answers.extend(asked(path, text))

        both = [threading.Thread(target=steps, args=(first,)) for first in (5, 15)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert len(answers) == 100 and all("ok" in answer for answer in answers), answers[:3]
        done = stopped(process, run)
    rates = [row for row in done.rows("commands.jsonl") if row["cmd"] == "rate" and row["by"] == "control"]
    times = [row["t_ns"] for row in rates if "t_ns" in row]
    assert len(rates) == 100 and times == sorted(times)


@attempt("a crowd of 60 clients that say nothing: 32 get in, the others one line; then there is room again")
def control_crowd() -> None:
    with session() as (process, run, path):
        with contextlib.ExitStack() as stack:
            greetings = [
                stack.enter_context(stack.enter_context(dial(path)).makefile("rb")).readline()
                for _ in range(60)
            ]
            assert sum(b"protocol" in line for line in greetings) == 32, greetings
            ctl(path, "pause", code=2, says="32 clients are the most")
        until(lambda: b"protocol" in dial_line(path), "room for a client")
        ctl(path, "snapshot")
        stopped(process, run)


def dial_line(path: Path) -> bytes:
    with dial(path) as client, client.makefile("rb") as answers:
        return answers.readline()


@attempt(
    "a client that watches and never reads, and one stopped by SIGSTOP: the run goes on and ends in time"
)
def control_never_reads() -> None:
    with session() as (process, run, path), dial(path) as client:
        client.sendall(b'{"cmd":"watch"}\n')
        watching = rvtop("ctl", path, "watch", "--json", stdout=subprocess.DEVNULL)
        os.kill(watching.pid, signal.SIGSTOP)
        for _ in range(10):
            goes_on(run)
        stopped(process, run)
        os.kill(watching.pid, signal.SIGCONT)
        assert watching.wait(_WAIT_S) in (0, 3)


@attempt("another user: neither the socket nor ctl lets it in, whatever the umask of the run")
def control_other_user() -> None:
    if os.geteuid():
        raise Skip("needs root, to become somebody else")
    with session() as (process, run, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.parent.chmod(0o755)
        code = (
            f"import os, socket; os.setuid({_NOBODY}); s = socket.socket(socket.AF_UNIX)\n"
            f"try: s.connect({str(path)!r})\n"
            "except PermissionError: raise SystemExit(7)"
        )
        done = subprocess.run(["python3", "-c", code], check=False)
        assert done.returncode == 7
        stopped(process, run)


@attempt(
    "a socket that a killed session left is replaced; a live one, a file, a folder, a FIFO and a link are not"
)
def control_paths() -> None:
    with session() as (process, run, path), mock() as server:

        def tried(where: object) -> Done:
            out = folder() / "run"
            load = ("--rate", 10, "--duration", "500ms", "--output-tokens", 4, "--ui", "none")
            return ended(rvtop("run", *load, "--target", server.url, "--out", out, "--control", where), out)

        check(tried(path), 2, "listens there already")
        base = folder()
        (base / "file").write_text("mine")
        (base / "folder").mkdir()
        os.mkfifo(base / "fifo")
        (base / "link").symlink_to(base / "file")
        (base / "loop").symlink_to(base / "loop")
        for where in ("file", "folder", "fifo", "link", "loop", "none/s", "x" * 300, "x" * 120):
            done = tried(base / where)
            assert done.code == 2 and len(done.err.splitlines()) == 1, (where, done.code, done.err)
        assert (base / "file").read_text() == "mine"
        goes_on(run)
        process.kill()
        process.wait()
        check(tried(path), 0)
        assert not path.exists()


@attempt(
    "the socket's file is deleted, or another one is put there: the run goes on, and leaves that one alone"
)
def control_removed() -> None:
    for replaced in (False, True):
        with session() as (process, run, path):
            path.unlink()
            if replaced:
                path.write_text("another's")
            ctl(path, "snapshot", code=3)
            goes_on(run)
            stopped(process, run)
            assert path.exists() == replaced


@attempt("a socket of another program: silent, garbage, HTTP, closed at once, a flood, a protocol to come")
def control_impostors() -> None:
    flood = b"x" * (1 << 20)
    greeting = b'{"rvtop":"9.0","protocol":9,"session":"\\u001b[2J","commands":[]}\n'
    says: tuple[tuple[bytes, str], ...] = (
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        (b"\xff\xfe\0\n", ""),
        (b"", ""),
        (b'{"error":"\\u001b[2J go away"}\n', "go away"),
        (flood, ""),
        (greeting + b'{"ok":7}\n{"type":"snapshot","t_s":"x"}\n', ""),
        (greeting + b"[1]\n", ""),
        (greeting + b'{"type":"snapshot"', ""),
    )
    for text, expected in says:
        for word in ("snapshot", "watch"):
            with place() as path, listening(path, text):
                done = ended(rvtop("ctl", path, word), path)
                assert done.code in (2, 3), (text[:30], word, done.code, done.out)
                assert len(done.err.splitlines()) == 1 and expected in done.err, done.err
                assert "\x1b" not in done.err + done.out
    with place() as path, listening(path, None):
        ctl(path, "pause", code=3, says="no answer within")


@contextlib.contextmanager
def listening(path: Path, text: bytes | None) -> Iterator[None]:
    """Something that says ``text`` to each client and hangs up; None: it says nothing, and stays."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        held = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    if text is None:
                        held.append(client)
                        continue
                    with client, contextlib.suppress(OSError):
                        client.settimeout(_WAIT_S)
                        client.sendall(text)
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(1 << 12):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for client in held:
                client.close()


@attempt("a session killed while others watch it: their ends say so, in plain lines and in JSON")
def control_watched_session_killed() -> None:
    with session() as (process, run, path):
        told = folder() / "told"
        with told.open("wb") as out:
            watching = [rvtop("ctl", path, "watch", *more, stdout=out) for more in ((), ("--json",))]
            until(lambda: told.stat().st_size > 2000, "what they see")
            process.kill()
            process.wait()
            for one in watching:
                done = ended(one, run)
                assert done.code in (0, 3) and len(done.err.splitlines()) <= 1, (done.code, done.err)


@attempt("values that are none: refused in one line each, and the load is as before")
def control_values() -> None:
    wrong: tuple[tuple[object, ...], ...] = (
        ("rate", "NaN"),
        ("rate", "1e400"),
        ("rate", "-1"),
        ("rate", "x"),
        ("rate", "null"),
        ("rate", "[1]"),
        ("rate", "9" * 400),
        ("rate",),
        ("rate", "1", "2"),
        ("phase", "sideways"),
        ("slo", "ttft_ms=-5"),
        ("slo", "ttft_ms=NaN"),
        ("workload", "max_tokens=-1"),
        ("workload", "max_tokens=1.5"),
        ("workload", "prompt_tokens=" + "9" * 30),
        ("retarget", "url="),
        ("retarget", "url=file:///etc/passwd"),
        ("retarget", "topology=none"),
        ("undo", "x"),
        ("sotp",),
    )
    with session() as (process, run, path):
        for words in wrong:
            ctl(path, *words, code=2)
        goes_on(run)
        done = stopped(process, run)
    assert not [row for row in done.rows("commands.jsonl") if row.get("by") == "control"]


@attempt("notes of escapes, bidi, 60 KB and many lines: no terminal sees them raw, the log has one line each")
def control_notes() -> None:
    notes = ("\x1b[2J\x1b]0;x\x07", "\u202egnp.exe", "a\nb\rc", "메모", "x" * 60_000, " ", "\ud800")
    with session("--ui", "plain") as (process, run, path):
        for note in notes:
            text = json.dumps({"cmd": "mark", "note": note}).encode() + b"\n"
            (answer,) = asked(path, text)
            assert {"ok", "error"} & set(answer)
        goes_on(run)
        done = stopped(process, run)
    for raw in ("\x1b", "\u202e", "\x07"):
        assert raw not in done.out + done.err
    assert done.rows("commands.jsonl") and done.rows("events.jsonl")


@attempt("retarget to servers that refuse, hang, talk garbage or fail: one line each, the load stays")
def control_retarget_dead() -> None:
    with session() as (process, run, path):
        ctl(path, "retarget", "http://127.0.0.1:1", code=2)
        for reply in (b"SSH-2.0-x\r\n", b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b""):
            with tcp(reply) as url:
                ctl(path, "retarget", url, code=2)
        goes_on(run)
        with tcp(None) as url:  # it accepts, and says nothing
            hanging = rvtop("ctl", path, "retarget", url)
            ctl(path, "rate", 10)
            ctl(path, "mark", "meanwhile")
            done = ended(hanging, run, 200)
            assert done.code == 2 and len(done.err.splitlines()) == 1, (done.code, done.err)
        goes_on(run)
        done = stopped(process, run)
    assert not set(done.errors) - {"cancelled"}, done.errors


@attempt("a run that is ended while a retarget waits for a server that says nothing: it ends at once")
def control_retarget_left() -> None:
    with session() as (process, run, path), tcp(None) as url:
        hanging = rvtop("ctl", path, "retarget", url)
        ctl(path, "rate", 10)
        stopped(process, run)
        done = ended(hanging, run)
        assert done.code in (2, 3) and len(done.err.splitlines()) == 1, (done.code, done.err)


@attempt("two retargets at once, and one back: each is answered, the load ends on one server", limit_s=150)
def control_retarget_twice() -> None:
    with session() as (process, run, path), mock() as second, mock() as third:
        both = [rvtop("ctl", path, "retarget", server.url) for server in (second, third)]
        for one in both:
            done = ended(one, run, 100)
            assert done.code in (0, 2) and len(done.err.splitlines()) <= 1, (done.code, done.err)
        goes_on(run)
        ctl(path, "undo")
        goes_on(run)
        done = stopped(process, run)
    assert not set(done.errors) - {"cancelled"}, done.errors


@attempt("a server that dies right behind a retarget to it; undo goes back to the first one", limit_s=150)
def control_retarget_dies() -> None:
    with session() as (process, run, path), mock() as second:
        ctl(path, "retarget", second.url)
        second.stop()
        until(
            lambda: any("refused" in line for line in (run / "requests.jsonl").read_text().splitlines()),
            "its end",
        )
        ctl(path, "undo")
        before = good(run)
        until(lambda: good(run) > before + 5, "answers of the first server")
        stopped(process, run)


def good(run: Path) -> int:
    return sum('"error":null' in line for line in (run / "requests.jsonl").read_text().splitlines())


@attempt("stop from two clients and Ctrl-C at once: results, one end")
def control_stop_twice() -> None:
    with session() as (process, run, path):
        both = [rvtop("ctl", path, "stop") for _ in range(2)]
        for one in both:
            done = ended(one, run)
            assert done.code in (0, 2, 3) and len(done.err.splitlines()) <= 1, (done.code, done.err)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        done = ended(process, run)
        assert done.code in (0, 130), (done.code, done.err)
        check(done, done.code)
        assert not path.exists()


@contextlib.contextmanager
def tcp(reply: bytes | None) -> Iterator[str]:
    """A TCP server that says ``reply`` to each client; None: nothing, and the connection stays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    held.append(client)
                    if reply is not None:
                        with client, contextlib.suppress(OSError):
                            client.recv(1 << 12)
                            client.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for client in held:
                client.close()
