"""What is learned of how a server begins its answers: what may differ in the next one, and what may not."""

from __future__ import annotations

import pytest

from rvtop.load.native.templates import response_template

HEAD = (
    b"HTTP/1.1 200 OK\r\nDate: now\r\nX-Request-Id:abc\r\nConnection: keep-alive\r\n"
    b"Content-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"
)
BEFORE = b'data: {"id":"cmpl-1","created": 170,"model": "m","choices":[{"text":"'
AFTER = b'","finish_reason":null}]}\n\n'


def test_holes_are_where_nothing_depends_on_the_value() -> None:
    found = response_template(HEAD, b'data: {"id": "cmpl-1","created":0}\n\n', BEFORE, AFTER)
    assert found is not None
    head, opening, first = found
    assert head == (
        b"HTTP/1.1 200 OK\r\nDate:\x03\r\nX-Request-Id:\x03\r\nConnection: keep-alive\r\n"
        b"Content-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert opening == b'data: {"id": "\x00","created":\x01}\n\n'
    assert first == (
        b'data: {"id":"\x00","created": \x01,"model": "\x00","choices":[{"text":"\x02"'
        b',"finish_reason":null}]}\n\n'
    )


def test_the_name_of_an_arm_has_a_hole_of_its_own() -> None:
    found = response_template(HEAD.replace(b"X-Request-Id:abc", b"X-Rvtop-Arm: v1"), b"", BEFORE, AFTER)
    assert found is not None
    assert b"\r\nX-Rvtop-Arm:\x04\r\n" in found[0]


def test_there_may_be_no_event_before_the_first_token() -> None:
    found = response_template(HEAD, b"", BEFORE, AFTER)
    assert found is not None
    assert found[1] == b""


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"content-encoding",
        b"content-length",
        b"proxy-connection",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ],
)
def test_what_is_acted_upon_stands_as_it_is(name: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + name.title() + b": this\r\n\r\n"
    found = response_template(head, b"", BEFORE, AFTER)
    assert found is not None
    assert found[0] == head


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"200", b"500"),
        HEAD.replace(b"1.1", b"1.0"),
        HEAD.replace(b"now", b"\x02"),
        HEAD.replace(b"now", b"now\r\n folded"),
        HEAD.replace(b"Date", b"Da te"),
        HEAD.replace(b"now", b"\x7f"),
    ],
)
def test_of_an_uncommon_head_nothing_is_learned(head: bytes) -> None:
    assert response_template(head, b"", BEFORE, AFTER) is None


def test_of_events_that_hold_the_marks_of_holes_nothing_is_learned() -> None:
    for opening, before, after in ((b"\x00", BEFORE, AFTER), (b"", b"\x01", AFTER), (b"", BEFORE, b"\x02")):
        assert response_template(HEAD, opening, before, after) is None


@pytest.mark.parametrize("value", [b"1e3", b"017", b"1" * 19, b"-1", b"1.5"])
def test_only_a_plain_number_is_a_hole(value: bytes) -> None:
    event = b'data: {"created":' + value + b"}\n\n"
    found = response_template(HEAD, event, BEFORE, AFTER)
    assert found is not None
    assert found[1] == event
