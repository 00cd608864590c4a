"""One name for several models: flags -> :class:`SplitOptions`, and which share of the requests goes to which
model. Stdlib only."""

from __future__ import annotations

import argparse
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from backends.errors import UsageError

#: A request is at one of so many points; an arm has a range of them. A share is exact to 0.01 %.
POINTS = 10_000
SESSION_HEADER = "x-session-id"
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
# `7b` in llama-7b, qwen25_3b, Qwen2.5-0.5B-Instruct, qwen25_1_5b.
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:[._]\d)?b)(?![a-z0-9])")


class Named(Protocol):
    """A model that is served (see :class:`backends.settings.options.ModelSpec`)."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Arm:
    """A model behind a further name, and its share in percent."""

    model: str
    share: float


@dataclass(frozen=True)
class Split:
    """A name (``alias``) whose requests are split over models. The shares add up to 100."""

    alias: str
    arms: tuple[Arm, ...]

    def ranges(self) -> list[tuple[str, int, int]]:
        """(model, first point, point behind the last) of each arm that has any: together all points. The
        first arm comes last, so that the range of one that grows holds the one it had."""
        ordered = [*self.arms[1:], self.arms[0]]
        edges, total = [0], 0.0
        for arm in ordered[:-1]:
            total += arm.share
            edges.append(min(POINTS, round(total * POINTS / 100)))
        spans = pairwise([*edges, POINTS])
        return [(arm.model, low, high) for arm, (low, high) in zip(ordered, spans, strict=True) if low < high]

    def changed(self, shares: dict[str, float]) -> Split:
        """The split with other shares (percent) of some arms; those that are not named divide the rest as
        they did before, or evenly where they had none. Raises ValueError, in words for the user."""
        names = [arm.model for arm in self.arms]
        for name, share in shares.items():
            if name not in names:
                raise ValueError(f"{name}: not an arm of {self.alias}, whose arms are {', '.join(names)}")
            if not 0 <= share <= 100:
                raise ValueError(f"{name}={share:g}: a share must be from 0 to 100 (percent)")
        given = math.fsum(shares.values())
        others = [arm for arm in self.arms if arm.model not in shares]
        if given > 100 + 1e-6 or (not others and given < 100 - 1e-6):
            must = "at most 100" if others else "100, as all arms are named"
            raise ValueError(f"the shares add up to {given:g}: they must be {must}")
        held = math.fsum(arm.share for arm in others)
        rest = {arm.model: (100 - given) * (arm.share / held if held else 1 / len(others)) for arm in others}
        return replace(self, arms=tuple(Arm(name, ({**rest, **shares})[name]) for name in names))


@dataclass(frozen=True)
class SplitOptions:
    """``fallback``: the requests of an arm without an engine that is up go to another arm. ``session_header``
    names the header by which the requests of a session stay on one arm. ``sizes``: what `model_size` of a
    request may say, and the model that it means."""

    splits: tuple[Split, ...] = ()
    fallback: bool = False
    session_header: str = SESSION_HEADER
    sizes: tuple[tuple[str, str], ...] = ()

    def aliases_of(self, model: str) -> tuple[str, ...]:
        """The further names under which a model gets requests."""
        return tuple(split.alias for split in self.splits if model in [arm.model for arm in split.arms])


NO_SPLITS = SplitOptions()


def point_of(key: bytes) -> int:
    """Where a request or a session is among POINTS. The router computes the same."""
    return int.from_bytes(hashlib.sha1(key, usedforsecurity=False).digest()[:4], "big") % POINTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, in a group of their own."""
    add = parser.add_argument_group("Several models behind one name").add_argument
    add(
        "--split",
        action="append",
        metavar="ALIAS=MODEL:SHARE,…",
        help="requests for ALIAS go to these models, by their shares; repeatable",
    )
    add("--fallback", action="store_true", help="what an arm of --split can't answer goes to another arm")
    add("--session-header", metavar="NAME", help=f"keeps a session on one arm; default {SESSION_HEADER}")
    add(
        "--model-size",
        action="append",
        metavar="SIZE=MODEL",
        help="requests with `model_size` and no `model`; default: sizes in the models' names; repeatable",
    )


def from_args(args: argparse.Namespace, models: Sequence[Named]) -> SplitOptions:
    """Raises UsageError."""
    names = [model.name for model in models]
    splits: list[Split] = []
    for text in args.split or ():
        split = _split(text, names)
        if split.alias in [other.alias for other in splits]:
            raise UsageError(f"--split {text}: {split.alias} is split twice")
        splits.append(split)
    for flag, given in (("--fallback", args.fallback), ("--session-header", args.session_header)):
        if given and not splits:
            raise UsageError(f"{flag} needs --split ALIAS=MODEL:SHARE,…: without it there are no arms")
    header = args.session_header or SESSION_HEADER
    if not _HEADER.fullmatch(header):
        raise UsageError(f"--session-header {header!r}: must be letters, digits and -, at most 64")
    return SplitOptions(tuple(splits), args.fallback, header.lower(), _sizes(args.model_size or (), models))


def _split(text: str, names: Sequence[str]) -> Split:
    alias, equals, rest = text.partition("=")
    if not alias or not equals:
        raise UsageError(f"--split {text!r}: write ALIAS=MODEL:SHARE,…, for example chat=v1:90,v2:10")
    if alias in names:
        raise UsageError(f"--split {text}: {alias} is a model's own name; choose another for all of them")
    weights: dict[str, float] = {}
    for part in rest.split(","):
        model, colon, share = part.rpartition(":")
        try:
            weight = float(share)
        except ValueError:
            weight = math.nan
        if not colon or not 0 <= weight < math.inf:
            raise UsageError(f"--split {text}: {part!r}: write MODEL:SHARE with a share of 0 or more")
        if model not in names:
            raise UsageError(f"--split {text}: no --model is named {model!r}; there are {', '.join(names)}")
        if model in weights:
            raise UsageError(f"--split {text}: {model} is named twice")
        weights[model] = weight
    total = math.fsum(weights.values())
    if len(weights) < 2 or not total:
        raise UsageError(f"--split {text}: needs two arms or more, one of them with a share above 0")
    return Split(alias, tuple(Arm(model, 100 * weight / total) for model, weight in weights.items()))


def _sizes(given: Sequence[str], models: Sequence[Named]) -> tuple[tuple[str, str], ...]:
    """Those that were asked for, and those that stand in the name or the source of one model alone."""
    sizes: dict[str, str] = {}
    names = [model.name for model in models]
    for text in given:
        size, equals, model = text.partition("=")
        if not size or not equals:
            raise UsageError(f"--model-size {text!r}: write SIZE=MODEL, for example 70b=big")
        if model not in names:
            raise UsageError(
                f"--model-size {text}: no --model is named {model!r}; there are {', '.join(names)}"
            )
        if size.lower() in sizes:
            raise UsageError(f"--model-size {text}: the size {size} is given twice")
        sizes[size.lower()] = model
    found: dict[str, set[str]] = {}
    for spec in models:
        for text in (spec.name, re.split(r"[/\\]", spec.source.rstrip("/\\"))[-1]):
            if match := _SIZE.search(text.lower()):
                found.setdefault(match[1].replace("_", "."), set()).add(spec.name)
                break
    told = {size: next(iter(those)) for size, those in found.items() if len(those) == 1}
    return tuple({**told, **sizes}.items())
