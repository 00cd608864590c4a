"""The mock in plain Python with ``--slots`` places: who finds none free waits, the first that came first.

A place is busy from a request's turn to its last token, also where its client has gone away before.
"""

from __future__ import annotations

import argparse
import heapq

from tests.mock.server import Server, main, number
from tests.mock.wire import Stream


class QueueingServer(Server):
    """A server whose answers begin when one of its places is free."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._free = [0] * options.slots  # when each place is free, nanoseconds
        self._begins: dict[str, int] = {}  # by the request's id

    def deadline(self, s: Stream, token: int) -> int:
        if s.id not in self._begins:
            begin = max(s.arrival, heapq.heappop(self._free))
            heapq.heappush(self._free, begin + self.ttft + (s.n - 1) * self.step)
            self._begins[s.id] = begin
        return self._begins[s.id] + self.ttft + token * self.step


if __name__ == "__main__":
    main(
        QueueingServer,
        lambda parser: parser.add_argument("--slots", type=number(1, int), required=True),
    )
