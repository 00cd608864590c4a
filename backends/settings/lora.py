"""Which folder LoRA adapters are loaded from, and for which model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.errors import UsageError
from backends.settings.models import ModelSpec

#: Where Ray Serve LLM can load adapters from by itself.
REMOTE = ("s3://", "gs://", "abfss://", "azure://")


@dataclass(frozen=True)
class LoraOptions:
    """Adapters of ``model`` are the folders in ``path``, which is a folder's absolute path or one of
    :data:`REMOTE`. None: there are none."""

    path: str | None = None
    model: str = ""

    @property
    def is_remote(self) -> bool:
        return self.path is not None and self.path.startswith(REMOTE)

    def folder_of(self, model: str) -> Path | None:
        """The local folder with adapters of ``model``, if it has one."""
        return (
            Path(self.path) if self.path is not None and model == self.model and not self.is_remote else None
        )


NO_ADAPTERS = LoraOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flag, in a group of its own."""
    add = parser.add_argument_group("LoRA adapters (topologies rvc, rsv)").add_argument
    add(
        "--lora-dir",
        metavar="[MODEL=]DIR",
        help="folder of LoRA adapters, each a folder of its own; requests name them like models",
    )


def from_args(args: argparse.Namespace, models: Sequence[ModelSpec]) -> LoraOptions:
    """Raises UsageError."""
    text = args.lora_dir
    if text is None:
        return NO_ADAPTERS
    names = [model.name for model in models]
    name, equals, path = text.partition("=")
    if not equals or name not in names:
        name, path = names[0], text
        if len(names) > 1:
            raise UsageError(
                f"--lora-dir {text}: there are several models; say whose adapters these are: "
                f"--lora-dir {names[0]}={text}"
            )
    if path.startswith(REMOTE):
        if args.topology != "rsv":
            raise UsageError(f"--lora-dir {path}: only rsv loads from there; give a folder of this machine")
        return LoraOptions(path.rstrip("/"), name)
    if not Path(path).is_dir():
        raise UsageError(f"--lora-dir {path}: no such folder; make it, adapters may come into it later")
    return LoraOptions(str(Path(path).absolute()), name)


def refuse_flags(args: argparse.Namespace, topology: str) -> None:
    """Raises UsageError when the flag is given to a topology without it."""
    if args.lora_dir is not None:
        raise UsageError(f"--lora-dir: topology {topology} serves no adapters (rvc and rsv do)")
