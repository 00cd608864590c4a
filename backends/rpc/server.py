"""The gRPC surface: a thin adapter of :class:`Service` and :class:`Control`, beside the HTTP one.

Its methods, the standard health service and reflection, on one address. An RPC that its client cancels, whose
deadline passes or whose connection breaks is cancelled here, which frees the engine.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import orjson
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from backends.api import arrival
from backends.api.control import Control
from backends.api.service import Answers, Service
from backends.errors import ApiError, StartFailure, unauthorized, unavailable
from backends.process.looks import Looks
from backends.rpc import calls, rvtop_v1_pb2, rvtop_v1_pb2_grpc
from backends.rpc.codes import code_of, details_of, hidden, key_given, texts, trace_of

log = logging.getLogger("backends.rpc")

SERVICE = rvtop_v1_pb2.DESCRIPTOR.services_by_name["Generation"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
#: How often it is looked whether the engines can answer.
LOOK_S = 0.2
# After a server takes no new calls, those that are still running get this long before they are cancelled.
LAST_CHANCE_S = 2.0
# As HTTP's.
MAX_REQUEST_BYTES = 8 * 2**20
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else two servers would share a port that is in use
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
)


class GrpcServer:
    """Serves one address (host:port, or ``unix:PATH``). It answers UNAVAILABLE until :meth:`serve` gives it
    something to serve.

    ``api_key`` None means open; otherwise all but the health service needs it as a bearer token.
    """

    def __init__(self, address: str, api_key: str | None = None) -> None:
        self._address = address
        self._servicer = _Servicer()
        self._health = health.aio.HealthServicer()
        self._looks: asyncio.Task[None] | None = None
        guards = [] if api_key is None else [_KeyCheck(api_key)]
        self._server = aio.server(interceptors=guards, options=_OPTIONS)
        rvtop_v1_pb2_grpc.add_GenerationServicer_to_server(self._servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, _HEALTH, reflection.SERVICE_NAME), self._server)

    async def start(self) -> int:
        """Begins to listen; returns the port. Raises StartFailure."""
        await self._say(False)
        try:
            port: int = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise StartFailure(f"gRPC cannot listen on {self._address}: {error}") from error
        await self._server.start()
        return port

    def serve(self, service: Answers, control: Control, http_port: int = 0) -> None:
        """Answers from now on; the health service tells what ``control`` says of ``/health``. A ``service``
        that is no :class:`Service` has engines elsewhere: it only says why one is not reached."""
        self._servicer.begin(service, control, http_port)

        async def look() -> None:
            try:
                await control.answer("/health")
            except ApiError:
                await self._say(False)
            else:
                await self._say(True)

        self._looks = asyncio.create_task(Looks(look, LOOK_S, "the engines", log).run())

    async def close(self) -> None:
        """Takes no new calls, and ends those that run."""
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.gather(self._looks, return_exceptions=True)
        await self._say(False)
        await self._server.stop(LAST_CHANCE_S)

    async def _say(self, ready: bool) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, _SERVING if ready else _NOT_SERVING)


class _Servicer(rvtop_v1_pb2_grpc.GenerationServicer):
    """What the three methods do."""

    def __init__(self) -> None:
        self._service: Answers | None = None
        self._control: Control | None = None
        self._http_port = 0

    def begin(self, service: Answers, control: Control, http_port: int) -> None:
        """Answers with these from now on."""
        self._service, self._control, self._http_port = service, control, http_port

    async def Generate(
        self, request: rvtop_v1_pb2.GenerateRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[rvtop_v1_pb2.GenerateResponse, None]:
        told = texts(context.invocation_metadata())
        try:
            if not isinstance(self._service, Service):
                raise await _unreached(self._service, request)
            router_ms = arrival.router_ms(told.get(arrival.HEADER))
            async with aclosing(
                calls.generate(self._service, request, trace_of(told), router_ms)
            ) as messages:
                async for message in messages:
                    yield message
        except ApiError as error:
            await _abort(context, error)
        except Exception:  # the client gets an answer, the log the reason
            log.exception("Generate failed")
            await _abort(context, hidden())

    async def Embed(
        self, request: rvtop_v1_pb2.EmbedRequest, context: aio.ServicerContext[Any, Any]
    ) -> rvtop_v1_pb2.EmbedResponse:
        async def embed() -> rvtop_v1_pb2.EmbedResponse:
            if self._service is None:
                raise _starting()
            return await calls.embed(self._service, request)

        return await _answered(embed, context)

    async def ListModels(
        self, request: rvtop_v1_pb2.ListModelsRequest, context: aio.ServicerContext[Any, Any]
    ) -> rvtop_v1_pb2.ListModelsResponse:
        async def models() -> rvtop_v1_pb2.ListModelsResponse:
            if self._control is None:
                raise _starting()
            answer = await self._control.answer("/v1/models")
            assert answer is not None
            return calls.models(answer[1], self._http_port)

        return await _answered(models, context)


class _KeyCheck(aio.ServerInterceptor):
    """Refuses calls without the key."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key.encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        given = key_given(texts(handler_call_details.invocation_metadata))
        open_ = handler_call_details.method.startswith(f"/{_HEALTH}/")
        if open_ or hmac.compare_digest(given.encode(), self._api_key):
            return await continuation(handler_call_details)

        async def refuse(request: object, context: aio.ServicerContext[Any, Any]) -> None:
            await _abort(context, unauthorized())

        return grpc.unary_unary_rpc_method_handler(refuse)


async def _unreached(service: Answers | None, request: rvtop_v1_pb2.GenerateRequest) -> ApiError:
    """Why no engine gets this request, which the router sent here."""
    if service is not None:
        endpoint, data = calls.body_of(request)
        try:
            await service.answer(endpoint, orjson.dumps(data))
        except ApiError as error:
            return error
    return _starting()


async def _answered(make: Callable[[], Awaitable[Any]], context: aio.ServicerContext[Any, Any]) -> Any:
    """What ``make`` returns; its failure becomes the call's."""
    try:
        return await make()
    except ApiError as error:
        await _abort(context, error)
    except Exception:  # the client gets an answer, the log the reason
        log.exception("a call failed")
        await _abort(context, hidden())


async def _abort(context: aio.ServicerContext[Any, Any], error: ApiError) -> None:
    await context.abort(code_of(error), details_of(error))


def _starting() -> ApiError:
    return unavailable("The server is starting.")
