"""Which topologies a showdown runs, with which knobs, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from rvtop.errors import UserError

#: One request at a time on an engine, as in the experiment; vLLM batches as it likes.
_ONE_AT_A_TIME = ("--engine-concurrency", "1")
_NO_LIMIT = ("--max-queue", "unlimited")


@dataclass(frozen=True, slots=True)
class Entry:
    """A topology with its knobs; ``arguments`` go to ``python -m backends``."""

    name: str  # of its row and folder
    topology: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One session of a showdown; ``repeat`` counts from 1."""

    entry: Entry
    repeat: int
    folder: str


def entries(
    topologies: Sequence[str],
    vllm: frozenset[str] = frozenset({"rvc"}),
    further: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Entry, ...]:
    """The entries of ``topologies``; ``further`` are more arguments of a topology.

    Those on vLLM stand twice, without and with prefix caching, because questions that repeat would else
    flatter them. Raises UserError for a name that stands twice.
    """
    found: list[Entry] = []
    for name in topologies:
        more = (further or {}).get(name, ())
        if topologies.count(name) > 1:
            raise UserError(f"--topologies: {name} stands twice; name each once")
        if name in vllm:
            for suffix, on in (("-noprefix", "false"), ("", "true")):
                caching = ("--engine-arg", f"enable_prefix_caching={on}")
                found.append(Entry(name + suffix, name, (*_NO_LIMIT, *caching, *more)))
        else:
            found.append(Entry(name, name, (*_NO_LIMIT, *_ONE_AT_A_TIME, *more)))
    return tuple(found)


def turns(of: Sequence[Entry], repeat: int | None) -> Iterator[Turn]:
    """All sessions in their order, which is reversed in every second repeat: a machine that warms up or
    slows down favours none. ``repeat`` None: without end."""
    for number in count(1) if repeat is None else range(1, repeat + 1):
        for entry in of if number % 2 else tuple(reversed(of)):
            yield Turn(entry, number, entry.name if repeat == 1 else f"{entry.name}-{number}")
