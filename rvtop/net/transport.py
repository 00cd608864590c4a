"""How a target is reached, beside its URL: TLS, a unix socket, further headers. For all that talk to it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult

from rvtop.errors import UserError
from rvtop.system.files import check_regular

#: Where an API key goes by itself; any other header gets the bare key (Azure: ``api-key``).
AUTHORIZATION = "Authorization"


#: So long an address of several is waited for until the next one is tried beside it (RFC 8305).
NEXT_ADDRESS_S = 0.25


class TransportError(UserError):
    """Options by which no target can be reached."""


@dataclass(frozen=True)
class Transport:
    """Options of the way to a target. ``headers`` may be secret: they are in no log, message or repr; they
    go to the target's own origin only. ``key_header`` is the header that carries the API key."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key_header: str = AUTHORIZATION
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False
    unix_socket: str | None = None

    def key_headers(self, key: str | None) -> dict[str, str]:
        """The header that carries an API key, if there is one."""
        if not key:
            return {}
        bearer = self.key_header.lower() == AUTHORIZATION.lower()
        return {self.key_header: f"Bearer {key}" if bearer else key}

    def ssl_context(self) -> ssl.SSLContext:
        """What TLS connections to the target are made with. Raises TransportError, naming the file."""
        return ssl_context(self.ca_file, self.cert_file, self.key_file, insecure=self.insecure)

    def for_environment(self) -> dict[str, Any]:
        """What ``environment.json`` may hold of it: of headers the names only; nothing that is a default."""
        fields = {
            "headers": sorted(self.headers),
            "api_key_header": None if self.key_header == AUTHORIZATION else self.key_header,
            "ca": self.ca_file,
            "cert": self.cert_file,
            "key": self.key_file,
            "insecure": self.insecure,
            "unix_socket": self.unix_socket,
        }
        return {name: value for name, value in fields.items() if value}


def names_of(parts: SplitResult) -> tuple[str, str]:
    """Host of a URL as it is looked up, and as servers are told: a zone (``fe80::1%25eth0``) is ours."""
    host, _, zone = (parts.hostname or "").replace("%25", "%").partition("%")
    return (f"{host}%{zone}" if zone else host), host


def ssl_context(
    ca_file: str | None, cert_file: str | None, key_file: str | None, *, insecure: bool
) -> ssl.SSLContext:
    """A client's context: trust in ``ca_file`` alone or in the system's authorities, ``insecure`` in whoever
    answers; ``cert_file`` with ``key_file`` (or a key of its own) shows who we are.

    Raises TransportError, naming the file.
    """
    try:
        if ca_file is not None:
            check_regular(ca_file)
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise TransportError(f"--ca {ca_file}: {_problem(error, 'holds no PEM certificate')}") from error
    context.set_alpn_protocols(["http/1.1"])  # or a server may speak HTTP/2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file is not None:
        try:
            check_regular(cert_file)
            if key_file is not None:
                check_regular(key_file)
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except OSError as error:
            names = f"--cert {cert_file}" + (f" --key {key_file}" if key_file else "")
            what = "hold no PEM certificate and key that belong together"
            if not key_file:
                what = "holds no PEM certificate with its key (give the key's file with --key)"
            raise TransportError(f"{names}: {_problem(error, what)}") from error
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and a worker has none.
    raise TransportError("--key: the key is encrypted; give one without a passphrase")


def _problem(error: OSError, otherwise: str) -> str:
    if isinstance(error, ssl.SSLError):
        return otherwise + (f" ({error.reason})" if error.reason else "")
    return f"can't be read: {error.strerror or error}"
