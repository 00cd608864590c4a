"""gRPC's calls in a replica of Ray Serve, to which Serve's gRPC proxy hands them: what it does with an error,
and how it is told of one, is Serve's."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from backends.api import arrival
from backends.api.service import Service
from backends.errors import ApiError, unauthorized
from backends.rpc import calls
from backends.rpc.codes import code_of, details_of, hidden, key_given, texts, trace_of
from backends.rpc.rvtop_v1_pb2 import EmbedRequest, EmbedResponse, GenerateRequest, GenerateResponse

log = logging.getLogger("backends.rpc")


class CallFailed(Exception):
    """What Serve is told; the code and the text are in the call's context. (An ApiError has no way through
    Ray's pickles.)"""


async def generate(
    service: Service, request: GenerateRequest, context: Any, token: str | None
) -> AsyncGenerator[GenerateResponse, None]:
    """The answer's messages. ``context`` is Serve's; ``token`` None means open. Raises CallFailed."""
    try:
        told = _checked(context, token)
        router_ms = arrival.router_ms(told.get(arrival.HEADER))
        async with aclosing(calls.generate(service, request, trace_of(told), router_ms)) as messages:
            async for message in messages:
                yield message
    except ApiError as error:
        raise _failed(context, error) from None
    except Exception:  # Serve would tell the client all of it
        log.exception("Generate failed")
        raise _failed(context, hidden()) from None


async def embed(service: Service, request: EmbedRequest, context: Any, token: str | None) -> EmbedResponse:
    """The vectors of texts. Raises CallFailed."""
    try:
        _checked(context, token)
        return await calls.embed(service, request)
    except ApiError as error:
        raise _failed(context, error) from None
    except Exception:
        log.exception("Embed failed")
        raise _failed(context, hidden()) from None


def _checked(context: Any, token: str | None) -> dict[str, str]:
    """The call's metadata. Raises ApiError without the token."""
    told = texts(context.invocation_metadata())
    if token is not None and not hmac.compare_digest(key_given(told).encode(), token.encode()):
        raise unauthorized()
    return told


def _failed(context: Any, error: ApiError) -> CallFailed:
    context.set_code(code_of(error))
    context.set_details(details_of(error))
    return CallFailed(details_of(error))
