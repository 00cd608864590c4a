"""What an agent may do: nothing but look, unless whoever started the server said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from rvtop.errors import UserError


@dataclass(frozen=True)
class Limits:
    """``load``: it may send load, at most ``max_rate`` requests a second, to ``targets``: URLs, and
    topologies that it may start."""

    load: bool = False
    max_rate: float | None = None
    targets: tuple[str, ...] = ()

    def check_load(self, what: str) -> None:
        """Raises UserError where an agent may only look."""
        if not self.load:
            raise UserError(f"{what}: read-only: rvtop mcp was started without --allow-load")

    def check_rate(self, what: str, rps: float) -> None:
        """Raises UserError."""
        if self.max_rate is not None and not 0 <= rps <= self.max_rate:
            raise UserError(
                f"{what}: {rps:g} requests a second; from 0 to {self.max_rate:g} are allowed here"
            )

    def check_target(self, what: str, target: str) -> None:
        """Raises UserError where ``target`` (a URL or a topology) is not on the list."""
        if _plain(target) not in map(_plain, self.targets):
            listed = ", ".join(self.targets) or "none"
            raise UserError(f"{what}: {target} is not a target that is allowed here; allowed: {listed}")


def _plain(target: str) -> str:
    return target.rstrip("/")
