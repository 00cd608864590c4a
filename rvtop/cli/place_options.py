"""The options of a plan for several models' replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer


@dataclass(frozen=True)
class PlaceOptions:
    """``--auto-place`` of ``python -m backends rvc``, and what it goes by."""

    heading: ClassVar[str] = "The topology that is started"
    auto_place: Annotated[
        bool,
        typer.Option(
            "--auto-place", help="Topology rvc: plan each model's replicas, and anew as the mix shifts."
        ),
    ] = False
    place_mix: Annotated[
        str | None,
        typer.Option("--place-mix", metavar="MODEL=RPS,…", help="With --auto-place: the mix to start for."),
    ] = None
    place_slo: Annotated[
        str | None,
        typer.Option(
            "--place-slo", metavar="ttft_ms=N,tpot_ms=N", help="With --auto-place: the limits to plan for."
        ),
    ] = None
    place_resource: Annotated[
        str | None,
        typer.Option(
            "--place-resource", metavar="NAME", help="With --auto-place: a Ray resource to share, not GPUs."
        ),
    ] = None

    def placing(self) -> list[str]:
        """The same, as arguments of ``python -m backends``."""
        valued = {
            "--place-mix": self.place_mix,
            "--place-slo": self.place_slo,
            "--place-resource": self.place_resource,
        }
        words = [word for flag, text in valued.items() if text is not None for word in (flag, text)]
        return ["--auto-place", *words] if self.auto_place else words
