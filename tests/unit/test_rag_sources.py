"""What is read: documents, questions, the sample, prompts; and what is refused, in one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.corpus import sample
from backends.corpus.chunk import Document, chunks
from backends.corpus.prompt import build_messages, language
from backends.rag.errors import RagError
from backends.rag.sources import digest, read_documents, read_questions


def test_documents_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden.md").write_text("no")
    (tmp_path / "deep" / "er" / "b.md").write_bytes("\ufeffe\u0301t\u00e9".encode())
    (tmp_path / "deep" / "a.txt").write_text("plain")
    (tmp_path / "deep" / "image.png").write_bytes(b"\x89PNG")
    (tmp_path / "rows.jsonl").write_text('{"text": "one\u2028two", "id": 7}\n\n{"text": "three"}\n')
    found = read_documents([str(tmp_path)])
    assert {d.name: d.text for d in found} == {
        "deep/a": "plain",
        "deep/er/b": "\u00e9t\u00e9",
        "7": "one\u2028two",
        "rows:2": "three",
    }
    assert digest(found) == digest(found[::-1]) != digest(found[1:])
    assert read_documents([str(tmp_path / "deep" / "a.txt")]) == [Document("a", "plain")]
    assert read_documents(["sample"]) == sample.documents()


def test_documents_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (tmp_path / "torn.jsonl").write_text('{"text": "a"}\n\n{"te')
    (tmp_path / "x.md").write_text("a")
    (tmp_path / "x.txt").write_text("b")
    cases = {
        ("latin.txt",): "latin.txt: not UTF-8 text (byte 0)",
        ("blank.txt",): "no text in",
        ("bad.jsonl",): "bad.jsonl, line 2: no 'text' with a text in it",
        ("torn.jsonl",): "torn.jsonl, line 3: not JSON",
        ("absent",): "there is no file or folder",
        ("x.md", "x.txt"): "two documents are called 'x'",
    }
    for names, words in cases.items():
        with pytest.raises(RagError) as caught:
            read_documents([str(tmp_path / n) for n in names])
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_questions(tmp_path: Path) -> None:
    text = tmp_path / "q.txt"
    text.write_text("one?\n\n  둘? \n")
    assert read_questions(str(text)) == [("q01", "one?"), ("q02", "둘?")]
    rows = tmp_path / "q.jsonl"
    rows.write_text('{"question": "one?", "id": "a"}\n{"question": "two?"}\n')
    assert read_questions(str(rows)) == [("a", "one?"), ("q02", "two?")]
    text.write_text("why?\n" * 100)
    assert read_questions(str(text))[0][0] == "q001"
    for content, words in {"": "no question", "\n\n": "no question"}.items():
        text.write_text(content)
        with pytest.raises(RagError, match=words):
            read_questions(str(text))
    rows.write_text('{"question": "one?", "id": "a"}\n{"question": "two?", "id": "a"}\n')
    with pytest.raises(RagError, match="2 questions have the id 'a'"):
        read_questions(str(rows))
    rows.write_text('{"q": "one?"}\n')
    with pytest.raises(RagError, match=r"line 1: no 'question'"):
        read_questions(str(rows))
    with pytest.raises(RagError, match="cannot be read: No such file"):
        read_questions(str(tmp_path / "absent.txt"))


def test_sample() -> None:
    questions = sample.questions()
    assert [q.id for q in questions] == [f"q{n:02}" for n in range(1, 25)]
    assert sum(language(q.text) == "ko" for q in questions) == 12
    texts = {d.name: " ".join(d.text.split()) for d in sample.documents()}
    size = sum(len(d.text.encode()) for d in sample.documents())
    assert 30_000 < size < 50_000
    every = chunks(sample.documents())
    for q in questions:
        assert [t.count(q.answer) for n, t in sorted(texts.items())] == [n == q.doc for n in sorted(texts)]
        assert any(q.answered_by(c) for c in every), q.id
    assert read_questions("sample") == [(q.id, q.text) for q in questions]


def test_prompt() -> None:
    korean = build_messages("점심은 얼마인가요?", ["첫째", "둘째"])
    assert [m["role"] for m in korean] == ["system", "user"]
    assert korean[1]["content"] == "문맥:\n[1] 첫째\n\n[2] 둘째\n\n질문: 점심은 얼마인가요?"
    english = build_messages("How much is lunch?", ["한국어"])
    assert english[1]["content"] == "Context:\n[1] 한국어\n\nQuestion: How much is lunch?"
    assert build_messages("Why?", [])[1]["content"] == "Question: Why?"
    assert korean[0] == build_messages("왜?", [])[0] != english[0]
    assert json.dumps(korean)
