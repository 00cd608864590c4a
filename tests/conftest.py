"""For all tests."""

from __future__ import annotations

import contextlib
import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.environment import surroundings, unchanged

#: Files whose tests start and kill whole topologies or clusters: too slow for every run (`make soak`).
SLOW = frozenset(
    {
        "test_cluster_guest.py",
        "test_lifecycle_faults.py",
        "test_rac_process.py",
        "test_ray_workers.py",
        "test_rsc_process.py",
        "test_rsv_process.py",
        "test_rvc_cluster.py",
        "test_rvc_process.py",
        "test_rvc_start.py",
        "test_vllm_process.py",
        "test_vllm_server.py",
        "test_smoke_runs.py",
    }
)

#: Files that take longest, longest first: they begin first, so that no process waits for another's last one.
LONG = (
    "test_conformance_answers.py",
    "test_conformance_load.py",
    "test_parity.py",
    "test_session_ends.py",
    "test_baseline_process.py",
    "test_models_load.py",
    "test_load_client.py",
    "test_control.py",
    "test_ui_resize.py",
    "test_ui_keys.py",
    "test_cli_refusals.py",
    "test_load_faults.py",
    "test_ui_app.py",
)

#: Files whose tests run torch in their own process: all in one, so that it is imported once.
TORCH = frozenset(
    {
        "test_hf_engine.py",
        "test_models_load.py",
        "test_models_tiny.py",
        "test_rag_expand.py",
        "test_rag_import.py",
        "test_rag_search.py",
        "test_rsc_batch.py",
    }
)

# How long an example takes says how busy the machine is, and decides no test.
# What a nohup or a background job ignores, whatever the tests start would ignore too.
for _name, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_name) is signal.SIG_IGN:
        signal.signal(_name, _handler)

settings.register_profile("rvtop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end, so the garbage collector need not walk through it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """pytest collects garbage five times at its end. Where torch was imported that takes longer than the five
    seconds after which pytest-xdist interrupts its process; what is left ends with the process anyway."""
    gc.freeze()


def _group(item: pytest.Item) -> str:
    """The tests that run in one process where several share the work: those of a file, all that ask the
    backend of one topology, which starts once, and all that need torch."""
    call = getattr(item, "callspec", None)
    topology = call.params.get("backend") if call is not None else None
    if topology is not None:
        return f"backend {topology}"
    return "torch" if item.path.name in TORCH else item.nodeid.partition("::")[0]
