"""What a user can cause and mend."""

from __future__ import annotations

from rvtop.text import printable

_LIMIT = 4000


class UserError(Exception):
    """``str()`` is one line that says what is wrong, where, and how to mend it; ``exit_code`` goes with it
    (2 bad usage or input, 3 the target was lost, 4 a backend failed to start, 5 a part of rvtop died).

    What it quotes of a server, a file or an argument is made safe to print here."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(printable(message, _LIMIT))
        self.exit_code = exit_code
