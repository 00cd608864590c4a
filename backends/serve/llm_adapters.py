"""LoRA adapters of a local folder in Ray Serve LLM, which by itself loads them only from S3, Google Cloud
Storage or Azure: its ingress, which knows the names in the folder, and its server, which copies them from
there.

Ray's name for one is ``MODEL:ADAPTER``; the adapter's alone is taken too. A name stands for the files that
were there when a replica first loaded it: Serve LLM keeps it for as long as the replica lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.core.configs.openai_api_models import OpenAIHTTPException
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve.llm.deployment import LLMServer as RaysServer

from backends.engines.adapters import copied
from backends.models.adapters import AdapterError, AdapterFolder, Version, base_shapes, check
from backends.process.scratch_dir import OwnedTempDir
from backends.serve.llm_alias import AliasIngress

#: Where a model's `LLMConfig` says it, beside Ray's own: {path, model (its folder), rank}.
KEY = "rvtop_adapters"


class AdapterIngress(AliasIngress):
    """``adapters`` are those of its one model, as :data:`KEY` has them."""

    def __init__(self, *args: Any, adapters: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._base = next(iter(self._model_cards))
        self._folder = AdapterFolder(Path(adapters["path"]), self._base)
        self._rank, self._shapes = adapters["rank"], base_shapes(adapters["model"])
        self._good: dict[str, Version] = {}

    def _get_response(self, *, body: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        if body.model is not None and body.model != self._base and body.model not in self._aliases:
            name = body.model.removeprefix(f"{self._base}:")
            self._check(name)
            body = body.model_copy(update={"model": f"{self._base}:{name}"})
        return super()._get_response(body=body, **kwargs)

    def _check(self, name: str) -> None:
        """Here, since what a replica refuses is an error of the server. Raises OpenAIHTTPException."""
        if not self._folder.has(name):
            text = f"The model `{name}` does not exist."
            raise OpenAIHTTPException(404, text, "NotFoundError")
        try:
            version = self._folder.version(name)
            if self._good.get(name) != version:
                folder = self._folder.path / name
                check(folder, folder, self._rank, self._shapes)
                self._good[name] = version
        except AdapterError as error:
            text = f"The adapter `{name}` can't be used: {error}"
            raise OpenAIHTTPException(400, text, "BadRequestError") from None


class LocalAdapters(LoraModelLoader):
    """Takes from a folder what Ray's own would download. The copies are in a temporary folder, which goes
    when the replica's process does, also where Ray ends it by force."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._copies = OwnedTempDir("rvtop-lora-")
        self._numbers: dict[str, int] = {}

    async def load_model_from_config(self, lora_model_id: str, llm_config: Any) -> DiskMultiplexConfig:
        """Raises AdapterError."""
        if (known := self.disk_cache.get(lora_model_id)) is not None:
            return known
        told = llm_config.experimental_configs[KEY]
        base, _, name = lora_model_id.partition(":")
        folder = AdapterFolder(Path(told["path"]), base)
        shapes = await asyncio.to_thread(base_shapes, told["model"])
        copies = self._copies.path
        _, adapter = await asyncio.to_thread(copied, folder, name, copies, told["rank"], shapes)
        number = self._numbers.setdefault(lora_model_id, len(self._numbers) + 1)
        loaded = DiskMultiplexConfig(
            model_id=lora_model_id,
            max_total_tokens=None,
            local_path=adapter.path,
            lora_assigned_int_id=number,
        )
        self.disk_cache[lora_model_id] = loaded
        return loaded


class LLMServer(RaysServer):
    """Serve LLM's server, with :class:`LocalAdapters`. Serve names its replicas by the class."""

    async def __init__(self, llm_config: Any, **kwargs: Any) -> None:  # type: ignore[misc]  # as Ray has it
        await super().__init__(llm_config, **{**kwargs, "model_downloader": LocalAdapters})
