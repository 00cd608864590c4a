"""A client of ``rvtop.v1.Generation``, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from backends.rpc import rvtop_v1_pb2 as pb
from backends.rpc.rvtop_v1_pb2_grpc import GenerationStub

SERVICE = "rvtop.v1.Generation"
_STATUS = health_pb2.HealthCheckResponse.ServingStatus


class GrpcClient:
    """Asks one server; ``key`` is its bearer token."""

    def __init__(self, channel: Any, key: str = "") -> None:
        self._channel = channel
        self.stub = GenerationStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()

    async def close(self) -> None:
        """Goes away, with what runs."""
        await self._channel.close()

    def start(self, request: pb.GenerateRequest, **how: Any) -> Any:
        """A call whose messages are not read yet."""
        return self.stub.Generate(request, metadata=self.metadata, **how)

    async def generate(self, request: pb.GenerateRequest, **how: Any) -> list[pb.GenerateResponse]:
        """All messages of an answer."""
        return [message async for message in self.start(request, **how)]

    async def failure(self, request: pb.GenerateRequest, **how: Any) -> tuple[str, str]:
        """The code's name and the text of a call that has to fail."""
        try:
            answer = await self.generate(request, **how)
        except aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        raise AssertionError(f"answered: {answer}")

    async def health(self, service: str = "") -> str:
        """What the health service says."""
        answer = await self._health.Check(health_pb2.HealthCheckRequest(service=service))
        return str(_STATUS.Name(answer.status))


@asynccontextmanager
async def connected(place: str, key: str = "") -> AsyncIterator[GrpcClient]:
    """A client of the server at ``place`` (host:port)."""
    async with aio.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield GrpcClient(channel, key)


def reflected(place: str) -> list[str]:
    """The services that reflection lists."""
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    with grpc.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        return sorted(ProtoReflectionDescriptorDatabase(channel).get_services())


def chat(text: str, **fields: Any) -> pb.GenerateRequest:
    """A greedy request with one message."""
    said = pb.Chat(messages=[pb.Message(role="user", content=text)])
    return pb.GenerateRequest(chat=said, **{"temperature": 0.0, "max_tokens": 16, **fields})


def text_of(messages: list[pb.GenerateResponse]) -> str:
    """The text of an answer."""
    return "".join(message.text for message in messages)
