"""Several processes that share one vLLM engine process, in the way of vLLM's own API servers.

A client of the engine listens on two addresses, to which the engine connects when it starts; it says there at
once that it is ready, and what it sends waits where nobody listens yet. So a client that comes later needs a
place that the engine was told of in the beginning and that nobody had before. vLLM is imported inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ClientPlace:
    """One of ``count`` places at an engine. The first is the process that starts the engine."""

    index: int
    count: int
    input_address: str
    output_address: str

    def arguments(self) -> dict[str, Any]:
        """What `AsyncLLM` takes."""
        addresses = {"input_address": self.input_address, "output_address": self.output_address}
        return {"client_addresses": addresses, "client_count": self.count, "client_index": self.index}


def client_places(folder: Path, further: int) -> list[ClientPlace]:
    """So many places beside the first, with their sockets in ``folder``."""
    return [
        ClientPlace(index, further + 1, f"ipc://{folder}/{index}.in", f"ipc://{folder}/{index}.out")
        for index in range(1, further + 1)
    ]


@contextmanager
def engine_knows(places: Sequence[ClientPlace]) -> Iterator[None]:
    """An engine that is started inside connects to these places too."""
    from vllm.v1.engine import core_client

    own = core_client.get_engine_zmq_addresses

    def addresses(*args: Any, **more: Any) -> Any:
        found = own(*args, **more)
        found.inputs += [place.input_address for place in places]
        found.outputs += [place.output_address for place in places]
        return found

    core_client.get_engine_zmq_addresses = addresses
    try:
        yield
    finally:
        core_client.get_engine_zmq_addresses = own


def tell_of_requests(llm: Any, tell: Callable[[str, str], None]) -> None:
    """Calls ``tell`` with the ids of each request, ours and the engine's, before the engine gets it: whoever
    survives this process can end there what it began."""
    core = llm.engine_core
    add = core.add_request_async

    async def told(request: Any) -> None:
        tell(request.external_req_id or request.request_id, request.request_id)
        await add(request)

    core.add_request_async = told


def share_metrics(folder: Path) -> None:
    """From now on the metrics that this process makes are kept in files of ``folder``, where
    prometheus_client adds them to those of the other clients, also of clients that are gone. The caller's
    environment has to say so too (PROMETHEUS_MULTIPROC_DIR)."""
    from prometheus_client import values

    folder.mkdir(exist_ok=True)
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
