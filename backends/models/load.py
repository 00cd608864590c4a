"""Loads any Hugging Face model: a folder, a Hub id, or one of the local ones. Stdlib only until it loads."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.errors import UsageError
from backends.models import Progress, shared_dir
from backends.models.progress_bars import no_progress_bars
from backends.models.weights import damage
from backends.process.events import Steps
from backends.settings.options import DTYPES, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOCAL = {"tiny": "tiny", "tiny:large": "large"}
"""What a model may be called instead of a path, and its size."""

_EXPERIMENT_MODELS = {"q3b": "qwen25_3b", "q15b": "qwen25_1_5b_instruct"}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class ModelError(Exception):
    """A model that cannot be had: ``str(error)`` is one line saying what, where, and the fix."""


def default_models() -> dict[str, str]:
    """Name to source of what is served when nothing is asked for: the experiment's folders that exist,
    else the tiny model."""
    models = shared_dir() / "models"
    found = {n: str(p) for n, d in _EXPERIMENT_MODELS.items() if (p := models / d).is_dir()}
    return found or {"tiny": "tiny"}


def default_embedder() -> str:
    """The experiment's embedder when its folder exists, else ``tiny``."""
    folder = shared_dir() / "models" / "ko-sroberta-multitask"
    return str(folder) if folder.is_dir() else "tiny"


def default_index() -> str | None:
    """The experiment's document index when its folder exists."""
    folder = shared_dir() / "faiss_index"
    return str(folder) if folder.is_dir() else None


def is_local(spec: str) -> bool:
    """Whether ``spec`` means a model that is built here: one of `LOCAL`, unless a model folder beside us is
    called so."""
    return spec in LOCAL and not Path(spec, "config.json").is_file()


def resolve_model(spec: str, progress: Progress | None = None) -> Path | str:
    """``tiny`` and ``tiny:large`` (built when needed), a model folder, or a Hub id, checked as far as can
    be without loading it. Raises ModelError."""
    if is_local(spec):
        from backends.models.tiny.tiny import ensure_model

        return _built(spec, lambda: ensure_model(LOCAL[spec], progress))
    return _folder_or_hub_id(spec, "model", ("config.json",), tuple(LOCAL))


async def resolve_step(spec: ModelSpec, steps: Steps) -> Path | str:
    """`resolve_model` in a thread, as the step ``model`` of a start. Raises ModelError."""
    with steps.step("model", spec.name) as step:
        return await asyncio.to_thread(resolve_model, spec.source, step.progress)


async def resolve_or_refuse(spec: ModelSpec, steps: Steps) -> str:
    """`resolve_step`; a model that cannot be had is bad usage. Raises UsageError."""
    try:
        return str(await resolve_step(spec, steps))
    except ModelError as error:
        raise UsageError(f"--model {spec.name}: {error}") from None


def resolve_embedder(spec: str, progress: Progress | None = None) -> Path | str:
    """As `resolve_model`, for a SentenceTransformer: ``tiny``, a folder, or a Hub id."""
    if spec == "tiny":
        from backends.models.tiny.tiny import ensure_embedder

        return _built(spec, lambda: ensure_embedder(progress))
    return _folder_or_hub_id(spec, "embedder", ("modules.json", "config.json"), ("tiny",))


def load_model(
    source: Path | str,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal language model and tokenizer of a resolved source, in evaluation mode on ``device``; its
    weights are a copy in memory. (As transformers reads them they are the file itself, mapped, and whoever
    cuts that short ends every process that uses it, by SIGBUS.)

    ``HF_HOME`` and ``HF_HUB_OFFLINE`` mean what they mean to the Hub's client. Raises ModelError.
    """
    if dtype not in DTYPES:
        raise ModelError(f"no dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    check_weights(source)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted = dtype if dtype == "auto" else getattr(torch, dtype)
    with _as_model_error("model", source), no_progress_bars():
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=wanted, trust_remote_code=trust_remote_code
        )
    # Outside: an accelerator that is out of memory is not a bad model.
    model = model.to(device).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":  # else it has left the file already
            tensor.data = tensor.data.clone()
    return model, tokenizer


def check_weights(source: Path | str) -> None:
    """Raises ModelError for a folder whose weights are not whole, as far as their headers tell."""
    if wrong := damage(source):
        raise ModelError(f"{wrong}; copy that file here again")


def load_embedder(
    source: Path | str, device: str = "cpu", trust_remote_code: bool = False
) -> SentenceTransformer:
    """The SentenceTransformer of a resolved source. Raises ModelError."""
    from sentence_transformers import SentenceTransformer

    with _as_model_error("embedder", source), no_progress_bars():
        return SentenceTransformer(str(source), device=device, trust_remote_code=trust_remote_code).eval()


def _built(spec: str, ensure: Callable[[], Path]) -> Path:
    try:
        return ensure()
    except OSError as error:
        raise ModelError(f"cannot build the local model {spec}: {error}") from error


def _folder_or_hub_id(spec: str, what: str, needed: tuple[str, ...], local: tuple[str, ...]) -> Path | str:
    folder = Path(spec).expanduser()
    wanted = f"give a {what} folder, a Hub id (owner/name) or {' or '.join(local)}"
    if folder.is_dir():
        present = [name for name in needed if (folder / name).is_file()]
        if not present:
            raise ModelError(f"{folder} is not a {what}: it has no {' or '.join(needed)}; {wanted}")
        if what == "model" and not _is_model_config(folder / "config.json"):
            raise ModelError(f"{folder} is not a model: its config.json names no model_type; {wanted}")
        return folder
    if folder.exists():
        raise ModelError(f"{folder} is a file, not a {what}; {wanted}")
    if folder.is_absolute() or spec.startswith((".", "~")) or not _HUB_ID.fullmatch(spec):
        raise ModelError(f"there is no {what} {spec!r}; {wanted}")
    return spec


def _is_model_config(path: Path) -> bool:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(config, Mapping) and isinstance(config.get("model_type"), str)


@contextmanager
def _as_model_error(what: str, source: Path | str) -> Iterator[Any]:
    """Loading fails in many ways (no such repository, offline, a missing file, damaged weights, a missing
    package): each is one line with the library's own reason."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"cannot load the {what} {source}: {_shorten(reason)}") from error


def _shorten(text: str, length: int = 300) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
