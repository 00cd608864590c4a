"""For all tests."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, settings

from rvtop.system.startup import collect_seldom
from tests.environment import surroundings, unchanged

collect_seldom()  # as our own processes do; a fifth of the time of the tests of screens

#: Files whose tests start and kill whole topologies or clusters: too slow for every run (`make soak`).
SLOW = frozenset(
    {
        "test_agents_process.py",
        "test_batch_process.py",
        "test_choose_measure.py",
        "test_cluster_guest.py",
        "test_damaged_weights.py",
        "test_deploy_baseline.py",
        "test_deploy_live.py",
        "test_deploy_size_live.py",
        "test_graph_process.py",
        "test_head_lost.py",
        "test_lifecycle_faults.py",
        "test_node_faults.py",
        "test_node_goes.py",
        "test_parts_process.py",
        "test_quality_process.py",
        "test_rac_process.py",
        "test_ray_workers.py",
        "test_rsc_process.py",
        "test_rsv_attach.py",
        "test_rsv_process.py",
        "test_rvc_cluster.py",
        "test_release_made.py",
        "test_rvc_fake_npu.py",
        "test_rvc_fronts.py",
        "test_rvc_process.py",
        "test_rvc_start.py",
        "test_server_spans.py",
        "test_vllm_args.py",
        "test_vllm_process.py",
        "test_vllm_server.py",
        "test_smoke_runs.py",
        "test_sweep_process.py",
    }
)

#: The groups that take longest, longest first: they begin first, so that no process waits for another's last.
LONG = (
    "torch",  # makes what the backends' tests compare with, while the first of them starts
    "backend rvc",
    "tests/faults/test_session_ends.py",
    "backend rsc",
    "backend rac",
    "backend baseline",
    *(f"tests/faults/test_{name}.py" for name in ("control", "run_output")),
    "tests/web/test_web_view.py",
    "tests/backends/test_baseline_process.py",
    *(f"tests/ui/test_ui_{name}.py" for name in ("keys", "resize", "snapshots", "app", "glyphs")),
    "tests/property/test_load_native.py",
    "tests/property/test_load_stream.py",
    "tests/faults/test_load_faults.py",
    *(f"tests/unit/test_{name}.py" for name in ("mock_servers", "load_worker", "results_screen_log")),
    *(f"tests/unit/test_session_{name}.py" for name in ("kinds", "retarget", "switch")),
    *(f"tests/unit/test_{name}.py" for name in ("settings", "load_pool", "cli_refusals", "cli_output")),
    "sources",
)

#: Files whose tests share work with those of other files: all of a group run in one process, in this order.
TOGETHER = {
    # Import torch, in the process of the tests.
    "torch": (
        "test_parity.py",
        "test_rag_search.py",
        "test_rag_expand.py",
        "test_rag_import.py",
        "test_models_load.py",
        "test_models_tiny.py",
        "test_hf_engine.py",
        "test_rsc_batch.py",
        "test_graph_inside.py",
        "test_vector_stores.py",
    ),
    # Parse our own sources.
    "sources": ("test_import_rules.py", "test_layers.py"),
}

# What a nohup or a background job ignores, whatever the tests start would ignore too.
for _name, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_name) is signal.SIG_IGN:
        signal.signal(_name, _handler)

_create_ssl_context = httpx.create_ssl_context


@cache
def _context(trust_env: bool, *_where: str | None) -> ssl.SSLContext:
    return _create_ssl_context(trust_env=trust_env)


def _shared_context(verify: object = True, cert: object = None, trust_env: bool = True) -> ssl.SSLContext:
    """What an HTTP client of a test trusts: read once, which takes 50 ms each time."""
    if verify is True and cert is None:
        return _context(trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    return _create_ssl_context(verify, cert, trust_env)  # type: ignore[arg-type]


httpx._transports.default.create_ssl_context = _shared_context

# How long an example takes says how busy the machine is, and decides no test. Each run has the same examples;
# `pytest --hypothesis-profile explore` looks for others.
settings.register_profile(
    "rvtop", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("rvtop"), derandomize=False)
settings.load_profile("rvtop")


def pytest_configure(config: pytest.Config) -> None:
    """Before anything of ours is imported, since modules may read the environment."""
    stack = contextlib.ExitStack()
    stack.enter_context(surroundings())
    config.add_cleanup(stack.close)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test, or what it calls, does to the environment ends with it."""
    with unchanged():
        yield


Rvtop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rvtop_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Rvtop:
    """``rvtop …`` in this process, which takes a tenth of one of its own: exit code, stdout and stderr."""
    from rvtop.cli.app import command

    def said(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rvtop", *map(str, words)])
        code = command()
        out, err = capfd.readouterr()
        return code, out, err

    return said


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    groups = {item: _group(item) for item in items}
    for item, group in groups.items():
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _place(item, groups[item]))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end, so the garbage collector need not walk through it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """pytest collects garbage five times at its end. Where torch was imported that takes longer than the five
    seconds after which pytest-xdist interrupts its process; what is left ends with the process anyway."""
    gc.freeze()


def _place(item: pytest.Item, group: str) -> tuple[int, int]:
    """Where an item runs: among the groups, and within its group."""
    files = TOGETHER.get(group, ())
    within = files.index(item.path.name) if item.path.name in files else -1
    return (LONG.index(group) if group in LONG else len(LONG)), within


def _group(item: pytest.Item) -> str:
    """The tests that run in one process: those of a file, all that ask the backend of one topology, which
    starts once, and those of ``TOGETHER``."""
    call = getattr(item, "callspec", None)
    topology = call.params.get("backend") if call is not None else None
    if topology is not None:
        return f"backend {topology}"
    for group, files in TOGETHER.items():
        if item.path.name in files:
            return group
    return item.nodeid.partition("::")[0]
