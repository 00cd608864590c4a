"""The LoRA adapters of one engine: found in a folder when a request names one, checked, and taken in by the
engine before anything is generated with it.

vLLM keeps ``max_cpu_loras`` of them in memory and ``max_loras`` in a batch; one that it has dropped it reads
again in the middle of a step, where a file that is gone or changed would end the engine. So it reads a copy
that is ours, in the engine's own temporary folder. Each version of the files has a key and a number of its
own: vLLM keeps prefixes by the one and weights by the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backends.engines.protocol import Adapter
from backends.errors import (
    EngineRefusal,
    EngineUnavailable,
    bad_request,
    unavailable,
    unknown_model,
)
from backends.models.adapters import (
    CONFIG,
    WEIGHTS,
    AdapterError,
    AdapterFolder,
    Shapes,
    Version,
    base_shapes,
    check,
)

# How often a folder that is being written is copied again before the request is refused.
_COPIES = 3


class TakesAdapters(Protocol):
    """An engine that adapters can be given to."""

    async def add_adapter(self, adapter: Adapter) -> None:
        """Raises EngineRefusal for one that it can't use, EngineUnavailable."""
        ...


@dataclass
class Adapters:
    """Those in ``folder``, for ``engine``. ``model`` is the folder of the base model, ``copies`` where our
    copies are, ``most_rank`` the engine's. Several processes in front of one engine may share all of it: they
    make the same keys and numbers."""

    folder: AdapterFolder
    engine: TakesAdapters
    model: str
    copies: Path
    most_rank: int
    _held: dict[str, tuple[Version, Adapter]] = field(default_factory=dict)
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _base: Shapes | None = None

    def has(self, name: str) -> bool:
        """Whether there is a folder of that name now."""
        return self.folder.has(name)

    async def ready(self, name: str) -> Adapter:
        """The adapter as it is in its folder now, taken in by the engine. Raises ApiError: 404 where it is
        not there, 400, with the file, where it can't be used, 503."""
        if (held := self._current(name)) is not None:
            return held
        async with self._locks[name]:
            if (held := self._current(name)) is not None:  # another request has brought it
                return held
            try:
                version, adapter = await asyncio.to_thread(self._copied, name)
                await self.engine.add_adapter(adapter)
            except AdapterError as error:
                raise bad_request(f"The adapter `{name}` can't be used: {error}", "model") from None
            except EngineRefusal as error:
                where = self.folder.path / name
                raise bad_request(f"The adapter `{name}` can't be used: {where}: {error}", "model") from None
            except EngineUnavailable as error:
                raise unavailable(str(error)) from error
            self._held[name] = version, adapter
            return adapter

    def _current(self, name: str) -> Adapter | None:
        version, adapter = self._held.get(name, ((), None))
        if adapter is None:
            return None
        with contextlib.suppress(AdapterError):
            return adapter if self.folder.version(name) == version else None
        if not self.has(name):
            raise unknown_model(name)
        return None

    def _copied(self, name: str) -> tuple[Version, Adapter]:
        if self._base is None:
            self._base = base_shapes(self.model)
        return copied(self.folder, name, self.copies, self.most_rank, self._base)


def copied(
    folder: AdapterFolder, name: str, copies: Path, most_rank: int, base: Shapes
) -> tuple[Version, Adapter]:
    """A copy in ``copies`` of an adapter that is whole, and the version of it. Raises AdapterError."""
    source = folder.path / name
    copies.mkdir(parents=True, exist_ok=True)
    for _ in range(_COPIES):
        version = folder.version(name)
        digest = hashlib.sha256(f"{name}\0{version}".encode()).digest()
        number = 1 + int.from_bytes(digest[:7])  # vLLM wants a positive one of 64 bits
        adapter = Adapter(name, f"{name}@{digest[:4].hex()}", number, str(copies / f"{number:x}"))
        if Path(adapter.path).is_dir():  # of another process in front of this engine
            return version, adapter
        made = Path(tempfile.mkdtemp(dir=copies))
        try:
            for file in (CONFIG, WEIGHTS):
                shutil.copyfile(source / file, made / file)
            if folder.version(name) != version:
                continue
            check(made, source, most_rank, base)
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(made, adapter.path)
            return version, adapter
        except OSError as error:
            raise AdapterError(
                f"{error.filename or source}: cannot be read ({error.strerror or error})"
            ) from None
        finally:
            shutil.rmtree(made, ignore_errors=True)
    raise AdapterError(f"{source}: it is being written; ask again when it is whole")
