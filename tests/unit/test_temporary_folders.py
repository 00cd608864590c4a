"""Where temporary folders of backends are made: a job's own place, unless sockets would not fit below it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.process.scratch_dir import OwnedTempDir

SOCKET_LIMIT = 107  # of a unix socket's path on Linux
RAY_SOCKET = "session_2026-11-28_01-55-33_267461_4194304/sockets/plasma_store"  # with the longest process id


@pytest.fixture
def base(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for temporary files whose path is that long."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as made:
        path = Path(made)
        if rest := request.param - len(made) - 1:
            path = path / ("x" * rest)
            path.mkdir()
        assert len(str(path)) == request.param
        monkeypatch.setattr(tempfile, "tempdir", str(path))
        yield path


@pytest.mark.parametrize("base", [16, 20, 21, 33, 40, 80], indirect=True)
def test_ray_s_sockets_fit_below_any_place_for_temporary_files(base: Path) -> None:
    folder = OwnedTempDir("rvtop-ray-")
    try:
        assert len(str(folder.path / "r" / RAY_SOCKET)) <= SOCKET_LIMIT
        assert folder.path.parent == (base if len(str(base)) <= 20 else Path("/tmp"))
    finally:
        folder.close()
    assert not folder.path.exists()
