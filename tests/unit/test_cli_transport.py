"""Options for the way to a target: what is refused (in one line, without a secret), what they become."""

from __future__ import annotations

import dataclasses
import socket
import sys
from pathlib import Path

import pytest

import rvtop.cli.app
from rvtop.cli.transport import TargetOptions, body_from, transport_from
from rvtop.load.plan.prompts import Prompts
from rvtop.net.transport import Transport
from rvtop.session.request import SessionRequest

WEB = "http://127.0.0.1:9"
TLS = "https://127.0.0.1:9"
HIDDEN = "hidden-value"

#: Options -> what the line says. None of them may show HIDDEN.
REFUSED: dict[str, tuple[str, list[str], str]] = {
    "authorization": (
        WEB,
        ["--header", f"Authorization: Bearer {HIDDEN}"],
        "--header Authorization: a secret",
    ),
    "cookie": (WEB, ["--header", f"cookie: {HIDDEN}"], "RVTOP_API_KEY"),
    "azure's key": (WEB, ["--header", f"API-Key: {HIDDEN}"], "--header-file FILE"),
    "anthropic's key": (WEB, ["--header", f"x-api-key:{HIDDEN}"], "--header-file FILE"),
    "some token": (WEB, ["--header", f"X-Auth-Token: {HIDDEN}"], "shows in process lists"),
    "no colon": (WEB, ["--header", HIDDEN], "--header: must look like 'Name: value'"),
    "no name": (WEB, ["--header", f": {HIDDEN}"], "a header's name"),
    "a space in the name": (WEB, ["--header", f"X Y: {HIDDEN}"], "a header's name"),
    "a space behind the name": (WEB, ["--header", f"X-Y : {HIDDEN}"], "a header's name"),
    "a line break": (WEB, ["--header", f"X-Y: a\r\nX-Z: {HIDDEN}"], "the value of X-Y holds a character"),
    "a line feed": (WEB, ["--header", f"X-Y: {HIDDEN}\n"], "the value of X-Y holds a character"),
    "a line break in the name": (WEB, ["--header", f"X-Y\r\nX-Z: {HIDDEN}"], "a header's name"),
    "beyond Latin-1": (WEB, ["--header", f"X-Y: 서버 {HIDDEN}"], "beyond Latin-1"),
    "our own": (WEB, ["--header", "Content-Length: 5"], "rvtop sets it itself"),
    "framing": (WEB, ["--header", "Transfer-Encoding: chunked"], "rvtop sets it itself"),
    "twice": (WEB, ["--header", "X-Y: 1", "--header", "x-y: 2"], "--header x-y: is given twice"),
    "no header file": (WEB, ["--header-file", "gone"], "--header-file gone: can't be read: No such file"),
    "a folder": (WEB, ["--header-file", "."], "--header-file .: can't be read"),
    "bytes": (WEB, ["--header-file", "bytes"], "it is not UTF-8"),
    "a bad line": (WEB, ["--header-file", "bad"], "--header-file bad:3: must look like"),
    "a break in a file": (WEB, ["--header-file", "break"], "--header-file break:1: the value of X-Y"),
    "in both": (
        WEB,
        ["--header", "X-Y: 1", "--header-file", "good"],
        "--header-file good:2: X-Y: is given twice",
    ),
    "a key header of ours": (WEB, ["--api-key-header", "Host"], "--api-key-header Host"),
    "a key header that is none": (WEB, ["--api-key-header", "api key"], "a header's name"),
    "no authority": (TLS, ["--ca", "gone.pem"], "--ca gone.pem: can't be read"),
    "no certificate": (TLS, ["--cert", "gone.pem"], "--cert gone.pem: can't be read"),
    "a key alone": (TLS, ["--key", "gone.pem"], "--key gone.pem: goes with --cert"),
    "TLS without TLS": (WEB, ["--ca", "gone.pem"], "--ca: http://127.0.0.1:9 is not https://"),
    "insecure without TLS": (WEB, ["--insecure"], "--insecure: http://127.0.0.1:9 is not https://"),
    "trust and no trust": (TLS, ["--insecure", "--ca", "good"], "give one of them"),
    "a password in the URL": (f"http://me:{HIDDEN}@h", [], "http://h: a user name or password in a URL"),
    "a password beside TLS": (f"http://me:{HIDDEN}@h", ["--insecure"], "--insecure: http://h is not"),
    "a password in a page's URL": (
        WEB,
        ["--metrics-url", f"http://me:{HIDDEN}@h/m"],
        "http://h/m: leave out",
    ),
    "a page at no URL": (WEB, ["--metrics-url", "http://[::1"], "--metrics-url http://[::1: must look like"),
    "a page that is a file": (WEB, ["--metrics-url", "file:///etc/passwd"], "must look like http://"),
    "stream": (WEB, ["--body", "stream=false"], "--body stream: can't be set, rvtop measures streams"),
    "model": (WEB, ["--body", "model=x"], "use --model"),
    "messages": (WEB, ["--body", "messages=[]"], "--body messages: can't be set"),
    "prompt": (WEB, ["--body", "prompt=x"], "--body prompt: can't be set"),
    "no value": (WEB, ["--body", "top_p"], "--body top_p: must look like name=value"),
    "no field": (WEB, ["--body", "=1"], "must look like name=value"),
    "a field twice": (WEB, ["--body", "a=1", "--body", "a=2"], "--body a: is given twice"),
    "no text": (WEB, ["--body", "a=\udcff"], "is not UTF-8"),
}


