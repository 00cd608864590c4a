"""The words behind ``rvtop ctl SOCKET COMMAND`` as the command that a session gets."""

from __future__ import annotations

from typing import Any

import pytest

from rvtop.cli.ctl import fields_from
from rvtop.contract.command import CommandError, Retarget, SetRate
from rvtop.contract.messages import command_of
from rvtop.errors import UserError


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


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["20"], SetRate(20.0)),
        (["40", "in", "30s"], SetRate(40.0, over_s=30.0)),
        (["40", "in", "1m", "exp"], SetRate(40.0, over_s=60.0, shape="exponential")),
        (["spike", "90", "for", "10s"], SetRate(90.0, for_s=10.0)),
        (["40", "for_s=2.5"], SetRate(40.0, for_s=2.5)),
    ],
)
def test_a_rate_a_ramp_and_a_spike(words: list[str], command: Any) -> None:
    assert command_of("rate", fields_from("rate", words)) == command


@pytest.mark.parametrize(("words", "why"), [("40 in soon", "not a time"), ("x2 in 5s", "as a number")])
def test_a_ramp_that_is_none_is_refused(words: str, why: str) -> None:
    with pytest.raises(UserError, match=f"ctl rate {words}: .*{why}"):
        fields_from("rate", words.split())


@pytest.mark.parametrize("word", ["place=here", "keep=perhaps", "topologie=rac"])
def test_what_is_no_such_field_or_value_is_refused(word: str) -> None:
    with pytest.raises(CommandError, match="retarget"):
        command_of("retarget", fields_from("retarget", ["topology=rac", word]))
