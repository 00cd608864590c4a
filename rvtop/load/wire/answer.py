"""How the body of an answer is read, by the endpoint that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rvtop.load.plan.api import Api
from rvtop.load.wire.completion import Completion, Fresh
from rvtop.load.wire.event_streams import MessageStream, ResponseStream
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import KeptCompletion
from rvtop.load.wire.whole_answer import WholeAnswer


class Answer(Protocol):
    """The reading of one response body into a Record. Never raises; faults go to ``record.error``."""

    def feed(self, data: bytes, now_ns: int) -> None:
        """Takes the next bytes of the body, which came at ``now_ns`` (perf_counter)."""

    def end(self, now_ns: int, lost: str = "", *, reset: bool = False) -> None:
        """Settles the record: the body is over, or the connection was ``lost`` (why, in short)."""

    def join(self, first_ns: int) -> None:
        """The events up to here were read elsewhere; the first token, too, at ``first_ns``, unless 0."""

    @property
    def whole(self) -> bool:
        """Whether the answer is at its end, so that nothing that follows can spoil it."""

    @property
    def pattern(self) -> tuple[bytes, bytes] | None:
        """What stands before and after the text in an event of one token, where such may be counted."""

    @property
    def beginning(self) -> tuple[bytes, bytes, bytes] | None:
        """How the answer began, where C may read the next ones by it (see ``Completion.beginning``)."""


#: Makes the reader of an answer.
Answers = Callable[[Record, Fresh], Answer]


def of_completions(record: Record, fresh: Fresh) -> Answer:
    """Reads streams of chat and completions."""
    return Completion(record, fresh) if record.body is None else KeptCompletion(record, fresh)


def answers_of(api: Api) -> Answers:
    """The reader of what ``api`` answers."""
    if api.whole:
        name = api.name

        def of_one_piece(record: Record, fresh: Fresh) -> Answer:
            return WholeAnswer(record, name)

        return of_one_piece
    return {"messages": MessageStream, "responses": ResponseStream}.get(api.name, of_completions)
