"""``rvtop choose``: all sixteen answers, the chart they are from, the comparison, and what is asked when."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from itertools import product
from pathlib import Path

import pytest

import rvtop.cli.app
from rvtop.scenario.load import shipped_scenarios
from rvtop.study import choice, choice_table

KEYS = tuple(one.key for one in choice.QUESTIONS)
#: Of the four answers, in their order, the only ones that lead to vLLM's own server.
ALONE = (True, False, False, True)
EVERY = [dict(zip(KEYS, bits, strict=True)) for bits in product((True, False), repeat=4)]
#: What the chart asks, by our key.
ASKED = {
    "single_model": "단일 모델만 서빙?",
    "pipeline": "복잡한 파이프라인?",
    "fine_scaling": "세밀한 자동 스케일링 필요?",
    "least_complexity": "운영 복잡도 최소화 우선?",
}
SOURCES = os.environ.get("RVTOP_SOURCES")


def rvtop_says(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["rvtop", "choose", *words])
    return rvtop.cli.app.command()


def flags(answers: dict[str, bool]) -> list[str]:
    return [one.yes if answers[one.key] else one.no for one in choice.QUESTIONS if one.key in answers]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answers", EVERY, ids=lambda one: "".join("ny"[bit] for bit in one.values()))
def test_all_four_have_to_speak_for_vllm_alone(answers: dict[str, bool]) -> None:
    expected = "vllm" if tuple(answers.values()) == ALONE else "rsv"
    assert choice.decide(answers) == expected
    assert all(one.topology == expected for one in choice.fitting(answers))
    assert choice.fitting(answers)
    assert choice.start_command(answers).startswith(f"rvtop up {expected} --model NAME")


@pytest.mark.skipif(not SOURCES, reason="RVTOP_SOURCES names no folder with the source documents")
def test_the_sixteen_answers_are_those_of_the_chart() -> None:
    """As drawn, a branch of the chart may end at vLLM alone before the next question is asked; its prose
    asks for all of the conditions. So: whoever comes to Ray Serve at any branch stays there."""
    assert SOURCES is not None
    text = (Path(SOURCES) / "001.txt").read_text("utf-8")
    chart = text.partition("### 의사결정 플로우차트")[2].split("```")[1].splitlines()
    to_serve: dict[str, bool] = {}
    for key, asked in ASKED.items():
        row = next(number for number, line in enumerate(chart) if asked in line)
        at = chart[row].index(asked)
        answer, led = re.findall(r"──(Yes|No)──→ *(단독 vLLM|Ray Serve \+ vLLM|\S+)", chart[row][at:])[0]
        if led not in ("단독 vLLM", "Ray Serve + vLLM"):  # its other answer goes down: that arrow's end
            other = next(line for line in chart[row + 1 :] if "Ray Serve + vLLM" in line)
            assert other.index("Ray Serve + vLLM") < chart[row].index(led)
            answer, led = "No" if answer == "Yes" else "Yes", "Ray Serve + vLLM"
        to_serve[key] = (answer == "Yes") == (led == "Ray Serve + vLLM")
    for answers in EVERY:
        leads = any(answers[key] == to_serve[key] for key in KEYS)
        assert choice.decide(answers) == ("rsv" if leads else "vllm")
    prose = text.partition("### 단독 vLLM이 적합한 경우")[2].partition("###")[0]
    assert "모두 충족" in prose


@pytest.mark.skipif(not SOURCES, reason="RVTOP_SOURCES names no folder with the source documents")
def test_its_six_recommendations_and_eight_rows_are_all_there() -> None:
    assert SOURCES is not None
    text = (Path(SOURCES) / "001.txt").read_text("utf-8")

    def cells(head: str) -> list[list[str]]:
        table = [line for line in text.partition(head)[2].partition("###")[0].splitlines() if line[:1] == "|"]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]

    recommended = [row[1] for row in cells("### 워크로드별 권장 아키텍처")]
    found = [{"vllm": "단독 vLLM", "rsv": "Ray Serve + vLLM"}[one.topology] for one in choice.WORKLOADS]
    assert found == recommended
    compared = cells("### 아키텍처별 특성 비교")
    assert len(compared) == len(choice_table.rows(choice_table.shipped())) == 8


def test_an_answer_is_open_only_while_another_could_change_it() -> None:
    assert choice.decide({}) == choice.decide({"single_model": True, "pipeline": False}) == ""
    assert choice.decide({"fine_scaling": True}) == "rsv"


def test_every_workload_has_a_shipped_scenario() -> None:
    assert {one.scenario for one in choice.WORKLOADS} <= set(shipped_scenarios())
    assert len(choice.WORKLOADS) == 6


def test_the_fitting_workloads_are_those_that_the_answers_tell_of() -> None:
    alone = dict(zip(KEYS, ALONE, strict=True))
    assert [one.name for one in choice.fitting(alone)] == ["chat API", "low latency"]
    assert [one.name for one in choice.fitting(alone | {"pipeline": True})] == ["RAG", "agents"]
    assert len(choice.fitting(alone | {"least_complexity": False})) == 4


def test_the_shipped_figures_fill_every_cell_and_name_their_hardware() -> None:
    found = choice_table.shipped()
    assert found.hardware
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.made)
    assert choice_table.read(choice_table.written(found)) == found
    assert "--" not in "\n".join(choice_table.table(found))
    assert all(len(line) <= 80 for line in choice_table.table(found))


def test_a_cell_that_was_not_measured_says_so() -> None:
    rows = {row.name: row for row in choice_table.rows(choice_table.FigureSet("a machine", "2026-01-01"))}
    assert rows["set-up"].measured == {"vllm": "ready after --", "rsv": "ready after --"}
    assert rows["isolation"].measured["rsv"] == "other -- lost, back --"
    assert rows["operation"].measured == {}


def test_flags_answer_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = dict(zip(KEYS, ALONE, strict=True))
    assert rvtop_says(monkeypatch, *flags(alone)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("vllm: vLLM's own server (a single model, ")
    assert said[-1] == "start: rvtop up vllm --model NAME=PATH"
    assert any("rvtop run chat --topology vllm" in line for line in said)

    assert rvtop_says(monkeypatch, "--several-models", "--fine-scaling", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["topology"], told["answers"]) == ("rsv", {"single_model": False, "fine_scaling": True})
    assert len(told["rows"]) == 8
    assert told["start"] == "rvtop up rsv --model NAME1=PATH --model NAME2=PATH --autoscale 1:4"
    assert told["folder"] is None


def test_what_is_open_is_asked_in_order_until_it_decides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("perhaps\ny\nno\nYES\n"))
    assert rvtop_says(monkeypatch, "--least-complexity") == 0
    said = capsys.readouterr()
    assert said.out.startswith("rsv: ")
    asked = [one.text for one in choice.QUESTIONS if one.text in said.err]
    assert asked == [one.text for one in choice.QUESTIONS[:3]]
    assert "answer y or n" in said.err


@pytest.mark.parametrize(
    ("words", "stdin", "refusal"),
    [
        (["--single-model"], io.StringIO(), "no terminal to ask in: Is it a pipeline"),
        ([], Terminal(""), "no answer: Is it a single model"),
        (["--several-models", "--out", "x"], io.StringIO(), "--out is for the runs of --measure"),
    ],
)
def test_what_can_not_be_answered_is_one_line(
    words: list[str],
    stdin: io.StringIO,
    refusal: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    assert rvtop_says(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert refusal in said.err.splitlines()[-1]
