"""How a server begins its responses, taken from one of them, so that the poller (in C) recognises the next
ones by comparing bytes.

A template is the bytes themselves, with holes where answers differ and nothing depends on it: the values of
headers that we do not act upon, the names and the date of a chunk, the text of a token. Whatever fills its
holes means the same to us, but for the header that names an arm, whose value is kept; a response that differs
elsewhere goes through the parser.
"""

from __future__ import annotations

import re
from time import perf_counter_ns
from typing import TYPE_CHECKING

from rvtop.load.wire.arm import ARM_HEADER

if TYPE_CHECKING:
    from rvtop.load.native._native import Poller

#: A new template at most this often: a server whose responses all begin differently then costs no more than
#: without templates.
_EVERY_NS = 100_000_000

# The holes, as in text.c: bytes that stand in no header and in no JSON.
_NAME, _NUMBER, _TEXT, _VALUE, _ARM = b"\x00", b"\x01", b"\x02", b"\x03", b"\x04"
_HOLES = re.compile(rb"[\x00-\x04]")

_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?[\t\x20-\x7e\x80-\xff]*")
#: Headers that we or the parser act upon.
_ACTS = {
    b"connection",
    b"content-encoding",
    b"content-length",
    b"proxy-connection",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_NAMES = re.compile(rb'("(?:id|model)": ?")[ !#-\[\]-~]*(?=")')
_NUMBERS = re.compile(rb'("created": ?)(?:0|[1-9]\d{0,17})(?=[,}])')


class Templates:
    """Keeps a poller's template of how responses begin up to date."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self.head = b""  # a response head that means the same as each that the poller reads by its template
        self.set_ns = -_EVERY_NS  # when the last one was made (perf_counter)

    def set(self, head: bytes, preamble: bytes, before: bytes, after: bytes) -> None:
        """Takes the beginning of one plain response (see :func:`response_template`) as the template."""
        now = perf_counter_ns()
        if now - self.set_ns < _EVERY_NS:
            return
        found = response_template(head, preamble, before, after)
        if found is not None:
            self.set_ns = now
            self.head = head
            self._poller.set_template(*found)

    def clear(self) -> None:
        """The template fits no more: the next response is read by the parser."""
        if perf_counter_ns() - self.set_ns >= _EVERY_NS:
            self._poller.set_template(b"", b"", b"")


def response_template(
    head: bytes, preamble: bytes, before: bytes, after: bytes
) -> tuple[bytes, bytes, bytes] | None:
    """What ``Poller.set_template`` takes, from the beginning of one answer: its head with the empty line, the
    event without a token before the first token's (or none), and what stands in the first token's event
    before and after its text. None where something is uncommon."""
    form = _head(head)
    if form is None or _HOLES.search(preamble + before + after):
        return None
    return form, _event(preamble), _event(before + _TEXT + after)


def _head(head: bytes) -> bytes | None:
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if not first.startswith(b"HTTP/1.1 200") or _HOLES.search(head):
        return None
    out = [first]
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            return None
        name = header[1].lower()
        out.append(line if name in _ACTS else header[1] + b":" + (_ARM if name == ARM_HEADER else _VALUE))
    return b"\r\n".join([*out, b"", b""])


def _event(event: bytes) -> bytes:
    return _NUMBERS.sub(rb"\1" + _NUMBER, _NAMES.sub(rb"\1" + _NAME, event))
