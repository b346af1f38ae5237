"""Units put in over the connections that applications have: SQLAlchemy's, Django's, asyncio's; in their transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import django.db
import psycopg
import pytest
import sqlalchemy
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

import stripedjob
from stripedjob import NewUnit
from stripedjob.pool.install.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = [NewUnit(resource="a", payload={"n": n}) for n in range(3)]


@pytest.fixture
def url(fresh_database: str) -> str:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        conn.execute("select striped.apply_job('default', 'sync', 0, 4, 3, 30, 5, 'Skip', 0, 600)")
    return fresh_database


def units(url: str) -> int:
    with psycopg.connect(url) as conn:
        row = conn.execute("select count(*) from striped.unit").fetchone()
    assert row is not None
    return int(row[0])


def put(conn: Any) -> None:
    stripedjob.enqueue(conn, "sync", UNITS[0])
    assert stripedjob.enqueue_many(conn, "sync", UNITS) == 3


@pytest.fixture
def engine(url: str) -> Iterator[sqlalchemy.Engine]:
    made = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    yield made
    made.dispose()


def test_a_connection_of_sqlalchemy(engine: sqlalchemy.Engine, url: str) -> None:
    with engine.connect() as conn:
        put(conn)
        conn.rollback()
        assert units(url) == 0
        put(conn)
        conn.commit()
        assert units(url) == 4
        put(conn)
    assert units(url) == 4  # what nobody has committed
    with engine.begin() as conn:
        put(conn)
    assert units(url) == 8


def test_a_session_of_sqlalchemy(engine: sqlalchemy.Engine, url: str) -> None:
    with Session(engine) as session:
        put(session)
        session.rollback()
        put(session)
        session.commit()
    with Session(engine) as session, session.begin():
        put(session)
    assert units(url) == 8


def test_the_connection_of_django(url: str) -> None:
    parts = conninfo_to_dict(url)
    options = {"ENGINE": "django.db.backends.postgresql", "NAME": parts["dbname"], "USER": parts.get("user", "")}
    options |= {"HOST": parts.get("host", ""), "PORT": parts.get("port", ""), "PASSWORD": parts.get("password", "")}
    settings.configure(DATABASES={"default": options}, USE_TZ=True)
    from django.db import connection, transaction  # noqa: PLC0415 - Django wants its settings first

    try:
        put(connection)
        assert units(url) == 4
        with transaction.atomic():
            put(connection)
            transaction.set_rollback(True)
        with transaction.atomic():
            put(connection)
        assert units(url) == 8
    finally:
        django.db.connections.close_all()


def test_a_connection_of_asyncio(url: str) -> None:
    async def scene() -> None:
        async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as conn:
            assert await stripedjob.aenqueue(conn, "sync", UNITS[0])
            await conn.rollback()
            assert await stripedjob.aenqueue_many(conn, "sync", UNITS) == 3
            await conn.commit()
            with pytest.raises(TypeError, match=r"await stripedjob\.aenqueue"):
                put(conn)

    asyncio.run(scene())
    assert units(url) == 3


@pytest.mark.parametrize("function", [stripedjob.enqueue, stripedjob.enqueue_many])
def test_another_connection_is_refused_by_name(function: Any) -> None:
    with pytest.raises(TypeError, match=r"unittest\.mock\.sentinel.*put units in by SQL"):
        function(type("sentinel", (), {"__module__": "unittest.mock"})(), "sync", UNITS)
    with pytest.raises(TypeError, match="put units in by SQL"):
        asyncio.run(stripedjob.aenqueue(object(), "sync", UNITS[0]))  # type: ignore[arg-type]
