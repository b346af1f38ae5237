"""A stage for each module: a database whose routines have gates, and whose units' ways are journalled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.isolation.gates import FUNCTION, with_gates
from tests.isolation.harness import Stage
from tests.isolation.judge import JOURNAL
from tests.support.engines import new_database

from stripedjob.pool.install import migrate, scripts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def stage_url(postgres_url: str) -> Iterator[str]:
    with new_database(postgres_url) as url:
        with psycopg.connect(url, autocommit=True) as conn:
            migrate.migrate(conn)
            conn.execute(FUNCTION)
            conn.execute(scripts.for_schema(with_gates(scripts.routines()), "striped"))
            conn.execute(JOURNAL)
        yield url


@pytest.fixture(scope="module")
def stage(stage_url: str) -> Iterator[Stage]:
    with Stage(stage_url) as made:
        yield made
