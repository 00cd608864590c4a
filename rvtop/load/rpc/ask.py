"""Asks a gRPC target, in a process of its own: a session never loads gRPC's library, whose threads a later
fork would not survive (grpc#32163).

``python -P -m rvtop.load.rpc.ask`` reads one JSON object from stdin: ``url``, ``headers`` (which may be
secret), ``unix_socket``, ``limit_s``, and perhaps ``bodies``: requests as HTTP would have them, which are
sent one after another. It writes one to stdout: ``models``, ``http_port``, ``service`` (that it speaks),
``ready``, and ``error`` ([kind, text]) of what failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Any

from rvtop.load.rpc.dialects import OURS, VLLM


@dataclass
class Told:
    """What a target said."""

    models: list[dict[str, Any]] = field(default_factory=list)  # id, owned_by
    http_port: int = 0
    service: str = ""
    ready: bool = False
    error: tuple[str, str] | None = None


async def ask(given: Mapping[str, Any]) -> Told:
    """Asks as the object from stdin says."""
    import grpc
    from grpc import aio

    from rvtop.load.rpc.codes import kind_of
    from rvtop.load.rpc.endpoint import GrpcEndpoint
    from rvtop.load.wire.endpoint import Address

    told = Told()
    address = Address(given["url"], headers=given["headers"], unix_socket=given.get("unix_socket"))
    endpoint = GrpcEndpoint(address)
    limit_s = float(given["limit_s"])
    channel = aio.insecure_channel(endpoint.place, options=[("grpc.enable_http_proxy", 0)])
    try:
        async with asyncio.timeout(limit_s):
            await _look(told, channel, endpoint)
    except aio.AioRpcError as error:
        kind = kind_of(error.code().name, error.details() or "", begun=False)
        told.error = kind, f"{error.code().name}: {error.details()}"
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            told.error = "unknown", "it serves neither rvtop.v1.Generation nor vLLM's gRPC service"
    except TimeoutError:
        told.error = "timeout_connect", f"no answer within {limit_s:g} s"
    finally:
        await channel.close()
    if told.error is None and given.get("bodies"):
        told.error = await _send(endpoint, given["bodies"], limit_s)
    return told


async def _look(told: Told, channel: Any, endpoint: Any) -> None:
    """Raises AioRpcError."""
    import grpc
    from grpc import aio

    from rvtop.load.rpc import rvtop_v1_pb2 as pb

    metadata = endpoint.metadata
    models = channel.unary_unary(
        f"/{OURS}/ListModels",
        request_serializer=pb.ListModelsRequest.SerializeToString,
        response_deserializer=pb.ListModelsResponse.FromString,
    )
    try:
        answer = await models(pb.ListModelsRequest(), metadata=metadata)
    except aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        await _look_at_vllm(told, channel, metadata)
    else:
        told.models = [{"id": model.id, "owned_by": model.owned_by} for model in answer.models]
        told.http_port, told.service = answer.http_port, OURS
    told.ready = await _ready(channel, metadata)


async def _look_at_vllm(told: Told, channel: Any, metadata: Any) -> None:
    """The one model of vLLM's own server. Raises AioRpcError, UserError."""
    from rvtop.load.rpc.dialects import vllm_messages

    pb = vllm_messages()
    info = channel.unary_unary(
        f"/{VLLM}/GetModelInfo",
        request_serializer=pb.GetModelInfoRequest.SerializeToString,
        response_deserializer=pb.GetModelInfoResponse.FromString,
    )
    answer = await info(pb.GetModelInfoRequest(), metadata=metadata)
    name = getattr(answer, "served_model_name", "") or answer.model_path
    told.models, told.service = [{"id": name, "owned_by": "vllm"}], VLLM


async def _ready(channel: Any, metadata: Any) -> bool:
    """What the standard health service says: its one field is 1 for SERVING (grpc/health/v1/health.proto)."""
    from grpc import aio

    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        return bool(await check(b"", metadata=metadata) == b"\x08\x01")
    except aio.AioRpcError:
        return False


async def _send(endpoint: Any, bodies: list[str], limit_s: float) -> tuple[str, str] | None:
    """Sends requests, one after another; the failure of the first that fails."""
    from rvtop.load.wire.pool import ConnectionPool
    from rvtop.load.wire.record import Record

    await endpoint.resolve()
    ended: asyncio.Queue[Record] = asyncio.Queue()
    pool = ConnectionPool(endpoint, ended.put_nowait)
    try:
        for number, body in enumerate(bodies):
            record = Record(number, 0, 0, 0, perf_counter_ns())
            pool.submit(record, endpoint.request(body.encode(), f"rvtop-warm-up-{number}"))
            try:
                async with asyncio.timeout(limit_s):
                    await ended.get()
            except TimeoutError:
                return "timeout_ttft", f"no answer within {limit_s:g} s"
            if record.error is not None:
                return record.error, record.error_text
    finally:
        pool.close()
    return None


def main() -> None:
    """The process's entry point."""
    from rvtop.errors import UserError

    given = json.load(sys.stdin)
    try:
        told = asyncio.run(ask(given))
    except ImportError as error:
        told = Told(error=("missing", f"gRPC is not installed ({error}); pip install 'rvtop[grpc]'"))
    except (UserError, ValueError) as error:
        told = Told(error=("usage", str(error)))
    json.dump(asdict(told), sys.stdout)


if __name__ == "__main__":
    main()
