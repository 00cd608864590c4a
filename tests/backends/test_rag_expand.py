"""`python -m backends.rag`: prompts of the right shape, the shipped ones among them, and clear refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.corpus import sample
from backends.rag.__main__ import main
from backends.rag.sources import read_questions

SMOKE = Path(__file__).parents[2] / "scenarios" / "smoke.prompts.jsonl"


def _run(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "backends.rag", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)


def test_smoke_prompts_are_what_expansion_makes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prompts.jsonl"
    asked = ["expand", "--questions", "sample", "--index", "sample", "--top-k", "4", "--events"]
    code = main([*asked, "--out", str(out)])  # in this process, which has loaded the embedder's packages
    told = capfd.readouterr()
    assert code == 0, told.err
    assert out.read_bytes() == SMOKE.read_bytes()
    events = [json.loads(line) for line in told.out.splitlines()]
    assert {e["event"] for e in events} == {"step"}
    assert {e["name"] for e in events if e["state"] == "done"} == {"index", "expand"}
    assert all(set(e) == {"event", "name", "state", "elapsed_s", "detail"} for e in events)


def test_shape() -> None:
    rows = [json.loads(line) for line in SMOKE.read_text(encoding="utf-8").splitlines()]
    assert [
        (r["id"], r["messages"][1]["content"].split("\n\n")[-1].split(": ", 1)[1]) for r in rows
    ] == read_questions("sample")
    for row, question in zip(rows, sample.questions(), strict=True):
        assert list(row) == ["id", "messages", "sources"]
        assert [m["role"] for m in row["messages"]] == ["system", "user"]
        assert len(row["sources"]) == len(set(row["sources"])) == 4
        assert row["sources"][0].startswith("handbook.")
        assert question.answer in " ".join(row["messages"][1]["content"].split())


def test_greedy_text_of_the_smoke_prompts_is_varied(tiny_model: Path) -> None:
    """Or every check of streamed text would be empty."""
    from backends.models.load import load_model
    from backends.models.tiny.qwen2 import MIN_DISTINCT, WINDOW, greedy

    model, tokenizer = load_model(tiny_model, "float32")
    chats = [json.loads(line)["messages"] for line in SMOKE.read_text(encoding="utf-8").splitlines()]
    prompts = [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False) for c in chats]
    rows = greedy(model, prompts, WINDOW)
    distinct = sorted(len(set(row)) for row in rows)
    print(f"distinct tokens in {WINDOW}, smoke prompts: {distinct}")
    assert distinct[0] >= MIN_DISTINCT


def test_build_search_and_expand_own_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "bikes.md").write_text("Bicycles are repaired on Mondays in hall 4.\n\n" * 5)
    (tmp_path / "notes" / "cake.txt").write_text("Cake is served on Fridays at three.")
    out = tmp_path / "index"
    sizes = ["--chunk-size", "60", "--chunk-overlap", "10"]
    assert main(["build", str(tmp_path / "notes"), "--out", str(out), "--embedder", "tiny", *sizes]) == 0
    assert json.loads((out / "meta.json").read_text())["chunking"] == {"size": 60, "overlap": 10}
    capsys.readouterr()
    assert main(["search", str(out), "When is cake served?", "--top-k", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[1:3] == ["cake#0", "Cake"]
    assert float(first.split()[0]) >= float(second.split()[0])
    questions = tmp_path / "q.txt"
    questions.write_text("When are bicycles repaired?\n")
    prompts = tmp_path / "p.jsonl"
    assert (
        main(
            [
                "expand",
                "--questions",
                str(questions),
                "--index",
                str(out),
                "--top-k",
                "1",
                "--out",
                str(prompts),
            ]
        )
        == 0
    )
    row = json.loads(prompts.read_text())
    assert row["id"] == "q01"
    assert row["sources"][0].startswith("bikes#")
    assert "hall 4" in row["messages"][1]["content"]


def test_import_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.faiss").touch()
    (tmp_path / "index.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert main(["import", str(tmp_path), "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "os.system" in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "arguments are required"),
        (["bake"], "invalid choice: 'bake'"),
        (["build", "{tmp}/absent", "--out", "{tmp}/i"], "there is no file or folder"),
        (
            ["build", "sample", "--out", "{tmp}/i", "--chunk-size", "9", "--chunk-overlap", "9"],
            "chunk overlap must",
        ),
        (["build", "sample", "--out", "{tmp}"], "holds something else"),
        (["build", "sample", "--out", "{tmp}/i", "--embedder", "/absent"], "there is no embedder '/absent'"),
        (["search", "{tmp}/absent", "why?"], "does not exist: build an index"),
        (["search", "sample", " "], "the question is empty"),
        (["search", "sample", "why?", "--top-k", "0"], "--top-k must be at least 1"),
        (["search", "sample", "why?", "--top-k", "x"], "invalid int value: 'x'"),
        (["import", "{tmp}", "--out", "{tmp}/i"], "is not a LangChain FAISS folder"),
        (["expand", "--questions", "{tmp}/none.txt", "--out", "{tmp}/p"], "cannot be read"),
        (["expand", "--questions", "sample", "--out", "{tmp}/no/p"], "there is no folder"),
        (["expand", "--questions", "sample", "--index", "{tmp}", "--out", "{tmp}/p"], "not an rvtop index"),
    ],
)
def test_bad_input_is_one_line(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "something").touch()
    assert main([a.replace("{tmp}", str(tmp_path)) for a in args]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert captured.out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["something"]


def test_error_event_beside_the_line(tmp_path: Path) -> None:
    done = _run("expand", "--questions", tmp_path / "none.txt", "--out", tmp_path / "p", "--events")
    assert done.returncode == 2
    event = json.loads(done.stdout)
    assert (event["event"], event["kind"]) == ("error", "usage")
    assert done.stderr == f"error: {event['message']}\n"


def test_help_and_bad_arguments_load_nothing_heavy() -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['rag', *sys.argv[1:]]\n"
        "try: runpy.run_module('backends.rag', run_name='__main__')\n"
        "except SystemExit as e: print('code', e.code)\n"
        "heavy = ('torch', 'faiss', 'numpy', 'sentence_transformers', 'transformers')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    for args in (["--help"], ["expand", "--questions", "/absent", "--out", "p"], ["bake"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *args], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
