"""Pairs: each arrival of the plan becomes two requests with the same prompt and the same intended time, one
for each of two targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from rvtop.contract.pairs import SAME
from rvtop.load.plan.mix import Mix
from rvtop.load.plan.prompts import Prompts
from rvtop.load.plan.schedule import Due
from rvtop.load.wire.endpoint import Endpoint
from rvtop.load.wire.paired import PairedPool
from rvtop.load.wire.record import Record
from rvtop.load.worker.messages import WorkerSpec

Request = Callable[[Record, bytes, Endpoint], bytes]


def second_first(seed: int, pair: int) -> bool:
    """The coin: whether the second target's request of a pair is sent before the first one's. The same for
    the same seed, however many workers share the load."""
    return bool(hashlib.blake2b(b"%d/%d" % (seed, pair), digest_size=1).digest()[0] & 1)


class Pairs:
    """The pairs of one worker. ``targets`` are the two with the numbers of their models; ``request`` makes
    the bytes of a record's request.

    The requests of pair n have the numbers 2n (first target) and 2n + 1. The later of the two is sent tens of
    microseconds after the other, which the coin shares out evenly.
    """

    def __init__(
        self,
        pool: PairedPool,
        targets: tuple[tuple[Endpoint, Sequence[int]], tuple[Endpoint, Sequence[int]]],
        spec: WorkerSpec,
        request: Request,
    ) -> None:
        self._pool = pool
        self._targets = targets
        self._seed = spec.seed
        self._mix = Mix(spec.shares, spec.seed)
        self._request = request
        self._same = True  # the pool's second target is the first one, as it was made

    def begin_phase(self, name: str) -> None:
        """In the phase ``contract.pairs.SAME`` both requests go to the first target, over both pools. Where
        that changes, both sides begin on new connections."""
        same = name.startswith(SAME)
        if same != self._same:
            self._same = same
            self._pool.retarget(self._targets[0][0])  # else A alone would have connections that stand
            self._pool.retarget_second(self._targets[0 if same else 1][0])

    def send(self, due: Due, prompts: Prompts, number: int) -> None:
        """Sends both requests of an arrival; ``number`` says which prompt and model it has in its turn."""
        first, second = self._targets[0], self._targets[0 if self._same else 1]
        place, prompt = self._mix.of(number, len(first[1]))
        prompt = (prompt if prompts.at_s is None else due.arrival) % len(prompts)
        both = []
        for side, (target, its_models) in enumerate((first, second)):
            model = its_models[place]
            record = Record(2 * due.seq + side, due.phase, model, prompt, due.intended_ns)
            record.target = 0 if self._same else side
            both.append((side, record, self._request(record, prompts.body(prompt, model), target)))
        if second_first(self._seed, due.seq):
            both.reverse()
        for side, record, request in both:
            if side:
                self._pool.submit_second(record, request)
            else:
                self._pool.submit(record, request)
