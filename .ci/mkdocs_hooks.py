"""Hooks of mkdocs (.ci/mkdocs.yml): the repository's own pages beside docs/, and links out of it.

README.md is the site's first page; CONTRIBUTING.md and CHANGELOG.md are pages too. A link to what is in the
repository and not on the site (a folder, a source file) keeps its text. A page that the navigation does not
name stands under "More".
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[1]
#: In the repository -> on the site.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(!?)\[([^\]\n]*(?:\n[^\]\n]*)?)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Adds the pages that the navigation lacks."""
    named = set(re.findall(r"[\w/-]+\.md", repr(config.nav)))
    docs = Path(config.docs_dir)
    there = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    more = [page for page in there if page not in named and not page.startswith("plugins/")]
    if more:
        config.nav.append({"More": more})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the repository's own pages."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=relinked(text, "", page)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links of a page below docs/."""
    uri = page.file.src_uri
    if uri in PAGES.values():
        return markdown
    return relinked(markdown, posixpath.dirname(f"docs/{uri}"), uri)


def relinked(text: str, folder: str, page: str) -> str:
    """``text`` of a file in the repository's ``folder``, as the site's ``page``."""

    def link(found: re.Match[str]) -> str:
        image, words, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        there = PAGES.get(path)
        if there is None and path.startswith("docs/") and (ROOT / path).is_file():
            there = path.removeprefix("docs/")
        if there is None:
            assert (ROOT / path).exists(), f"{page}: no {path} in the repository"
            return words if not image else ""
        relative = os.path.relpath(there, posixpath.dirname(page) or ".")
        return f"{image}[{words}]({relative}{anchor or ''})"

    return _LINK.sub(link, text)
