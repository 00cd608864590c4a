"""What a run took, in words; and beside another run."""

from __future__ import annotations

from typing import Any

from rvtop.results.compare import Side, compare
from rvtop.results.fail_if import parse_goal
from rvtop.results.html.tables import spent_table
from rvtop.results.spent_text import spent_facts
from rvtop.results.stored import figures_of

ENERGY = {
    "joules": 22_200.0,
    "joules_per_token": 2.0,
    "joules_per_request": 222.0,
    "tokens_per_joule": 0.5,
    "watts_mean": 370.0,
    "watts_idle": 70.0,
    "source": "counter",
    "gap_s": 0.0,
    "gpus": [{}],
    "cpu": {"joules": 1000.0},
}
COST = {
    "usd": 1.5,
    "usd_per_hour": 2.5,
    "usd_per_mtok": 9.0,
    "usd_per_mtok_in": 2.0,
    "usd_per_mtok_out": 40.0,
}


def test_each_block_that_is_there_has_its_line() -> None:
    summary: dict[str, Any] = {
        "energy": ENERGY,
        "cost": COST | {"prefill_share": 0.2},
        "capacity": {"rps_per_gpu": 12.5, "gpus": 2, "by": "find_max"},
    }
    assert spent_facts(summary) == [
        (
            "energy",
            "22200 J by counter: 2 J/token, 222 J/request, 0.5 tokens/J, 370 W mean, 70 W idle, "
            "processors 1000 J apart",
        ),
        ("cost", "$1.5 in all, $2.5 an hour, $2 a million tokens in, $40 out"),
        ("capacity", "12.5 rps a GPU at the SLO (found by --find-max on 2 GPUs)"),
    ]
    assert "2 J/token" in spent_table(summary)


def test_what_is_not_known_is_not_said_or_dashes() -> None:
    assert spent_facts({}) == spent_facts({"energy": None, "cost": None, "capacity": None}) == []
    assert spent_table({"energy": None}) == ""
    silent = dict.fromkeys(ENERGY, None) | {"gpus": [], "gap_s": 4.0, "cpu": None}
    (told,) = spent_facts({"energy": silent})
    assert told[1].startswith("-- J: -- J/token, ")
    assert told[1].endswith("4 s without samples left out")
    (alike,) = spent_facts({"cost": COST})
    assert alike[1].endswith("$9 a million tokens, in and out alike")
    assert spent_facts({"energy": {"joules": "much"}})[0][1].startswith("-- J")


def test_a_comparison_has_a_row_only_where_a_side_has_the_figure() -> None:
    def side(**more: Any) -> Side:
        part = {"kpm": {"tps": 1.0, "completed_pct": 100.0}, **more}
        return Side("a", "runs/a", {"all that was measured": figures_of(part)})

    told = {"energy": ENERGY, "cost": COST}
    nothing = compare(side(), side())
    assert parse_goal("joules_per_token > 1").missed(nothing).endswith("J/token: it is missing")
    assert parse_goal("joules_per_token > 1").missed(compare(side(), side(**told)))
    assert not parse_goal("joules_per_token > 3").missed(compare(side(), side(**told)))
    bare = nothing.parts["all that was measured"]
    assert not {"joules_per_token", "usd_per_mtok_out"} & {row.figure.key for row in bare}
    rows = {r.figure.key: r for r in compare(side(), side(**told)).parts["all that was measured"]}
    assert (rows["joules_per_token"].a, rows["joules_per_token"].b) == (None, 2.0)
    assert rows["usd_per_mtok_out"].b == 40.0
