"""What a release stands on: the version, the pages' links, the site's navigation. (The release itself:
tests/deploy/test_release_made.py.)"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import rvtop
from rvtop.deploy import images

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(#[^)\s]+)?\)")


def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8")))


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and Python-Markdown both make it."""
    words = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower()
    return re.sub(r"[\s]+", "-", words)


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {slug(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor[1:] in anchors(there), f"{target}{anchor}"


def test_the_site_s_navigation_names_pages_that_are_there() -> None:
    text = (ROOT / ".ci" / "mkdocs.yml").read_text("utf-8")
    named = re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"]))
    made = {"index.md", "contributing.md", "changelog.md"}  # of the repository's own (mkdocs_hooks.py)
    assert len(named) == len(set(named))
    assert [name for name in named if name not in made and not (ROOT / "docs" / name).is_file()] == []


def test_korean_is_linked_from_the_first_screen_and_back() -> None:
    first = (ROOT / "README.md").read_text("utf-8").splitlines()[:10]
    assert any("docs/ko/README.md" in line for line in first)
    for page in sorted((ROOT / "docs" / "ko").glob("*.md")):
        text = page.read_text("utf-8")
        english = "../../README.md" if page.name == "README.md" else f"../{page.name}"
        assert f"[English]({english})" in text
        assert len(re.findall("[가-힣]", text)) > 400


def test_the_version_is_the_builds_and_has_one_fallback() -> None:
    described = project()
    assert described["project"]["dynamic"] == ["version"]  # type: ignore[index]
    fallback = described["tool"]["hatch"]["version"]["fallback-version"]  # type: ignore[index]
    code = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import rvtop; print(rvtop.__version__);"
        "pathlib.Path(sys.argv[1], 'rvtop', '_version.txt').write_text('7.8.9\\n');"
        "del sys.modules['rvtop']; import rvtop; print(rvtop.__version__)"
    )
    assert re.fullmatch(r"\d+(\.\d+)+(\.dev\d+)?(\+[\w.]+)?", rvtop.__version__)
    assert fallback == versions_of(code)[0]
    assert versions_of(code)[1] == "7.8.9"


def versions_of(code: str) -> list[str]:
    """What a copy of the package says that was never built, and once it was."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rvtop").mkdir()
        shutil.copy(ROOT / "rvtop" / "__init__.py", Path(folder) / "rvtop")
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, folder], capture_output=True, text=True, check=True
        )
    return done.stdout.split()


def test_an_image_s_tag_has_no_plus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rvtop, "__version__", "0.2.dev3+g1234567")
    assert images.ours("gpu") == "rvtop:0.2.dev3-g1234567-gpu"


@pytest.mark.parametrize("name", ["release", "docs"])
def test_tools_are_pinned(name: str) -> None:
    lines = (ROOT / ".ci" / f"requirements-{name}.txt").read_text("utf-8").splitlines()
    assert all(line.startswith("#") or re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
