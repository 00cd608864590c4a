"""The gaps between tokens of a run's requests, compact: read once with all else, and put into a histogram of
any choice of requests later."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from rvtop.stats.distribution import BUCKETS

Int64s = npt.NDArray[np.int64]

#: Numbers that are held as they came before they are made compact.
_HELD = 1 << 18
_PAIR = {2}


@dataclass(frozen=True, slots=True)
class Gaps:
    """Of m requests, ``row`` the number of each, ``size`` how many of the k pairs are its own; of a pair its
    ``bucket`` and how many gaps are in it, ``count``. Arrays are as narrow as what is in them."""

    row: npt.NDArray[np.integer[Any]]
    size: npt.NDArray[np.integer[Any]]
    bucket: npt.NDArray[np.integer[Any]]
    count: npt.NDArray[np.integer[Any]]

    def counts(self, group: Int64s, groups: int, most: int) -> Int64s:
        """Gaps by group and bucket, shape (groups, BUCKETS), each at most ``most``. ``group``: the group of
        each of the m requests, negative for one that is in none."""
        of_pair = np.repeat(group, self.size)
        mine = of_pair >= 0
        place = of_pair[mine] * BUCKETS + self.bucket[mine]
        found = np.bincount(place, self.count[mine], groups * BUCKETS)
        return np.minimum(found, most).astype(np.int64).reshape(groups, BUCKETS)


class GapColumns:
    """Grows by a request at a time. ``sound``: whether all that was added can be."""

    def __init__(self, most: int) -> None:
        """``most``: no count can be larger."""
        self.sound = True
        self._most = most
        self._chunks: list[Gaps] = []
        self._rows = array("q")
        self._sizes = array("q")
        self._pairs = array("q")

    def add(self, row: int, histogram: list[list[int]]) -> None:
        """Adds those of a request. Raises TypeError, ValueError or OverflowError for what is no histogram;
        then nothing that was added can be used."""
        if not {*map(len, histogram)} <= _PAIR:
            raise ValueError("itl_hist: not pairs")
        self._pairs.extend(chain.from_iterable(histogram))
        self._rows.append(row)
        self._sizes.append(len(histogram))
        if len(self._pairs) > _HELD:
            self._compact()

    def chunks(self) -> Sequence[Gaps]:
        """All of them, in the order in which they were added."""
        if self._rows:
            self._compact()
        return self._chunks

    def _compact(self) -> None:
        bucket, count = np.array(self._pairs, np.int64).reshape(-1, 2).T
        row, size = np.array(self._rows, np.int64), np.array(self._sizes, np.int64)
        self._rows, self._sizes, self._pairs = array("q"), array("q"), array("q")
        if bucket.size and (
            bucket.min() < 0 or bucket.max() >= BUCKETS or count.min() < 0 or count.max() > self._most
        ):
            self.sound = False
            return
        self._chunks.append(Gaps(*map(_narrow, (row, size, bucket, count))))


def _narrow(values: Int64s) -> npt.NDArray[np.integer[Any]]:
    """The same numbers, none of them negative, in as few bytes as they need."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
