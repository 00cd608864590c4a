"""python -P -m backends.rag build | search | import | expand: indexes, and prompts made with them.

Exit codes: 0 done, 2 bad input (one line on stderr, ``error: …``). Heavy packages load after the arguments
and files given have been looked at.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from backends.corpus import chunk
from backends.errors import missing_package
from backends.process.events import Events, Steps
from backends.rag.errors import RagError
from backends.rag.sources import SAMPLE, read_documents, read_questions

TOP_K = 4


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RagError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    asked = sys.argv[1:] if argv is None else list(argv)
    events = Events.on_stdout() if "--events" in asked else None
    try:
        args = _arguments().parse_args(asked)
        args.run(args, Steps(events.emit if events else _Lines()))
    except RagError as error:
        if events:
            events.emit("error", kind="usage", message=str(error))
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"error: {missing_package(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(prog="rvtop index", description="Indexes for retrieval, and prompts made with them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace, Steps], None], help: str) -> _Parser:
        added: _Parser = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        added.add_argument("--embedder", metavar="PATH", help="SentenceTransformer: folder, Hub id or tiny")
        return added

    build = command("build", _build, "Cut, embed and index texts.")
    build.add_argument("source", nargs="+", metavar="SOURCE", help="text files, .jsonl, folders, or sample")
    build.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the new index")
    build.add_argument(
        "--chunk-size", type=int, default=chunk.SIZE, metavar="N", help="characters in a chunk"
    )
    build.add_argument(
        "--chunk-overlap",
        type=int,
        default=chunk.OVERLAP,
        metavar="N",
        help="characters shared with the last",
    )
    search = command("search", _search, "Show the chunks found for a question.")
    search.add_argument("index", metavar="DIR", help="an index, or sample")
    search.add_argument("query", metavar="QUERY")
    _top_k(search)
    convert = command("import", _import, "Convert a LangChain FAISS folder (index.faiss and index.pkl).")
    convert.add_argument("folder", type=Path, metavar="DIR")
    convert.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the new index")
    expand = command("expand", _expand, "Write prompts.jsonl: each question with what was found for it.")
    expand.add_argument("--questions", required=True, metavar="FILE", help="one a line, .jsonl, or sample")
    expand.add_argument(
        "--index", metavar="DIR", help="an index, or sample; default the experiment's, if any"
    )
    expand.add_argument("--out", required=True, type=Path, metavar="FILE")
    expand.add_argument("--events", action="store_true", help="report steps on stdout, a JSON object a line")
    _top_k(expand)
    return parser


def _top_k(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top-k", type=int, default=TOP_K, metavar="N", help="chunks for a question")


def _build(args: argparse.Namespace, steps: Steps) -> None:
    try:
        chunk.check(args.chunk_size, args.chunk_overlap)
    except ValueError as error:
        raise RagError(str(error)) from error
    with steps.step("documents") as step:
        documents = read_documents(args.source)
        step.detail(f"{len(documents)} documents, {sum(len(d.text) for d in documents):,} characters")
    from backends.models.load import default_embedder
    from backends.rag import index
    from backends.rag.embed import Embedder

    index.check_target(args.out)
    with steps.step("embedder") as step:
        embedder = Embedder.load(args.embedder or default_embedder(), progress=step.progress)
        step.detail(f"{embedder.name}, {embedder.dimension} numbers a text")
    with steps.step("index") as step:
        built = index.build(
            documents,
            embedder,
            args.chunk_size,
            args.chunk_overlap,
            lambda done, total: step.detail(f"{done}/{total} chunks embedded"),
        )
        index.save(built, args.out)
        step.detail(f"{len(built.entries)} chunks in {args.out}")


def _search(args: argparse.Namespace, steps: Steps) -> None:
    _check_top_k(args.top_k)
    if not args.query.strip():
        raise RagError("the question is empty")
    retriever = _retriever(args, steps)
    for hit in retriever.search([args.query], args.top_k)[0]:
        print(f"{hit.score:.3f}  {hit.chunk_id}  {' '.join(hit.text.split())}")


def _import(args: argparse.Namespace, steps: Steps) -> None:
    from backends.rag.import_langchain import read_pickle

    with steps.step("documents") as step:
        entries = read_pickle(args.folder)
        step.detail(f"{len(entries)} chunks")
    from backends.models.load import default_embedder
    from backends.rag import index
    from backends.rag.embed import Embedder
    from backends.rag.import_langchain import convert

    index.check_target(args.out)
    with steps.step("embedder") as step:
        embedder = Embedder.load(args.embedder or default_embedder(), progress=step.progress)
        step.detail(f"{embedder.name}, {embedder.dimension} numbers a text")
    with steps.step("index") as step:
        index.save(convert(args.folder, entries, embedder), args.out)
        step.detail(f"{len(entries)} chunks in {args.out}")


def _expand(args: argparse.Namespace, steps: Steps) -> None:
    _check_top_k(args.top_k)
    questions = read_questions(args.questions)
    if not args.out.absolute().parent.is_dir():
        raise RagError(f"{args.out}: there is no folder {args.out.absolute().parent}")
    from backends.models.load import default_index

    args.index = args.index or default_index() or SAMPLE
    retriever = _retriever(args, steps)
    from backends.rag.expand import expand

    with steps.step("expand") as step:
        expand(questions, retriever, args.top_k, args.out, lambda n: step.detail(f"{n}/{len(questions)}"))


def _retriever(args: argparse.Namespace, steps: Steps) -> Any:
    with steps.step("index", args.index) as step:
        from backends.rag.retriever import Retriever

        retriever = Retriever.open(args.index, args.embedder, progress=step.progress)
        step.detail(f"{len(retriever.index.entries)} chunks, embedder {retriever.embedder.name}")
    return retriever


def _check_top_k(top_k: int) -> None:
    if top_k < 1:
        raise RagError(f"--top-k must be at least 1, not {top_k}")


class _Lines:
    """Steps for people, on stderr: stdout is for what was asked. A running step is shown once a second."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, event: str, **fields: Any) -> None:
        if event != "step":
            return
        now = time.monotonic()
        if fields["state"] == "run" and now - self._told < 1:
            return
        self._told = now
        mark = {"run": "…", "done": "ok", "fail": "failed"}[fields["state"]]
        line = f"{fields['name']}: {fields['detail']}".rstrip(": ")
        print(f"{line}  [{mark}, {fields['elapsed_s']:.1f} s]", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
