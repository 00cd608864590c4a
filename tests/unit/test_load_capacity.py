"""What a load client can hold: known before the start, and never exceeded."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from rvtop.errors import UserError
from rvtop.load.fleet.workers import Workers
from rvtop.load.plan.limits import worker_files
from rvtop.load.worker import capacity as module
from rvtop.load.worker.capacity import Capacity, capacity, local_ports
from rvtop.net.transport import Transport
from rvtop.session import setup
from rvtop.session.setup import check_capacity
from tests.faults.sessions import request

GIB = 2**30


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,064 open files and 5,000 local ports."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1064))
    monkeypatch.setattr(module, "local_ports", lambda: 5000)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize(
    ("workers", "free", "unix_socket", "most", "why", "fix"),
    [
        (Workers(1), 8 * GIB, False, 1000, "open files", "--workers N"),
        (Workers(4), 8 * GIB, False, 4000, "open files", "ulimit"),
        (Workers(6), 8 * GIB, False, 5000, "local ports", "ip_local_port_range"),
        (Workers(6), 8 * GIB, True, 6000, "open files", "ulimit"),
        (Workers(1), 16 * 2**20, False, 512, "free memory", "free memory"),
    ],
)
def test_the_least_of_files_ports_and_memory_counts(
    workers: Workers, free: float, unix_socket: bool, most: int, why: str, fix: str
) -> None:
    found = capacity(workers, free, unix_socket=unix_socket)
    assert found is not None
    assert found.most == most
    assert why in found.why
    assert fix in found.fix


def test_other_machines_have_limits_of_their_own() -> None:
    assert capacity(Workers(8, ray=True), GIB) is None


def test_what_the_system_does_not_tell_is_no_limit(tmp_path: Path) -> None:
    assert local_ports(tmp_path / "none") is None
    (tmp_path / "range").write_text("32768\t60999\n")
    assert local_ports(tmp_path / "range") == 28232
    assert worker_files(resource.RLIM_INFINITY) > 10**6
    assert worker_files(10) == 1


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        ({"name": "p", "rate": 1001, "duration": "1s"}, "phase p asks for 1,001 requests a second, "),
        ({"name": "p", "rate": {"from": 1, "to": 2e5}, "duration": "1s"}, "200,000 requests a second, "),
        ({"name": "p", "rounds": {"sizes": [1, 1001]}}, "phase p asks for 1,001 requests at once, "),
        ({"name": "p", "concurrency": 1001, "requests": 9}, "phase p asks for 1,001 requests at once, "),
    ],
)
def test_what_can_not_be_held_is_refused_before_the_start(
    phase: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "capacity", lambda *_, **__: Capacity(1000, "for a reason", "do this"))
    asked = request("http://127.0.0.1:9", tmp_path / "run", phase)
    assert asked.scenario is not None
    with pytest.raises(UserError, match=says) as refused:
        check_capacity(asked.scenario, asked)
    assert str(refused.value).endswith("the load workers here hold 1,000 in flight (for a reason); do this")


def test_what_can_be_held_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of: list[bool] = []

    def told(workers: Workers, free: float, *, unix_socket: bool) -> Capacity:
        asked_of.append(unix_socket)
        return Capacity(1000, "", "")

    monkeypatch.setattr(setup, "capacity", told)
    phase = {"name": "p", "rate": 1000, "duration": "1s"}
    way = Transport(unix_socket="/run/x")
    asked = request("http://127.0.0.1:9", tmp_path / "run", phase, transport=way)
    assert asked.scenario is not None
    assert check_capacity(asked.scenario, asked) == 1000
    assert asked_of == [True]
