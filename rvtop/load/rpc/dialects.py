"""What is said in a call: our own service (proto/rvtop_v1.proto), and that of vLLM's gRPC server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from rvtop.errors import UserError
from rvtop.load.plan.api import content_of
from rvtop.load.rpc.reader import CallReader, Ending

OURS = "rvtop.v1.Generation"
VLLM = "vllm.grpc.engine.VllmEngine"
#: Fields of the body that a message has of its own.
_PLAIN = ("max_tokens", "temperature", "top_p", "seed", "ignore_eos")
#: What HTTP alone needs to be told.
_HTTP_ONLY = ("stream", "stream_options", "model", "messages", "prompt", "stop", *_PLAIN)


class Dialect(Protocol):
    """How requests and responses of one service are written."""

    @property
    def method(self) -> str:
        """Its path."""

    def request(self, body: bytes, request_id: str) -> bytes:
        """The message for the JSON body of an HTTP request. Raises TypeError, ValueError for what it can't
        say."""

    def read(self, data: bytes, reader: CallReader, now_ns: int) -> None:
        """Reads a message of the response. Raises ValueError for what is none."""


class _Messages:
    """The generated messages of a service."""

    def __init__(self, pb: Any) -> None:
        from google.protobuf.message import DecodeError

        self._pb, self._broken = pb, DecodeError

    def _told(self, data: bytes) -> Any:
        """A message of the response. Raises ValueError for what is none."""
        try:
            return self._pb.GenerateResponse.FromString(data)
        except self._broken as error:
            raise ValueError(str(error)) from None


class OurDialect(_Messages):
    """Of the topologies of rvtop."""

    method = f"/{OURS}/Generate"

    def __init__(self) -> None:
        from rvtop.load.rpc import rvtop_v1_pb2

        super().__init__(rvtop_v1_pb2)

    def request(self, body: bytes, request_id: str) -> bytes:
        """See Dialect."""
        data, pb = orjson.loads(body), self._pb
        made = pb.GenerateRequest(model=data.get("model"), stop=_stops(data))
        more = {key: value for key, value in data.items() if key not in _HTTP_ONLY}
        for name in _PLAIN:
            if data.get(name) is not None:
                try:
                    setattr(made, name, data[name])
                except (TypeError, ValueError):  # what the server refuses it says in its own words
                    more[name] = data[name]
        if "messages" in data:
            for message in data["messages"]:
                made.chat.messages.add(role=message["role"], content=content_of(message))
        elif isinstance(data["prompt"], str):
            made.text = data["prompt"]
        else:
            made.token_ids.ids.extend(data["prompt"])
        if more:
            made.more_json = json.dumps(more)
        return bytes(made.SerializeToString())

    def read(self, data: bytes, reader: CallReader, now_ns: int) -> None:
        """See Dialect."""
        told = self._told(data)
        text = told.text
        reader.read(bool(text or told.tokens), text, now_ns)
        if told.finish_reason:
            usage, counted = told.usage, told.HasField("usage")
            reader.read_end(
                Ending(
                    told.finish_reason,
                    usage.completion_tokens if counted else None,
                    usage.prompt_tokens if counted else None,
                    usage.cached_tokens if usage.HasField("cached_tokens") else None,
                    _object(usage.rvtop_json),
                ),
                now_ns,
            )


class VllmDialect(_Messages):
    """Of ``vllm serve --grpc``, whose messages the package smg-grpc-proto has. It takes prompts as they are,
    without a chat template, and answers with token ids."""

    method = f"/{VLLM}/Generate"

    def __init__(self) -> None:
        super().__init__(vllm_messages())

    def request(self, body: bytes, request_id: str) -> bytes:
        """See Dialect."""
        data, pb = orjson.loads(body), self._pb
        sampling = pb.SamplingParams(
            temperature=data.get("temperature", 1.0),
            top_p=data.get("top_p", 1.0),
            repetition_penalty=1.0,
            max_tokens=data.get("max_tokens"),
            min_tokens=data.get("min_tokens") or 0,
            stop=_stops(data),
            ignore_eos=bool(data.get("ignore_eos")),
            skip_special_tokens=True,
            spaces_between_special_tokens=True,
            n=1,
            seed=data.get("seed"),
        )
        made = pb.GenerateRequest(request_id=request_id, sampling_params=sampling, stream=True)
        if "messages" in data:
            made.text = "\n".join(content_of(message) for message in data["messages"])
        elif isinstance(data["prompt"], str):
            made.text = data["prompt"]
        else:
            made.tokenized.input_ids.extend(data["prompt"])
        return bytes(made.SerializeToString())

    def read(self, data: bytes, reader: CallReader, now_ns: int) -> None:
        """See Dialect."""
        told = self._told(data)
        record = reader.record
        if told.HasField("chunk"):
            count = len(told.chunk.token_ids)
            record.output_tokens = (record.output_tokens or 0) + count  # counts are of the message alone
            reader.read(count > 0, "", now_ns)
            return
        done = told.complete
        # It repeats the last chunk: only an answer without chunks has its tokens here.
        alone = record.output_tokens is None
        reader.read(alone and len(done.output_ids) > 0, "", now_ns)
        ending = Ending(
            done.finish_reason,
            len(done.output_ids) if alone else None,
            done.prompt_tokens,
            done.cached_tokens or None,
        )
        reader.read_end(ending, now_ns)


def vllm_messages() -> Any:
    """The messages of vLLM's service. Raises UserError where they are not installed."""
    try:
        from smg_grpc_proto import vllm_engine_pb2
    except ImportError:
        raise UserError(
            f"the target speaks {VLLM}, whose messages are not installed: pip install smg-grpc-proto"
        ) from None
    return vllm_engine_pb2


def dialect_of(service: str) -> Dialect:
    """Of a service's name; "": ours. Raises UserError, ImportError."""
    if service in ("", OURS):
        return OurDialect()
    if service == VLLM:
        return VllmDialect()
    raise UserError(f"grpc: no service {service!r} is known; there are {OURS} and {VLLM}")


def _stops(data: Mapping[str, Any]) -> Sequence[str]:
    stop = data.get("stop")
    return [stop] if isinstance(stop, str) else (stop or [])


def _object(text: str) -> Any:
    """What a JSON text says; None without one, or where it is none."""
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None
