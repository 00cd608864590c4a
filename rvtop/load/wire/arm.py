"""The arm of a request: which of several models behind one name answered it, as the server's gateway says."""

from __future__ import annotations

from rvtop.text import printable

#: The header of a response that names it.
ARM_HEADER = b"x-rvtop-arm"
#: Of its name; the C side keeps as many bytes.
ARM_LIMIT = 64


def arm_of(value: bytes) -> str | None:
    """The name in the header's value; None where it is empty."""
    return printable(value[:ARM_LIMIT].decode("utf-8", "replace").strip(), ARM_LIMIT) or None
