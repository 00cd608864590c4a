"""Which Ray cluster of this machine counts: only one that runs, whatever lies in Ray's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_session import link, raylet, session

from rvtop.telemetry.discover import sources_for
from rvtop.telemetry.ray_local import DISCOVERY_FILE, discovery_file, live_sessions, ray_folder

LOCAL = "http://127.0.0.1:1"
NEWER = "session_2026-11-28_09-00-00_000001_77"


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return tmp_path


def names() -> list[str]:
    return [source.name for source in sources_for(LOCAL)]


def test_no_cluster_was_ever_here(temp: Path) -> None:
    assert discovery_file() is None
    (temp / "ray").mkdir()
    assert discovery_file() is None
    assert names() == ["metrics", "nvml"]


def test_a_cluster_counts_while_its_raylet_listens_and_its_files_do_not(temp: Path) -> None:
    folder = session(temp)
    with raylet(folder):
        assert discovery_file() == folder / DISCOVERY_FILE
        assert names() == ["metrics", "nvml", "ray"]
    assert (folder / "sockets" / "raylet").is_socket()  # as after `kill -9`; `ray stop` leaves the rest
    assert (temp / "ray" / "session_latest" / DISCOVERY_FILE).is_file()
    assert discovery_file() is None
    assert names() == ["metrics", "nvml"]


def test_a_cluster_is_found_behind_a_newer_one_that_is_over(temp: Path) -> None:
    folder = session(temp)
    with raylet(folder):
        session(temp, NEWER)
        assert discovery_file() == folder / DISCOVERY_FILE


def test_of_two_clusters_the_newer_one_counts(temp: Path) -> None:
    older, newer = session(temp), session(temp, NEWER)
    with raylet(older), raylet(newer, "raylet.1"):
        assert live_sessions(temp / "ray") == [newer, older]
        assert discovery_file() == newer / DISCOVERY_FILE


def test_a_node_without_a_dashboard_has_no_file_and_gets_nobody_else_s(temp: Path) -> None:
    session(temp, targets=["127.0.0.1:1"])
    worker = session(temp, NEWER, targets=None, latest=False)
    with raylet(worker):
        assert live_sessions(temp / "ray") == [worker]
        assert discovery_file() is None


def test_older_releases_keep_the_file_beside_the_sessions(temp: Path) -> None:
    folder = session(temp, targets=None, latest=False)
    beside = temp / "ray" / DISCOVERY_FILE
    beside.write_text("[]")
    assert discovery_file() is None
    with raylet(folder):
        assert discovery_file() == beside
        beside.unlink()
        link(beside, temp / "ray" / "nowhere")
        assert discovery_file() is None


def test_a_system_that_does_not_tell_its_sockets_has_no_cluster(temp: Path, tmp_path: Path) -> None:
    folder = session(temp)
    with raylet(folder):
        assert live_sessions(temp / "ray", proc=tmp_path / "none") == []


def test_ray_s_folder_is_where_ray_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/scratch/job")
    monkeypatch.setenv("RAY_TMPDIR", "/r")
    assert ray_folder() == Path("/r/ray")
    monkeypatch.delenv("RAY_TMPDIR")
    assert ray_folder() == Path("/scratch/job/ray")
    monkeypatch.delenv("TMPDIR")
    assert ray_folder() == Path("/tmp/ray")
