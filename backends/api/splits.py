"""One name for several models, while a backend serves: what the shares are now, who changes them, and, for a
server whose requests all pass through this process, which model one goes to."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from backends.api import fields
from backends.errors import ApiError, bad_request, unavailable, unknown_model, unknown_size
from backends.settings.split import Split, SplitOptions, point_of

if TYPE_CHECKING:
    from backends.api.service import Service

#: Says which model answered a request for a name with several of them.
ARM_HEADER = "x-rvtop-arm"
REQUEST_HEADER = "x-request-id"
SPLIT_PATH = "/rvtop/split"
#: How many sessions stay on their arm, and for how long without a request.
MOST_SESSIONS = 100_000
SESSION_S = 1800


class Splits:
    """The splits of a backend. ``up`` says whether a model has an engine that can answer, ``tell`` hands a
    changed split to whoever routes by it."""

    def __init__(
        self,
        options: SplitOptions,
        up: Callable[[str], bool],
        tell: Callable[[Split], Awaitable[None]] | None = None,
    ) -> None:
        self.options = options
        self.now = {split.alias: split for split in options.splits}
        self._up = up
        self._tell = tell

    def told(self) -> list[dict[str, Any]]:
        """What ``/rvtop/split`` says; shares are percent."""
        return [
            {
                "alias": split.alias,
                "fallback": self.options.fallback,
                "session_header": self.options.session_header,
                "arms": [
                    {"arm": arm.model, "share": round(arm.share, 4), "up": self._up(arm.model)}
                    for arm in split.arms
                ],
            }
            for split in self.now.values()
        ]

    def shares(self) -> dict[str, dict[str, float]]:
        """By alias the share of each arm, in percent."""
        return {alias: {arm.model: arm.share for arm in split.arms} for alias, split in self.now.items()}

    async def change(self, body: bytes) -> list[dict[str, Any]]:
        """Follows ``{"alias": …, "shares": {ARM: percent}}``; the alias may be left out where there is one.
        Raises ApiError."""
        data = fields.json_object(body)
        alias = fields.text(data, "alias") or (next(iter(self.now)) if len(self.now) == 1 else None)
        if not self.now:
            raise ApiError(404, "This server splits no name: start it with --split.", type="NotFoundError")
        if alias is None or alias not in self.now:
            names = ", ".join(self.now)
            raise ApiError(404, f"`alias` must be one of {names}.", type="NotFoundError", param="alias")
        asked = fields.object_field(data, "shares")
        if not asked:
            raise bad_request('`shares` must name an arm, as {"v2": 50}.', "shares")
        shares = {name: fields.number(asked, name, 0.0) for name in asked}
        try:
            changed = self.now[alias].changed(shares)
        except ValueError as error:
            raise bad_request(f"{error}.", "shares") from None
        self.now[alias] = changed
        if self._tell is not None:
            await self._tell(changed)
        return self.told()


class Sessions:
    """Which arm each session is on; the one that was not used for the longest time is forgotten first."""

    def __init__(self, most: int = MOST_SESSIONS, for_s: float = SESSION_S) -> None:
        self._most = most
        self._for_s = for_s
        self._arms: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def get(self, session: bytes) -> str | None:
        arm, seen = self._arms.get(session, (None, 0.0))
        return arm if time.monotonic() - seen < self._for_s else None

    def put(self, session: bytes, arm: str) -> None:
        self._arms[session] = arm, time.monotonic()
        self._arms.move_to_end(session)
        if len(self._arms) > self._most:
            self._arms.popitem(last=False)


class Chooser:
    """Chooses the model of each request that names an alias, or a size in place of a model."""

    def __init__(self, splits: Splits, up: Callable[[str], bool]) -> None:
        self._splits = splits
        self._up = up
        self._sessions = Sessions()
        self._sizes = dict(splits.options.sizes)

    def choose(self, body: bytes, headers: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
        """The body with the name of its model, and the header that says which arm that is. What is no JSON
        object is left as it is, to be refused where all is. Raises ApiError (404) for a size that no model
        has."""
        if b'"model_size"' not in body and not self._splits.now:
            return body, {}
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body, {}
        if not isinstance(data, dict):
            return body, {}
        name = data.get("model")
        if not name and data.get("model_size") is not None:
            return _with_model(data, self._of_size(str(data["model_size"]))), {}
        split = self._splits.now.get(name) if isinstance(name, str) else None
        if split is None:
            return body, {}
        arm = self._arm(split, headers)
        return _with_model(data, arm), {ARM_HEADER: arm}

    def _of_size(self, size: str) -> str:
        model = self._sizes.get(size.lower())
        if model is None:
            raise unknown_size(size)
        return model

    def _arm(self, split: Split, headers: Mapping[str, str]) -> str:
        session = headers.get(self._splits.options.session_header) or None
        key = session or headers.get(REQUEST_HEADER) or secrets.token_hex(8)
        ranges = split.ranges()
        arm = _at(ranges, point_of(key.encode()))
        if session is not None:
            own = f"{split.alias}/{session}".encode()
            kept = self._sessions.get(own)
            if kept in [model for model, _, _ in ranges]:  # an arm without a share has let its sessions go
                arm = kept
            self._sessions.put(own, arm)
        if self._splits.options.fallback and not self._up(arm):
            others = (other.model for other in split.arms if self._up(other.model))
            arm = next(others, arm)
        return arm


def _at(ranges: list[tuple[str, int, int]], point: int) -> str:
    return next(model for model, low, high in ranges if low <= point < high)


def _with_model(data: dict[str, Any], model: str) -> bytes:
    return orjson.dumps({**data, "model": model})


def local(options: SplitOptions, service: Service) -> tuple[Splits, Chooser | None]:
    """Of a server whose requests all pass through this process: ``service`` is its Service."""

    def up(model: str) -> bool:
        return bool(service.models[model].admission.ready)

    splits = Splits(options, up)
    return splits, Chooser(splits, up) if len(service.models) > 1 else None


def refuse_unrouted(body: bytes, models: Collection[str], options: SplitOptions) -> NoReturn:
    """Raises ApiError for what a router could give to no engine: 404 for a name or, in place of it, a size
    that this server does not have, else 503."""
    data = fields.json_object(body)
    name, size = fields.text(data, "model"), data.get("model_size")
    aliases = [split.alias for split in options.splits]
    if name is not None and name not in models and name not in aliases:
        raise unknown_model(name)
    if name is None and size is not None and str(size).lower() not in dict(options.sizes):
        raise unknown_size(str(size))
    raise unavailable("No engine of this model is ready.")
