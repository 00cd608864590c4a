"""Options of ``rvtop run`` that say what load is made: a steady rate, time limits, the search for a rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from rvtop.cli.options import positive, seconds
from rvtop.errors import UserError

if TYPE_CHECKING:
    from rvtop.load.wire.timeouts import Timeouts
    from rvtop.scenario.schema import Scenario
    from rvtop.session.search import SearchOptions

#: The option that each key of a scenario made of options comes from.
_OPTION_OF = {
    "seed": "--seed",
    "phases[0].rate": "--rate",
    "phases[0].duration": "--duration",
    "phases[0].arrivals": "--arrivals",
    "phases[0].burstiness": "--burstiness",
    "workload.prompt_tokens": "--prompt-tokens",
    "workload.output_tokens": "--output-tokens",
    "workload.max_tokens": "--output-tokens",
}


#: More probes a second are a load of their own.
MOST_PROBES = 20

ExcludeWarmUp = Annotated[
    str,
    typer.Option(
        "--exclude-warm-up",
        metavar="auto|none",
        help="auto: leave the warm-up that is found out of the figures; none: only say what it changes.",
    ),
]


def check_exclude_warm_up(choice: str) -> None:
    """Raises UserError for what is no choice."""
    if choice not in ("auto", "none"):
        raise UserError(f"--exclude-warm-up {choice}: must be auto or none")


@dataclass(frozen=True)
class SteadyOptions:
    """A scenario of one phase, made of options."""

    heading: ClassVar[str] = "A steady load instead of a scenario"
    rate: Annotated[float | None, typer.Option(help="Requests per second.")] = None
    duration: Annotated[str, typer.Option(help="How long, with --rate: 30s, 2m; a number is seconds.")] = (
        "30s"
    )
    prompt_tokens: Annotated[int | None, typer.Option(help="Synthetic prompts of this length.")] = None
    output_tokens: Annotated[int, typer.Option(help="Tokens to generate for each request.")] = 128
    arrivals: Annotated[str, typer.Option(help="constant, poisson or gamma.")] = "poisson"
    burstiness: Annotated[float | None, typer.Option(help="Shape of gamma arrivals; 1 is Poisson.")] = None
    seed: Annotated[int | None, typer.Option(help="Seed of arrivals and synthetic prompts.")] = None

    def scenario(self, rate: float | None) -> Scenario:
        """The scenario, at ``rate`` requests a second. Raises UserError with the option that is wrong."""
        from rvtop.scenario.load import ScenarioError, scenario_from
        from rvtop.session.request import find

        phase: dict[str, Any] = {
            "name": "steady",
            "rate": rate,
            "duration": self.duration,
            "arrivals": self.arrivals,
        }
        if self.burstiness is not None:
            phase["burstiness"] = self.burstiness
        workload: dict[str, Any] = {"ignore_eos": True}
        if self.prompt_tokens is not None:
            workload |= {
                "kind": "synthetic",
                "prompt_tokens": self.prompt_tokens,
                "output_tokens": self.output_tokens,
            }
        else:
            file = str(find("smoke").workload.file)  # type: ignore[union-attr]
            workload |= {"kind": "prompts", "file": file, "max_tokens": self.output_tokens}
        data = {"name": "steady", "seed": self.seed or 0, "workload": workload, "phases": [phase]}
        try:
            return scenario_from(data, "--rate")
        except ScenarioError as error:
            option = _OPTION_OF.get(error.key)
            raise (UserError(f"{option}: {error.message}") if option else error) from None


@dataclass(frozen=True)
class WatchOptions:
    """What a run looks for beside its figures."""

    heading: ClassVar[str] = "Saturation, warm-up, probes"
    stop_when_saturated: Annotated[
        bool,
        typer.Option(
            "--stop-when-saturated",
            help="End the run, with exit code 1, where load is above what the server can answer.",
        ),
    ] = False
    exclude_warm_up: ExcludeWarmUp = "none"
    probe_rate: Annotated[
        float | None,
        typer.Option(
            "--probe-rate",
            metavar="R",
            help="Also send R one-token requests a second beside the load, which are reported apart.",
        ),
    ] = None

    def check(self) -> None:
        """Raises UserError."""
        positive("--probe-rate", self.probe_rate)
        if self.probe_rate is not None and self.probe_rate > MOST_PROBES:
            raise UserError(
                f"--probe-rate {self.probe_rate:g}: must be {MOST_PROBES} at most, or it is a load"
            )
        check_exclude_warm_up(self.exclude_warm_up)


def check_figures(
    scenario: Scenario,
    search: SearchOptions | None,
    probe_rate: float | None,
    *,
    stop_when_saturated: bool = False,
) -> None:
    """Raises UserError where options ask for figures that answers in one piece do not have."""
    if not scenario.api.whole:
        return
    if probe_rate is not None:
        raise UserError("--probe-rate looks at TTFTs, and answers in one piece have none; leave it out")
    if stop_when_saturated:
        raise UserError(
            "--stop-when-saturated looks at TTFTs, and answers in one piece have none; leave it out "
            "(--find-max with --slo e2e_p99=MS finds what the server holds)"
        )
    for name in search.slo if search is not None else ():
        if name.startswith(("ttft", "itl", "tpot")):
            raise UserError(
                f"--slo {name}: answers in one piece have no such figure; use e2e_p99 and its like"
            )


@dataclass(frozen=True)
class TimeoutOptions:
    """How long a request may wait for what."""

    heading: ClassVar[str] = "Timeouts"
    connect_timeout: Annotated[str, typer.Option(help="Most time until a connection is made.")] = "5s"
    ttft_timeout: Annotated[
        str | None, typer.Option(help="Most time until the first token; default none.")
    ] = None
    stall_timeout: Annotated[str, typer.Option(help="Most time without a byte in a stream.")] = "60s"

    def timeouts(self) -> Timeouts:
        """The same in seconds. Raises UserError."""
        from rvtop.load.wire.timeouts import Timeouts

        return Timeouts(
            seconds("--connect-timeout", self.connect_timeout),
            None if self.ttft_timeout is None else seconds("--ttft-timeout", self.ttft_timeout),
            seconds("--stall-timeout", self.stall_timeout),
        )


@dataclass(frozen=True)
class FindMaxOptions:
    """The search for the highest rate that holds an SLO."""

    heading: ClassVar[str] = "Search for the highest rate"
    find_max: Annotated[
        bool, typer.Option("--find-max", help="Search for the highest rate that holds --slo, from --rate on.")
    ] = False
    slo: Annotated[
        str | None,
        typer.Option(help="Limits for --find-max: ttft_p99=200,tpot_mean=50 (ms), error_rate=0.01."),
    ] = None
    step: Annotated[
        str, typer.Option(help="For --find-max: a step's least length; about 100 requests make it longer.")
    ] = "10s"
    hold: Annotated[str, typer.Option(help="For --find-max: least length of the confirmation.")] = "30s"

    def check(self) -> None:
        """Raises UserError where one of two options that need each other is missing."""
        if self.find_max != (self.slo is not None):
            raise UserError("--find-max and --slo go together: --find-max --slo ttft_p99=200,tpot_mean=50")

    def search(self, rate: float | None, max_rate: float | None) -> SearchOptions | None:
        """The search, from ``rate`` to ``max_rate`` requests a second; None: none. Raises UserError."""
        if not self.find_max:
            return None
        import math

        from rvtop.session.search import SearchOptions, parse_slo

        lengths = [seconds("--step", self.step), seconds("--hold", self.hold)]
        positive("--rate", rate)
        limit = math.inf if max_rate is None else max_rate
        return SearchOptions(parse_slo(self.slo or ""), min(rate or 1.0, limit), limit, *lengths)
