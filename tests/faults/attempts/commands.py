"""Command lines and environments as hands and scripts give them."""

from __future__ import annotations

from tests.faults.attempts import attempt
from tests.faults.attempts.cli import Done, ended, folder, mock, ran, rvtop
from tests.mock.faulty import FaultyServer


@attempt("keys of spaces, newlines, Korean, NUL-like escapes: one line that does not show them")
def commands_odd_keys() -> None:
    with mock() as server:
        for key in ("two words", "line\nbreak", "열쇠", "tab\tkey", "\x7f", "\x1b[2J", "\xff\xfe"):
            done = ran(server.url, env={"RVTOP_API_KEY": key}, code=2, says="RVTOP_API_KEY")
            assert key not in done.err and "\x1b" not in done.err


@attempt("a key of 8000 letters, one of punctuation, an empty one")
def commands_long_keys() -> None:
    with FaultyServer() as server:
        for key in ("k" * 8000, "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./"):
            server.heard.clear()
            ran(server.url("good"), env={"RVTOP_API_KEY": key})
            sent = [fields.get("authorization") for method, _, fields, _ in server.heard if method == "POST"]
            assert set(sent) == {f"Bearer {key}"}, sent[:1]
        server.heard.clear()
        ran(server.url("good"), env={"RVTOP_API_KEY": ""})
        assert all("authorization" not in fields for _, _, fields, _ in server.heard)


@attempt("--header twice, in other capitals; of ours; without a colon; with a line break; of 10 000 letters")
def commands_headers() -> None:
    with FaultyServer() as server:
        url = server.url("good")
        ran(url, "--header", "X-A: 1", "--header", "x-a: 2", code=2, says="twice")
        ran(url, "--header", "Content-Length: 5", code=2, says="Content-Length")
        ran(url, "--header", "nonsense", code=2, says="Name: value")
        ran(url, "--header", "X-A: 1\r\nX-B: 2", code=2, says="X-A")
        ran(url, "--header", "X-한: 1", code=2)
        server.heard.clear()
        ran(url, "--header", "X-Long: " + "y" * 10_000, "--header", "X-Latin: é", "--header", "X-Empty:")
        posts = [fields for method, _, fields, _ in server.heard if method == "POST"]
        assert posts and all(len(fields["x-long"]) == 10_000 and fields["x-empty"] == "" for fields in posts)
        assert all(fields["x-latin"] == "é" for fields in posts)


@attempt("--body nested, of every JSON kind, twice, without a name")
def commands_body() -> None:
    with FaultyServer() as server:
        url = server.url("good")
        ran(
            url,
            "--body",
            'a={"b":[1,{"c":null}]}',
            "--body",
            "d=1.5",
            "--body",
            "e=x y",
            "--body",
            "temperature=null",
        )
        body = next(body for method, _, _, body in server.heard if method == "POST")
        assert (body["a"], body["d"], body["e"]) == ({"b": [1, {"c": None}]}, 1.5, "x y")
        assert "temperature" not in body
        ran(url, "--body", "a=1", "--body", "a=2", code=2, says="twice")
        ran(url, "--body", "=1", code=2)
        ran(url, "--body", "stream=false", code=2, says="stream")
        deep = "[" * 5000 + "]" * 5000
        done = _either(url, "--body", f"a={deep}")
        assert "Traceback" not in done.err
        ran(url, "--body", "a=" + "9" * 400)


def _either(url: str, *words: object) -> Done:
    """A run that may be refused."""
    run = folder() / "run"
    load = ("--rate", 10, "--duration", "500ms", "--output-tokens", 4)
    done = ended(rvtop("run", *load, *words, "--target", url, "--out", run, "--ui", "none"), run)
    assert done.code in (0, 2), (done.code, done.err)
    return done


@attempt("targets with a path, a page, capitals, a trailing slash: the same server")
def commands_targets() -> None:
    with mock() as server:
        for url in (
            server.url + "/",
            server.url + "/v1",
            server.url + "/v1/models",
            server.url.upper(),
            server.url[7:],
        ):
            assert not ran(url, "--rate", 10, "--duration", "500ms").errors


@attempt("a port that is out of range, none, in words, negative: one line, exit 2")
def commands_ports() -> None:
    for port in ("0", "65536", "99999999999", "-1", "http", "8000:8000"):
        done = ran(f"http://127.0.0.1:{port}", code=3 if port == "0" else 2)
        assert len(done.err.splitlines()) == 1


@attempt("an API key that the server refuses: one line, exit 3")
def commands_refused_key() -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ran(f"http://127.0.0.1:{server.server_port}", code=3, says="RVTOP_API_KEY")
        server.shutdown()


@attempt("every locale and time zone that may be set: the same figures in the same shape")
def commands_locales() -> None:
    with mock() as server:
        for more in (
            {"LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Seoul"},
            {"LC_ALL": "C", "LANG": "", "TZ": ":nonsense"},
            {"PYTHONUTF8": "0", "LC_ALL": "POSIX"},
            {"PYTHONIOENCODING": "ascii"},
        ):
            assert not ran(server.url, "--rate", 10, "--duration", "500ms", env=more).errors


@attempt("python's own switches in the environment: -O, warnings as errors, a hostile PYTHONPATH")
def commands_python_environment() -> None:
    place = folder()
    for name in ("json", "asyncio", "orjson", "uvloop"):
        (place / f"{name}.py.txt").write_text("raise SystemExit(9)\n")
    with mock() as server:
        assert not ran(server.url, env={"PYTHONOPTIMIZE": "2"}).errors
        assert not ran(server.url, env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}).errors
        assert not ran(server.url, env={"PYTHONPATH": str(place)}).errors


@attempt("a working folder with files named as ours and as the library's")
def commands_hostile_folder() -> None:
    place = folder()
    for name in ("rvtop", "backends", "json", "orjson", "numpy", "typing"):
        (place / f"{name}.py").write_text("raise SystemExit(9)\n")
    with mock() as server:
        assert not ran(server.url, cwd=place).errors


@attempt("HOME that is not there, and none at all")
def commands_no_home() -> None:
    with mock() as server:
        assert not ran(server.url, env={"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent/x"}).errors
        assert not ran(server.url, before=("env", "-u", "HOME")).errors
