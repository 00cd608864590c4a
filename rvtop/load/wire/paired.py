"""Two pools of connections side by side: each request of the plan goes to two targets at the same time."""

from __future__ import annotations

import sys

from rvtop.load.wire.answer import Answers, of_completions
from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.pool import ConnectionPool, OnRecord
from rvtop.load.wire.record import Record


def _busy() -> bool:
    """Neither pool is alone in its loop: a poller that waited for more of its own would date the other's
    late."""
    return False


class PairedPool(ConnectionPool):
    """The connections to one target, and (``second``) those to another beside them.

    ``busy`` and ``fresh`` are of both; all else that is asked of this pool holds for both. Both sides are
    carried alike: each has a wire of its own, also where both targets are the same server.
    """

    def __init__(
        self, target: Endpoint, on_done: OnRecord, on_sent: OnRecord, answers: Answers = of_completions
    ) -> None:
        self.second: ConnectionPool | None = None
        super().__init__(target, on_done, on_sent, _busy, answers)
        self.second = ConnectionPool(target, on_done, on_sent, _busy, answers)
        self.second.busy, self.second.fresh = self.busy, self.fresh

    def submit_second(self, record: Record, request: bytes) -> None:
        """As ``submit``, to the second target."""
        assert self.second is not None
        self.second.submit(record, request)

    def retarget_second(self, target: Endpoint) -> None:
        """As ``retarget``, of the second target."""
        assert self.second is not None
        self.second.retarget(target)

    @property
    def most(self) -> int:
        """Connections at once, to both together."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        """Each may have half of them."""
        self._most = most if most == sys.maxsize else max(1, most // 2)
        if self.second is not None:
            self.second.most = self._most

    def reap(self) -> None:
        """See ConnectionPool."""
        super().reap()
        if self.second is not None:
            self.second.reap()

    def take(self) -> Fresh:
        """See ConnectionPool."""
        assert self.second is not None
        taken = super().take()
        self.second.wire.take_fresh(taken)
        return taken

    def cancel(self, record: Record, kind: str, text: str) -> None:
        """See ConnectionPool."""
        super().cancel(record, kind, text)
        if self.second is not None and record in self.busy:  # the second pool is connecting for it
            self.second.cancel(record, kind, text)

    def sweep(self, now_ns: int, connect_ns: int, ttft_ns: int | None, stall_ns: int | None) -> None:
        """See ConnectionPool."""
        super().sweep(now_ns, connect_ns, ttft_ns, stall_ns)
        assert self.second is not None
        for idle in self.second.wire.stale(now_ns):
            idle.drop()

    def close(self) -> None:
        """See ConnectionPool."""
        super().close()
        assert self.second is not None
        self.second.close()
