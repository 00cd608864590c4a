"""Connections to one server resume its session, until it takes the ticket no more."""

from __future__ import annotations

import ssl

import pytest

from rvtop.load.wire.tls import Tickets
from tests.unit.tls_peer import Peer, server_context

VERSIONS = [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2]


@pytest.mark.parametrize("version", VERSIONS, ids=["1.3", "1.2"])
def test_the_next_connection_resumes_the_session_of_the_first(version: ssl.TLSVersion) -> None:
    tickets = Tickets()
    assert tickets.session() is None
    first = Peer(version)
    tickets.stands(first.client)
    first.client.decrypt(first.said + first.seal(b"x"))
    for _ in range(2):  # the ticket serves more than once
        session = tickets.session()
        assert session is not None
        second = Peer(version, session)
        tickets.stands(second.client)
        assert second.client.resumed
        assert tickets.session() is session


def test_a_ticket_that_is_refused_is_given_up_for_the_next_one() -> None:
    tickets = Tickets()
    first = Peer()
    tickets.stands(first.client)
    first.client.decrypt(first.said)
    refused = tickets.session()
    second = Peer(session=refused, server=server_context())
    assert not second.client.resumed
    tickets.stands(second.client)
    second.client.decrypt(second.said)
    assert tickets.session() not in (None, refused)


def test_a_connection_that_goes_before_its_ticket_came_gives_none() -> None:
    tickets = Tickets()
    first = Peer()
    tickets.stands(first.client)
    del first
    assert tickets.session() is None
    second = Peer()
    tickets.stands(second.client)
    second.client.decrypt(second.said)
    assert tickets.session() is not None
