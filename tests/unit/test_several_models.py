"""A topology of ours with several models: requests alternate between all of them, with no further option."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rvtop.session.own_servers
from rvtop.errors import UserError
from rvtop.scenario.load import scenario_from
from rvtop.session.request import SessionRequest
from rvtop.target.backend import BackendOptions
from rvtop.target.preflight import check_backend
from rvtop.target.probe import TargetError, TargetInfo, choose_models, listed
from tests.faults.sessions import WORKLOAD, Watched
from tests.mock.fast import any_mock
from tests.mock.process import MockProcess


@pytest.fixture(scope="module")
def mock() -> Iterator[MockProcess]:
    with any_mock(ttft_ms=5, step_ms=1, tokens=4, models=("b", "a", "c")) as running:
        yield running


class Started:
    """Stands for ``rvtop.target.backend.Backend``: a topology that serves ``models`` where the mock does."""

    models: tuple[str, ...] = ()
    url = ""

    def __init__(self, options: BackendOptions, log: Path, on_step: object) -> None:
        self.models = tuple(text.partition("=")[0] for text in options.models)

    async def start(self) -> str:
        return self.url

    async def wait(self) -> int:
        await asyncio.Event().wait()
        return 0

    async def stop(self) -> None: ...


def session(out: Path, *phases: dict[str, Any], models: list[str] | None = None) -> Watched:
    data = {"name": "two", "seed": 7, "workload": WORKLOAD, "phases": list(phases), "models": models or []}
    backend = BackendOptions("rac", models=("a=tiny", "b=tiny"))
    return Watched(SessionRequest(scenario_from(data, "two"), out, backend=backend))


@pytest.fixture
def started(mock: MockProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Started, "url", mock.url)
    monkeypatch.setattr(rvtop.session.own_servers, "Backend", Started)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("named", [[], ["b", "a"]], ids=["by the command line", "by the scenario"])
async def test_requests_alternate_between_the_models_of_a_topology_that_was_started(
    tmp_path: Path, named: list[str]
) -> None:
    phases = (
        {"name": "warm", "rounds": {"sizes": [1]}, "warmup": True},
        {"name": "steady", "rate": 50, "duration": "200ms"},
        {"name": "paper", "rounds": {"sizes": [1, 6], "repeat": 2}},
    )
    watched = session(tmp_path / "run", *phases, models=named)
    outcome = await watched.end()
    assert outcome.exit_code == 0, outcome.message
    rows = watched.rows()
    assert {row["error"] for row in rows} == {None}
    sent = Counter((row["phase"], row["model"]) for row in rows)
    order = named or ["a", "b"]  # of the command line, not of the server's list
    for phase, each in {
        "warm/n=1#1": 1,
        "paper/n=1#1": 1,
        "paper/n=1#2": 1,
        "paper/n=6#1": 3,
        "steady": 5,
    }.items():
        assert [sent[phase, model] for model in order] == [each, each], phase
    steady = sorted((row["id"], row["model"]) for row in rows if row["phase"] == "steady")
    assert [model for _, model in steady] == order * 5
    assert outcome.summary is not None
    assert outcome.summary["models"] == order
    shares = [outcome.summary["by_model"][model]["requests"]["ok"] for model in order]
    assert shares == [5 + 2 + 6] * 2


async def test_a_model_that_the_scenario_does_not_name_is_left_out(started: None, tmp_path: Path) -> None:
    watched = session(tmp_path / "run", {"name": "one", "rounds": {"sizes": [4]}}, models=["b"])
    assert (await watched.end()).exit_code == 0
    assert {row["model"] for row in watched.rows()} == {"b"}


def test_a_server_that_is_up_is_not_sent_to_at_random() -> None:
    info = TargetInfo("http://x", ("a", "b"), None, None)
    with pytest.raises(TargetError, match="several models; name one or more with --model: a, b"):
        choose_models(info, ())
    assert choose_models(info, ("b", "a")) == ("b", "a")
    with pytest.raises(TargetError, match="--model b: is given twice"):
        choose_models(info, ("b", "a", "b"))
    assert choose_models(replace(info, models=("a",)), ()) == ("a",)


def test_a_list_of_names_is_short() -> None:
    assert listed(("a", "b")) == "a, b"
    assert listed([str(n) for n in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … and 2 more"


# -- before the start ------------------------------------------------------------------------------


def test_what_will_be_served_is_known_before_the_start() -> None:
    assert check_backend(BackendOptions("rvc", models=("a=tiny", "b=owner/name"))) == ("a", "b")
    assert check_backend(BackendOptions("rac", models=("tiny",))) == ("tiny",)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (BackendOptions("rac", arguments=("--thread", "x y")), "--thread"),
        (BackendOptions("rac", port=70000), "--port"),
        (BackendOptions("rac", models=("a=tiny",), arguments=("--model", "a=tiny")), "'a' is given twice"),
    ],
)
def test_options_that_a_topology_refuses_are_refused_before_the_start(
    options: BackendOptions, says: str
) -> None:
    with pytest.raises(UserError) as refused:
        check_backend(options)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_check_that_itself_fails_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "__init__.py").write_text("")
    (tmp_path / "backends" / "__main__.py").write_text("raise SystemExit('half an installation')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^half an installation$"):
        check_backend(BackendOptions("rac"))
