"""A migration meets a pool at work: it takes its turn, and while it waits for somebody, others wait for it briefly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.isolation.harness import Spec, Stage, Step, Trace, transaction
from tests.isolation.judge import JOURNAL
from tests.isolation.report import check
from tests.isolation.routines import FIFOS
from tests.isolation.scenes import busy
from tests.isolation.specs import Specs
from tests.isolation.world import FIFO, World
from tests.support.engines import new_database

from stripedjob.pool.install import migrate, scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS_MAX = 30
TABLES = ("unit", "stripe", "worker", "job", "wake")
TEXT = "; ".join(f"alter table @extschema@.{table} add column if not exists stand_in int" for table in TABLES)
MIGRATE: Step[World] = Step("migrate", lambda _, conn: migrate.migrate(conn))
SPECS = Specs()
for name, step in FIFOS.items():
    SPECS.add(name, FIFO, busy, other=transaction(step), migrator=[MIGRATE])


@pytest.fixture
def stage(postgres_url: str, pool_template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A pool that one more migration is there for."""
    with new_database(postgres_url, pool_template) as url:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(JOURNAL)
        known = scripts.migrations()
        more = replace(known[-1], version=9999, name="stand_in", text=TEXT)
        monkeypatch.setattr(migrate, "migrations", lambda: [*known, more])
        with Stage(url) as made:
            yield made


@pytest.mark.parametrize("made", SPECS, ids=lambda made: made.name)
def test_a_migration_and_a_routine(made: Spec[World], stage: Stage, request: pytest.FixtureRequest) -> None:
    made = replace(made, world=scene)
    check(stage, made, request.config)


def scene(stage: Stage) -> World:
    """Make the scene in this database; the migration is as if it had not been there."""
    stage.observer.execute("delete from striped.migration where version = 9999")
    return World.of(stage, FIFO, busy).again()


@pytest.mark.parametrize("name", ["enqueue", "claim", "settle", "upkeep", "complete", "poll"])
def test_others_are_served_while_a_migration_waits(name: str, stage: Stage) -> None:
    spec = Specs()
    spec.add("served", FIFO, busy, user=[], migrator=[], other=[])
    world, trace = scene(stage), Trace()
    user, migrator, other = (stage.session(role) for role in ("user", "migrator", "other"))
    stage.take_step(spec[0], world, trace, "user", transaction(FIFOS["enqueue"])[0])
    stage.take_step(spec[0], world, trace, "migrator", MIGRATE)
    other.start(name, lambda conn: FIFOS[name].action(world, conn))
    other.await_answer(ANSWER_SECONDS_MAX)
    other.take()
    user.conn.execute("commit")
    migrator.await_answer(ANSWER_SECONDS_MAX)
    assert migrator.take() == [9999]
    assert not world.judge()
