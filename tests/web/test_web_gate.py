"""Who gets in by which name, token, cookie and origin."""

from __future__ import annotations

import socket

import pytest

from rvtop.web.gate import Gate, is_loopback

LOCAL, OPEN = Gate("127.0.0.1"), Gate("0.0.0.0")
NAME = socket.gethostname()


@pytest.mark.parametrize("header", ["127.0.0.1:80", "localhost:4000", "LOCALHOST", "[::1]:80", "127.9.9.9"])
def test_this_machine_is_reached_by_its_own_names(header: str) -> None:
    assert LOCAL.is_host(header)
    assert OPEN.is_host(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "10.0.0.1:80",
        ":80",
        "[::1",
        "a:b",
    ],
)
def test_other_names_are_refused_where_only_this_machine_is_to_be_reached(header: str | None) -> None:
    assert not LOCAL.is_host(header)


def test_where_others_may_come_they_do_by_address_or_by_the_name_given() -> None:
    assert OPEN.is_host("10.0.0.1:80")
    assert OPEN.is_host(f"{NAME}:80")
    assert Gate("Box.example").is_host("box.example:80")
    assert not OPEN.is_host("evil.example")
    assert not LOCAL.is_host("box.example")


@pytest.mark.parametrize(
    ("origin", "host", "ok"),
    [
        ("http://127.0.0.1:80", "127.0.0.1:80", True),
        ("https://127.0.0.1:80", "127.0.0.1:80", True),
        ("http://127.0.0.1:81", "127.0.0.1:80", False),
        ("http://evil.example", "127.0.0.1:80", False),
        ("null", "127.0.0.1:80", False),
        ("", "127.0.0.1:80", False),
        ("file://127.0.0.1:80", "127.0.0.1:80", False),
    ],
)
def test_a_websocket_comes_from_our_own_page(origin: str, host: str, ok: bool) -> None:
    assert LOCAL.is_origin({"Origin": origin, "Host": host}) == ok
    assert not LOCAL.is_origin({"Host": host})


def test_secrets_are_long_random_and_not_in_what_is_printed_of_them() -> None:
    assert len({LOCAL.token, LOCAL.cookie, OPEN.token, OPEN.cookie}) == 4
    assert len(LOCAL.token) >= 32
    assert LOCAL.token not in repr(LOCAL)
    assert LOCAL.cookie not in repr(LOCAL)
    assert LOCAL.is_token(LOCAL.token)
    assert LOCAL.is_cookie(LOCAL.cookie)
    for wrong in ("", LOCAL.token[:-1], LOCAL.token + "x", "é", "\udce9"):
        assert not LOCAL.is_token(wrong)
    assert not LOCAL.is_token(LOCAL.cookie)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box", False)],
)
def test_which_hosts_are_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
