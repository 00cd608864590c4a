"""The application as screens and panels of this package see it: the contract's Shell, and the styles."""

from __future__ import annotations

from typing import Protocol, cast

from textual.message_pump import MessagePump

from rvtop.contract.shell import Shell
from rvtop.ui.theme import Styles


class ScreenShell(Shell, Protocol):
    """A Shell that also says how to draw."""

    @property
    def rich_styles(self) -> Styles:
        """The Rich styles to draw with (Textual's own ``styles`` are a widget's CSS)."""
        ...


def shell_of(node: MessagePump) -> ScreenShell:
    """The application that a mounted screen or widget belongs to."""
    return cast("ScreenShell", node.app)
