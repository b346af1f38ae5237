"""How `pytest -n auto` deals tests to processes: one after the other, but for those that need the machine as it is.

Most tests wait for leases, processes and databases, so that three processes on two cores are busy without being slow.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Mapping

PROCESSES_PER_CORE = 1.5  # with more, tests whose own programs need seconds to start run out of patience
NICENESS = 5
CLUSTER = "the cluster"
# Ours, those of `kubectl wait`, of subprocess, of asyncio and of pytest-timeout.
PATIENCE_WORDS = [
    ": not within",
    "timed out waiting for the condition",
    "TimeoutExpired",
    "^TimeoutError",
    "Timeout \\(>",
]
GIVES_WAY = pytest.StashKey[bool]()
# Tests that one process runs in their order: by the beginning of their node ids, the name of what they share.
TOGETHER: Mapping[str, str] = {
    "tests/cluster/": CLUSTER,
    "tests/e2e/": CLUSTER,
    "tests/browser/": "the browser",
    "tests/faults/": "the nemesis",
    "tests/integration/test_backends.py": "many workers",
    "tests/integration/test_fifo_runs.py": "many workers",
    "tests/integration/test_run_delegated.py": "many workers",
    "tests/integration/test_pool_reads.py": "a million units",
    "tests/isolation/test_lock_order.py": "what a fixture observes for a minute",
}


def scope(node_id: str) -> str:
    """Return what a test shares with others; its own name, if nothing."""
    return next((shared for beginning, shared in TOGETHER.items() if node_id.startswith(beginning)), node_id)


class Dealing(LoadScopeScheduling):  # type: ignore[misc]
    """The largest group first, since it ends last; then test by test, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-rerunfailures ask at once what it asks before each test.

    It writes twice before it reads, and by default the second is held back until the first is acknowledged, which the
    kernel puts off for 40 ms.
    """
    if is_dealt(config):
        config.failures_db.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # type: ignore[attr-defined]


def is_dealt(config: pytest.Config) -> bool:
    """Return whether this process is one of those that tests are dealt to."""
    return hasattr(config, "workerinput")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have a test that ran out of patience run once more, which the summary shows; nothing else ever is.

    Pods, servers, a browser and an API server share the processors with all other tests. A value that is wrong fails
    at once.
    """
    if "STRIPEDJOB_TEST_PATIENCE" in os.environ:  # of tests/mutations
        return
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=PATIENCE_WORDS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Dealing:
    return Dealing(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return round(PROCESSES_PER_CORE * (os.cpu_count() or 1))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Take the cluster down after its last test, with what else lives for a session: it takes a tenth of the time."""
    ends = scope(item.nodeid) == CLUSTER and nextitem is not None and scope(nextitem.nodeid) != CLUSTER
    if ends and is_dealt(item.config):
        item.session._setupstate.teardown_exact(None)  # as pytest does after the last test of all


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give way to the cluster's tests, whose pods have seconds to start and to end; they are the first of a process."""
    if is_dealt(item.config) and scope(item.nodeid) != CLUSTER and not item.config.stash.get(GIVES_WAY, False):
        item.config.stash[GIVES_WAY] = True
        os.nice(NICENESS)
