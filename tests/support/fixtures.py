"""pytest's fixtures for real engines: one Postgres and one Valkey a session, an empty database a test, a queue in one.

STRIPEDJOB_TEST_POSTGRES=URL runs the tests on a server of your own, as a role that may create databases. What runs
through a pooler as well has the fixture `pool_url`; `fresh_database` beside it is the same database without one.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis
from tests.support.engines import RestartablePostgres, RestartableValkey, files_in_memory, new_database, running
from tests.support.poolers import PgBouncer, pgbouncer_in
from tests.support.queues import Queue, queue

from stripedjob.local.engines import embedded_engine
from stripedjob.pool.install.migrate import migrate


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    given = os.environ.get("STRIPEDJOB_TEST_POSTGRES")
    if given:
        yield given
    else:
        with ExitStack() as stack:
            with files_in_memory():
                url = stack.enter_context(embedded_engine("postgres"))
            yield url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with embedded_engine("valkey") as url:
        yield url


@pytest.fixture(scope="session")
def pool_template(postgres_url: str) -> Iterator[str]:
    """A database with the pool in it, which is copied in a tenth of the time that making it takes; yields its name."""
    with new_database(postgres_url) as url:
        with psycopg.connect(url, autocommit=True) as conn:
            migrate(conn)
            name = conn.info.dbname
        yield name


@pytest.fixture
def fresh_database(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """An empty database; where the test is marked `migrated`, one with the pool in it."""
    is_migrated = request.node.get_closest_marker("migrated") is not None
    template = request.getfixturevalue("pool_template") if is_migrated else "template0"
    with new_database(postgres_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    server = pgbouncer_in(tmp_path_factory.mktemp("pooler") / "pgbouncer", postgres_url)
    with running(server):
        yield server


@pytest.fixture(params=["direct", "pooled"])
def pool_url(request: pytest.FixtureRequest, fresh_database: str) -> str:
    """The fresh database as clients reach it: by itself, and through a pooler."""
    if request.param == "direct":
        return fresh_database
    pgbouncer: PgBouncer = request.getfixturevalue("pgbouncer")
    return pgbouncer.before(fresh_database)


@pytest.fixture
def pooled(pgbouncer: PgBouncer, fresh_database: str) -> str:
    """The fresh database through a pooler."""
    return pgbouncer.before(fresh_database)


@pytest.fixture(scope="module")
def queue_database(postgres_url: str) -> Iterator[str]:
    """One database for all queues of a module: queue() empties it, which is quicker than a new one."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture
def fifo(queue_database: str) -> Iterator[Queue]:
    with queue(queue_database) as made:
        yield made


@pytest.fixture
def fresh_valkey(valkey_url: str) -> str:
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def restartable_postgres(tmp_path: Path) -> Iterator[RestartablePostgres]:
    home = tmp_path / "postgres"
    home.mkdir()
    server = RestartablePostgres(home)
    with running(server):
        yield server


@pytest.fixture
def restartable_valkey(tmp_path: Path) -> Iterator[RestartableValkey]:
    home = tmp_path / "valkey"
    home.mkdir()
    server = RestartableValkey(home)
    with running(server):
        yield server
