"""The folder of a run that was given none: in ``runs/``, whatever the scenario is called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rvtop.session.request import default_out


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("smoke", "smoke-"),
        ("ramp-48.v2_x", "ramp-48.v2_x-"),
        ("../../../x", "x-"),
        ("/etc/passwd", "etc-passwd-"),
        ("..", "run-"),
        (".hidden", "hidden-"),
        ("a b\n\x1b[2Jc", "a-b-2Jc-"),
        ("한국어 부하", "한국어-부하-"),
        ("x" * 5000, "x" * 50 + "-"),
        ("𝒳" * 5000, "𝒳" * 50 + "-"),
        ("/", "run-"),
    ],
)
def test_it_lies_in_runs_and_can_be_made(
    name: str, begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = default_out(name)
    assert folder.parent == Path("runs")
    assert re.fullmatch(re.escape(begins) + r"\d{8}-\d{6}", folder.name)
    folder.mkdir(parents=True)
    assert folder.resolve().parent == tmp_path / "runs"
    assert default_out(name).resolve() != folder.resolve()
