"""Marks every test with its tier, which is the folder it stands in; the fixtures of clusters are there for all."""

import gc
from pathlib import Path

import pytest
from hypothesis import settings

gc.set_threshold(50_000, 20, 20)  # modules and tests are many objects that stay: no need to look through them often

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("unhurried")
pytest_plugins = [
    "tests.acceptance.report",
    "tests.cluster_kit.fixtures",
    "tests.support.dealing",
    "tests.support.fixtures",
    "tests.support.measured",
    "tests.support.operators",
    "tests.support.pool_calls",
]
TIERS = ("unit", "isolation", "sim", "integration", "faults", "mutations", "upgrade", "browser", "cluster", "e2e")
HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="Write what the chart renders to tests/cluster/rendered.")
    parser.addoption("--order", help="Play one order of an isolation spec alone: names of sessions, one a step.")
    parser.addoption("--short", action="store_true", help="Play some orders of each isolation spec, drawn by its name.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(HERE).parts[0]
        if tier in TIERS:
            item.add_marker(tier)
