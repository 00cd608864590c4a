"""``--serve``: the session also in browsers, of whichever command shows one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rvtop.system.stdio import say_error

if TYPE_CHECKING:
    from rvtop.web.client import WebAddress, WebOptions


@contextmanager
def serving(options: WebOptions | None, socket: Path | None) -> Iterator[WebAddress | None]:
    """The web view of a session and its address, which is said once; see ``rvtop.web.client.web_view``."""
    if options is None:
        yield None
        return
    from rvtop.web.client import web_view
    from rvtop.web.gate import is_loopback

    with web_view(options, socket) as view:
        say_error(f"web view: {view.url}")
        if not is_loopback(options.host):
            say_error(
                "warning: the web view is plain HTTP: who is on the way can read the screen and the token; "
                "safer is 127.0.0.1 and ssh -L PORT:127.0.0.1:PORT"
            )
        yield view
