"""The load goes over to another server while it runs (`retarget`)."""

from __future__ import annotations

from collections.abc import Callable

from rvtop.session.load_run import LoadRun, Parts
from rvtop.session.rate_control import Done


class Retargeting:
    """Takes the load of a session to other servers, one at a time. ``load`` returns the load that runs."""

    def __init__(self, parts: Parts, load: Callable[[], LoadRun]) -> None:
        self._parts = parts
        self._load = load

    async def go_to(self, url: str, models: tuple[str, ...] = (), *, by: str) -> Done:
        """Probes the server at ``url``, has it answer three warm-up requests per model, and then sends the
        load there, from 50 ms after the last of them; the phase that runs begins anew, at the rate that is in
        force, paused if it is paused. Telemetry and the watch of the target follow.

        ``models``: those to send to, none: those that it serves. ``by`` is who wanted it. Returns once the
        first request may go there; ``Done.at_ns`` is when. Until then the load goes on as it was. What is in
        flight ends where it is.

        Raises CommandError: the server can't be used, the load is over or drains, another change is under
        way; the load then stays where it is.
        """
        raise NotImplementedError
