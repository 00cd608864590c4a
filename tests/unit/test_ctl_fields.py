"""The words behind ``rvtop ctl SOCKET COMMAND`` as the command that a session gets."""

from __future__ import annotations

from typing import Any

import pytest

from rvtop.cli.ctl import fields_from
from rvtop.contract.command import CommandError, Retarget
from rvtop.contract.messages import command_of


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["http://a:1"], Retarget("http://a:1")),
        (["http://a:1", "models=a,b"], Retarget("http://a:1", ("a", "b"))),
        (
            [
                "topology=rac",
                "models=tiny=tiny",
                "arguments=--gpus,1",
                "place=beside",
                "keep=false",
                "pause=true",
            ],
            Retarget("", ("tiny=tiny",), "rac", ("--gpus", "1"), "beside", keep=False, pause=True),
        ),
    ],
)
def test_a_server_to_go_to(words: list[str], command: Any) -> None:
    assert command_of("retarget", fields_from("retarget", words)) == command


@pytest.mark.parametrize("word", ["place=here", "keep=perhaps", "topologie=rac"])
def test_what_is_no_such_field_or_value_is_refused(word: str) -> None:
    with pytest.raises(CommandError, match="retarget"):
        command_of("retarget", fields_from("retarget", ["topology=rac", word]))
