"""One question at a time to a server, read as the load reads its answers."""

from __future__ import annotations

import time
from types import TracebackType

from rvtop.load.wire.completion import Fresh
from rvtop.load.wire.record import Record
from rvtop.load.wire.response_text import KeptCompletion, answer_text
from rvtop.net.light_httpx import httpx
from rvtop.net.transport import Transport
from rvtop.results.answers import Reply
from rvtop.target.probe import auth_headers

#: A model on a CPU may read a long prompt for minutes; who waits longer than this waits for nothing.
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
#: Bytes of an error's body that are read.
_ERROR_LIMIT = 4096


class Asker:
    """Sends request bodies to ``url``, one after another. ``transport``: tests put theirs here."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Raises TargetError for an API key that no header can carry."""
        headers = {"Content-Type": "application/json", **auth_headers(Transport())}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=False
        )

    async def __aenter__(self) -> Asker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def ask(self, path: str, body: bytes) -> Reply:
        """The answer to one request; what went wrong is told in it."""
        record = Record(0, 0, 0, 0, time.perf_counter_ns())
        record.body = []
        completion = KeptCompletion(record, Fresh())
        try:
            async with self._client.stream("POST", path, content=body) as answer:
                if answer.status_code != 200:
                    text = await _beginning(answer)
                    record.fail(f"http_{answer.status_code}", text or "no body")
                else:
                    async for piece in answer.aiter_bytes():
                        completion.feed(piece, time.perf_counter_ns())
                    completion.end(time.perf_counter_ns())
        except httpx.TimeoutException as error:
            kind = "timeout_connect" if isinstance(error, httpx.ConnectTimeout) else "stalled"
            record.fail(kind, f"no answer within {_TIMEOUT.read:g} s")
        except httpx.ConnectError as error:
            record.fail("refused", str(error))
        except httpx.HTTPError as error:
            completion.end(time.perf_counter_ns(), str(error) or type(error).__name__, reset=True)
            record.fail("reset", str(error))
        if record.error == "empty" and record.finish is not None:  # an answer, with nothing in it
            return Reply(finish=record.finish, tokens=record.output_tokens)
        text = "" if record.error else answer_text(record.body)
        return Reply(text, record.finish, record.output_tokens, record.error or "", record.error_text)


async def _beginning(answer: httpx.Response) -> str:
    read = b""
    async for piece in answer.aiter_bytes():
        read += piece
        if len(read) > _ERROR_LIMIT:
            break
    return read[:_ERROR_LIMIT].decode("utf-8", "replace").strip()