@pytest.mark.parametrize("command", ["run", "attach"])
@pytest.mark.parametrize("name", REFUSED)
def test_bad_options_are_one_line(
    name: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url, words, says = REFUSED[name]
    (tmp_path / "good").write_text("\nX-Y: 1\n")
    (tmp_path / "bad").write_text(f"# {HIDDEN}\nX-Y: 1\n{HIDDEN}\n")
    (tmp_path / "break").write_text(f"X-Y: a\rX-Z: {HIDDEN}\n", newline="")
    (tmp_path / "bytes").write_bytes(b"X-Y: \xff\n")
    monkeypatch.chdir(tmp_path)
    first = ["run", "--rate", "1", "--target", url] if command == "run" else ["attach", url]
    monkeypatch.setattr(sys, "argv", ["rvtop", *first, *words])
    ended = rvtop.cli.app.command()
    out, err = capfd.readouterr()
    assert (ended, out) == (2, ""), err
    assert err.startswith("rvtop: ")
    assert err.count("\n") == 1
    assert says in err
    assert HIDDEN not in err


@pytest.mark.parametrize(
    "words", [["--insecure"], ["--unix-socket", "s"], ["--header", "X-Y: 1"], ["--api-key-header", "api-key"]]
)
def test_a_topology_of_ours_needs_none_of_it(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rvtop", "run", "--rate", "1", "--topology", "baseline", *words])
    ended = rvtop.cli.app.command()
    assert ended == 2
    assert f"{words[0]} goes with --target" in capfd.readouterr().err


def test_what_the_options_become(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_bytes(
        b"# secret\r\nAuthorization: Basic " + HIDDEN.encode() + b"\r\n\r\nX-Name: caf\xc3\xa9\r\n"
    )
    way = transport_from(
        WEB,
        TargetOptions(
            unix_socket=Path("s.sock"),
            header=["X-A:1", "Host: h:2"],
            header_file=file,
            api_key_header="api-key",
        ),
    )
    wanted = {"X-A": "1", "Host": "h:2", "Authorization": f"Basic {HIDDEN}", "X-Name": "café"}
    assert dict(way.headers) == wanted
    assert way.key_headers("k") == {"api-key": "k"}
    assert Transport().key_headers("k") == {"Authorization": "Bearer k"}
    assert way.key_headers("") == way.key_headers(None) == {}
    assert way.for_environment() == {
        "headers": ["Authorization", "Host", "X-A", "X-Name"],
        "api_key_header": "api-key",
        "unix_socket": "s.sock",
    }
    assert Transport().for_environment() == {}
    request = SessionRequest(scenario=None, out=Path("r"), url=WEB, transport=way)
    assert HIDDEN not in repr(request)
    assert dataclasses.replace(way, headers={}) != way


def test_a_key_comes_from_one_place_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "headers").write_text(f"authorization: Bearer {HIDDEN}\n")
    monkeypatch.setenv("RVTOP_API_KEY", HIDDEN)
    words = ["attach", WEB, "--header-file", str(tmp_path / "headers")]
    monkeypatch.setattr(sys, "argv", ["rvtop", *words])
    ended = rvtop.cli.app.command()
    said = "Authorization comes from RVTOP_API_KEY and from a header option: take one of them away"
    assert (ended, capfd.readouterr().err) == (2, f"rvtop: {said}\n")


def test_fields_are_json_where_they_can_be() -> None:
    texts = [
        "a=1",
        "b=0.5",
        "c=true",
        "d=null",
        'e={"k":[1]}',
        "f=plain = text",
        "g=",
        'h="1"',
        "i=NaN",
        "j={",
    ]
    assert body_from(texts) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": None,
        "e": {"k": [1]},
        "f": "plain = text",
        "g": "",
        "h": "1",
        "i": "NaN",
        "j": "{",
    }
    assert body_from(None) == {}


def test_fields_win_over_the_scenarios_and_over_a_prompts_own(tmp_path: Path) -> None:
    import json

    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "max_tokens": 7}\n{"prompt": "b"}\n')
    body = {"max_tokens": 9, "temperature": 1.0, "ignore_eos": True}

    def bodies(extra: dict[str, object]) -> list[dict[str, object]]:
        prompts = Prompts(path, ["m"], body, extra)
        return [json.loads(prompts.body(index, 0)) for index in range(2)]

    fixed = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    assert bodies({}) == [
        {**fixed, "prompt": "a", "max_tokens": 7, "temperature": 1.0},
        {**fixed, "prompt": "b", "max_tokens": 9, "temperature": 1.0},
    ]
    assert bodies({"max_tokens": 3, "temperature": 0, "top_k": 5}) == [
        {**fixed, "prompt": "a", "max_tokens": 3, "temperature": 0, "top_k": 5},
        {**fixed, "prompt": "b", "max_tokens": 3, "temperature": 0, "top_k": 5},
    ]
    assert bodies({"max_completion_tokens": 3, "ignore_eos": None, "temperature": None}) == [
        {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "prompt": prompt, **new}
        for prompt, new in (("a", {"max_completion_tokens": 3}), ("b", {"max_completion_tokens": 3}))
    ]
    usage = {"stream_options": {"continuous_usage_stats": True, "include_usage": False}}
    assert [one["stream_options"] for one in bodies(usage)] == [
        {"continuous_usage_stats": True, "include_usage": True}
    ] * 2


def test_a_socket_that_is_none_is_a_target_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "left"))  # as a server leaves it that was killed
    for name, says in (
        ("gone", "No such file"),
        ("file", "refused"),
        ("left", "refused"),
        ("x" * 200, "too long"),
    ):
        words = ["attach", "http://localhost", "--unix-socket", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", ["rvtop", *words])
        ended = rvtop.cli.app.command()
        err = capfd.readouterr().err
        assert (ended, err.count("\n")) == (3, 1)
        assert says in err
        assert name in err
