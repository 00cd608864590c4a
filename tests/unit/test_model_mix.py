"""Load over several models by share and by pattern: which are meant, and who gets which request."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rvtop.contract.command import Retarget, Stop
from rvtop.load.plan.mix import Mix
from rvtop.scenario.explain import explain
from rvtop.scenario.load import ScenarioError, load_scenario, scenario_from
from rvtop.scenario.schema import Scenario
from rvtop.session.load_target import LoadTarget
from rvtop.session.request import SessionRequest
from rvtop.target.backend import BackendOptions
from rvtop.target.mix import in_turn_words, matching, shares_of
from rvtop.target.preflight import check_backend, check_models
from rvtop.target.probe import TargetError, TargetInfo, bases, choose_models, has_models
from tests.faults.sessions import WORKLOAD, Watched
from tests.mock.fast import any_mock

SERVED = ("base", "lora-1", "lora-2", "other", "lora-[x]")
LOAD = {"name": "p", "rate": 400, "duration": "500ms"}


def scenario(models: Any) -> Scenario:
    data = {"name": "mix", "seed": 7, "workload": WORKLOAD, "phases": [LOAD], "models": models}
    return scenario_from(data, "mix")


# -- which are meant ---------------------------------------------------------------------------------------


def test_names_mean_themselves_and_patterns_what_is_left() -> None:
    assert matching(["base", "lora-*"], SERVED) == {
        "base": "base",
        "lora-1": "lora-*",
        "lora-2": "lora-*",
        "lora-[x]": "lora-*",
    }
    assert matching(["lora-*", "lora-2"], SERVED) == {
        "lora-1": "lora-*",
        "lora-[x]": "lora-*",
        "lora-2": "lora-2",
    }
    assert matching(["lora-[12]", "lora-[x]", "*"], SERVED) == {
        "lora-1": "lora-[12]",
        "lora-2": "lora-[12]",
        "lora-[x]": "lora-[x]",
        "base": "*",
        "other": "*",
    }
    assert matching(["nope", "no-*"], SERVED) == {}


def test_a_pattern_s_share_is_divided_between_all_that_it_means() -> None:
    models = ("base", "lora-1", "lora-2")
    assert shares_of({"base": 0.5, "lora-*": 0.5}, models) == (0.5, 0.25, 0.25)
    assert shares_of({"base": 2, "lora-*": 2, "lora-2": 4}, models) == (0.25, 0.25, 0.5)
    assert shares_of({"base": 1.0}, models) == ()


def test_a_server_s_models_are_chosen_by_pattern() -> None:
    info = TargetInfo("http://x", SERVED, None, None)
    assert choose_models(info, {"base": 0.5, "lora-?": 0.5}) == ("base", "lora-1", "lora-2")
    assert choose_models(info, {"other": 3, "base": 1}) == ("other", "base")  # shares are no counts
    assert choose_models(info, ("o*", "base")) == ("other", "base")
    with pytest.raises(TargetError, match=r"serves no model that matches 'nope-\*'; it serves: base, lora-1"):
        choose_models(info, {"base": 1.0, "nope-*": 1.0})
    adapters = frozenset(("lora-1", "lora-2", "lora-[x]"))
    assert choose_models(TargetInfo("http://x", (*SERVED[:3],), None, None, derived=adapters), ()) == (
        "base",
    )
    with pytest.raises(TargetError, match="serves several models"):
        choose_models(TargetInfo("http://x", SERVED, None, None, derived=adapters), ())
    with pytest.raises(TargetError, match=r"serves no model 'nope'"):
        choose_models(info, ("nope",))
    assert choose_models(info, ("nope",), unlisted=True) == ("nope",)  # an embedder beside an LLM
    assert choose_models(info, ("nope", "lora-?", "base"), unlisted=True) == (
        "nope",
        "lora-1",
        "lora-2",
        "base",
    )
    with pytest.raises(TargetError, match="serves no model that matches"):
        choose_models(info, ("nope-*",), unlisted=True)


def test_a_load_that_goes_on_elsewhere_asks_for_the_same_or_for_no_adapter() -> None:
    adapters = frozenset(("lora-1", "lora-2"))
    here, there = (
        TargetInfo(url, SERVED[:3], None, None, derived=adapters) for url in ("http://a", "http://b")
    )
    assert bases(there) == ("base",)
    assert bases(TargetInfo("http://c", ("lora-1",), None, None, derived=adapters)) == ("lora-1",)
    assert has_models(there, ("base", "lora-1"), here)
    assert not has_models(there, ("other",), TargetInfo("http://d", ("other",), None, None))
    assert has_models(there, ("embedder",), here)  # on neither list: it embeds beside an LLM


def test_adapters_of_a_topology_are_known_before_it_starts(tmp_path: Path) -> None:
    for name in ("lora-1", "lora-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    options = BackendOptions("rvc", models=("base=tiny",), arguments=("--lora-dir", str(tmp_path)))
    assert check_backend(options, scenario({"base": 1, "lora-*": 1})) == ("base",)
    with pytest.raises(Exception, match=r"names x-\*, and what starts would serve base, lora-1"):
        check_models(scenario({"base": 1, "x-*": 1}), ("base", "lora-1"))
    embeds = scenario(["tiny"]).model_copy(update={"endpoint": "embeddings"})
    check_models(embeds, ("base",))  # the embedder of --index is on no list


# -- who gets which request --------------------------------------------------------------------------------


def test_requests_are_drawn_by_the_seed() -> None:
    shares = (0.5, 0.3, 0.2)
    got = [Mix(shares, 7).of(number, 3) for number in range(10_000)]
    assert got == [Mix(shares, 7).of(number, 3) for number in range(10_000)]
    assert [prompt for _, prompt in got] == list(range(10_000))
    counts = Counter(place for place, _ in got)
    # ± 4 standard deviations of a binomial draw
    assert all(
        abs(counts[n] - 10_000 * share) < 4 * (10_000 * share * (1 - share)) ** 0.5
        for n, share in enumerate(shares)
    )
    assert [place for place, _ in got] != [Mix(shares, 8).of(number, 3)[0] for number in range(10_000)]


def test_without_shares_models_take_turns_with_the_same_prompts() -> None:
    assert [Mix((), 7).of(number, 2) for number in range(4)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [Mix((1.0, 1.0, 1.0), 7).of(number, 2) for number in range(2)] == [(0, 0), (1, 0)]


async def test_a_load_goes_to_models_by_share_and_each_has_its_figures(tmp_path: Path) -> None:
    served = ("base", *(f"lora-{n}" for n in range(4)))
    with any_mock(ttft_ms=2, step_ms=1, tokens=2, models=(*served, "other")) as mock:
        runs = []
        for number in range(2):
            mixed = scenario({"base": 0.5, "lora-*": 0.5})
            watched = Watched(SessionRequest(mixed, tmp_path / f"run-{number}", url=mock.url))
            outcome = await watched.end()
            assert outcome.exit_code == 0, outcome.message
            runs.append(sorted((row["id"], row["model"]) for row in watched.rows()))
    assert runs[0] == runs[1]  # by the seed
    counts = Counter(model for _, model in runs[0])
    assert set(counts) == set(served)
    total = sum(counts.values())
    assert total == 200
    assert abs(counts["base"] - total / 2) < 4 * (total / 4) ** 0.5
    assert outcome.summary is not None
    by_model = outcome.summary["by_model"]
    assert {name: one["requests"]["ok"] for name, one in by_model.items()} == counts
    shown = {arm.name: arm for arm in watched.now.arms}
    assert {name: (arm.kind, arm.asked) for name, arm in shown.items()} == {
        "base": ("model", 0.5),
        **{f"lora-{n}": ("model", 0.125) for n in range(4)},
    }


def test_a_model_that_no_server_lists_keeps_its_share(tmp_path: Path) -> None:
    request: Any = SessionRequest(None, tmp_path, url="http://a")
    target = LoadTarget(request, SimpleNamespace(), SimpleNamespace(), bool)  # type: ignore[arg-type]
    listed = TargetInfo("http://a", ("llm",), None, None)
    target.info, target.mix, target.models = listed, {"embedder": 3.0, "llm": 1.0}, ("embedder", "llm")
    target.shares = (0.75, 0.25)
    there = replace(listed, url="http://b")
    assert target.models_at(there) == ("embedder", "llm")
    served = (*there.models, *target.models)
    assert in_turn_words(target.mix, target.models, served) == ""


async def test_shares_go_with_the_names_to_another_server(tmp_path: Path) -> None:
    async def goes(url: str, shares: dict[str, float], models: tuple[str, ...] = ()) -> None:
        done = watched.session.commands.follow(Retarget(url, models), "control")
        while done.later is not None:
            done = await done.later
        ok = watched.now.load.ok
        await watched.until(lambda s: s.load.ok > ok + 150, "load there")
        await watched.until(
            lambda s: {arm.name: arm.asked for arm in s.arms if arm.asked is not None} == shares, "the shares"
        )

    phase = {"name": "p", "rate": 400, "duration": "10m"}
    data = {"name": "mix", "seed": 7, "workload": WORKLOAD, "phases": [phase], "models": {"a": 3, "b": 1}}
    with (
        any_mock(ttft_ms=2, step_ms=1, tokens=2, models=("a", "b")) as first,
        any_mock(ttft_ms=2, step_ms=1, tokens=2, models=("b", "a")) as other_order,
        any_mock(ttft_ms=2, step_ms=1, tokens=2, models=("c", "a")) as without_b,
        any_mock(ttft_ms=2, step_ms=1, tokens=2, models=("x", "y")) as others,
        any_mock(ttft_ms=2, step_ms=1, tokens=2, models=("c",)) as neither,
        any_mock(ttft_ms=2, step_ms=1, tokens=2, models=("z", "a", "b")) as further,
    ):
        watched = Watched(SessionRequest(scenario_from(data, "mix"), tmp_path / "run", url=first.url))
        await watched.until(lambda s: s.load.ok, "the load")
        await goes(other_order.url, {"b": 0.25, "a": 0.75})
        await goes(without_b.url, {})  # one model is no mix
        assert watched.now.target is not None
        assert watched.now.target.models == ("a",)
        said = [event.text for event in watched.now.events if "no share for" in event.text]
        assert [text.partition(": ")[2] for text in said] == [
            "no share for b, which it does not serve: the others keep their shares"
        ]
        await goes(first.url, {"a": 0.75, "b": 0.25})
        await goes(others.url, {"x": 0.5, "y": 0.5}, ("x", "y"))
        assert "no share for a, b, which it does not serve: its models are asked in turn" in (
            watched.now.events[-1].text
        )
        await goes(first.url, {"a": 0.75, "b": 0.25})
        await goes(neither.url, {})
        await goes(further.url, {"a": 0.75, "b": 0.25})  # not in turn over all that it serves
        watched.send(Stop())
        await watched.end()
    got: dict[int, Counter[str]] = {}
    for row in watched.rows():
        got.setdefault(row.get("target", 0), Counter())[row["model"]] += 1
    for number in (0, 1, 3, 5, 7):
        total = sum(got[number].values())
        assert set(got[number]) == {"a", "b"}
        assert abs(got[number]["a"] - 0.75 * total) < 4 * (total * 0.75 * 0.25) ** 0.5
    assert (set(got[2]), set(got[6])) == ({"a"}, {"c"})
    assert abs(got[4]["x"] - got[4]["y"]) <= 1


# -- the file ----------------------------------------------------------------------------------------------


def test_a_file_gives_shares_and_is_written_as_it_was(tmp_path: Path) -> None:
    made = scenario({"base": 3, "lora-*": 1})
    assert made.models == {"base": 3.0, "lora-*": 1.0}
    path = tmp_path / "mix.yaml"
    path.write_text(made.to_yaml())
    assert load_scenario(path) == made
    assert "to       base 75 %, lora-* 25 %\n" in explain(made)


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ({}, "models: must not be empty"),
        ({"a": 0}, "models.a: must be > 0, got 0"),
        ({"a": "half"}, "models.a: must be a number, got half"),
        ({"a": float("inf")}, "models.a: must be a finite number"),
        ("a", "models: must be a list, got a"),
        (["a", "a"], "models: names a model twice"),
    ],
)
def test_shares_that_can_not_be_are_refused(models: Any, says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        scenario(models)
    assert says in str(refused.value)
    assert len(refused.value.lines) == 1
