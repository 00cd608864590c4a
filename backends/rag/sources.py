"""Reads texts from files: documents to index, and lists of questions. Stdlib only."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from backends.corpus import sample
from backends.corpus.chunk import Document
from backends.rag.errors import RagError

TEXT = (".txt", ".md", ".markdown", ".rst")
SAMPLE = "sample"


def read_documents(sources: Sequence[str]) -> list[Document]:
    """The documents of files and folders (searched deeply for `TEXT` and .jsonl), named by their path
    without its suffix; ``sample`` is the sample corpus.

    A .jsonl file holds a document a line: ``{"text": …, "id": …}`` (without an id, its line number names
    it). Raises RagError for what cannot be read, for two documents of one name, and for no text at all.
    """
    found: dict[str, Document] = {}
    for source in sources:
        for document in sample.documents() if source == SAMPLE else _documents(Path(source).expanduser()):
            if document.name in found:
                raise RagError(f"two documents are called {document.name!r}: rename one of the files or ids")
            found[document.name] = document
    if not any(document.text.strip() for document in found.values()):
        raise RagError(f"no text in {', '.join(sources)}: give {', '.join(TEXT)} or .jsonl files, or folders")
    return list(found.values())


def read_questions(source: str) -> list[tuple[str, str]]:
    """(id, question) of each question: ``sample``, a text file with one a line, or a .jsonl file with
    ``{"question": …, "id": …}`` (ids may be left out: q01, q02, …). Raises RagError."""
    if source == SAMPLE:
        return [(q.id, q.text) for q in sample.questions()]
    path = Path(source).expanduser()
    given: list[tuple[str | None, str]] = []
    if path.suffix == ".jsonl":
        for where, row in _jsonl(path):
            given.append((_id(row, where), _string(row, "question", where)))
    else:
        given = [(None, line.strip()) for line in _read(path).splitlines()]
    given = [(name, text) for name, text in given if text.strip()]
    if not given:
        raise RagError(f"{path}: no question in it; write one a line")
    width = max(2, len(str(len(given))))
    named = [(name or f"q{n:0{width}}", text) for n, (name, text) in enumerate(given, 1)]
    name, count = Counter(name for name, _ in named).most_common(1)[0]
    if count > 1:
        raise RagError(f"{path}: {count} questions have the id {name!r}; give each its own")
    return named


def digest(documents: Iterable[Document]) -> str:
    """SHA-256 over names and texts, whatever their order."""
    h = hashlib.sha256()
    for document in sorted(documents, key=lambda d: d.name):
        for part in (document.name, document.text):
            data = part.encode()
            h.update(len(data).to_bytes(8, "big") + data)
    return h.hexdigest()


def _documents(path: Path) -> Iterator[Document]:
    if not path.exists():
        raise RagError(f"there is no file or folder {path}")
    if not path.is_dir():
        yield from _one_file(path, path.stem)
        return
    for file in sorted(p for p in path.rglob("*") if p.suffix in (*TEXT, ".jsonl") and p.is_file()):
        if not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield from _one_file(file, file.relative_to(path).with_suffix("").as_posix())


def _one_file(path: Path, name: str) -> Iterator[Document]:
    if path.suffix != ".jsonl":
        yield Document(name, _read(path))
        return
    for number, (where, row) in enumerate(_jsonl(path), 1):
        yield Document(_id(row, where) or f"{name}:{number}", _string(row, "text", where))


def _read(path: Path) -> str:
    """NFC, so that text typed on a Mac matches; the byte order mark of Windows is left out."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise RagError(f"{path}: not a regular file")
        return unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RagError(f"{path}: not UTF-8 text (byte {error.start}); convert it first") from error
    except OSError as error:
        raise RagError(f"{path}: cannot be read: {error.strerror}") from error


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each line that is not blank. ``where`` names file and line."""
    # Not splitlines(): JSON may hold U+2028 and its like unescaped.
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RagError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise RagError(f"{where}: not a JSON object")
        yield where, row


def _string(row: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(row.get(key), str):
        raise RagError(f"{where}: no {key!r} with a text in it")
    return str(row[key])


def _id(row: dict[str, Any], where: str) -> str | None:
    name = row.get("id")
    if name is None:
        return None
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise RagError(f"{where}: 'id' must be a text or a number")
    return str(name)
