"""`stripedjob doctor`: each thing that can be wrong with a pool or its server is made wrong, and is named."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner
from tests.support.rights import as_role, new_role

from stripedjob.cli import cli
from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.install import doctor
from stripedjob.pool.install.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEAD_WORKER = """
    select striped.apply_job('n', 't', 1, 1, 0, 30, 5, 'Skip', 0, 0, false, null, null, null, null, false);
    insert into striped.worker (id, job_id, name, expires_at)
    select 1, id, 'w', now() - interval '1 h' from striped.job"""
SEEN = "create or replace function striped.is_empty(p_job int) returns boolean language sql as 'select true'"
ANOTHER = "drop index striped.unit_due; create index unit_due on striped.unit (due_at)"
WRONG = {
    "drop index striped.unit_ready": "drift: index striped.unit_ready is gone",
    ANOTHER: "drift: index striped.unit_due was changed",
    "alter table striped.unit drop constraint resource_length": "drift: table constraint resource_length on",
    "alter table striped.unit disable trigger guard_state": "drift: trigger guard_state on striped.unit was changed",
    "alter table striped.unit alter importance set default 7": "drift: table column striped.unit.importance was",
    SEEN: "drift: function striped.is_empty(integer) was changed",
    "drop function striped.is_empty(int)": "drift: function striped.is_empty(integer) is gone",
    "delete from striped.migration where version > 1": "schema: it is at version 1, this",
    "insert into striped.migration values (9999, 'later')": "schema: it is at version 9999, this",
    "alter table striped.unit set (autovacuum_enabled = off)": "vacuum: it is disabled for table unit",
    DEAD_WORKER: "leases: job n/t: 1 workers",
}


@pytest.fixture
def conn(fresh_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        migrate(conn)
        yield conn


def found(url: str) -> list[doctor.Finding]:
    with OwnerPool.open(url) as pool:
        return pool.examine()


def test_nothing_is_wrong_with_a_new_pool(conn: psycopg.Connection, fresh_database: str) -> None:
    conn.execute("create index mine on striped.unit (payload)")  # what others add is no drift
    assert found(fresh_database) == []


@pytest.mark.parametrize("statement", WRONG)
def test_what_is_wrong_is_named_with_its_remedy(conn: psycopg.Connection, fresh_database: str, statement: str) -> None:
    conn.execute(statement.encode())
    there = found(fresh_database)
    words = WRONG[statement]
    assert [one for one in there if f"{one.subject}: {one.what}".startswith(words) and one.remedy], there


def test_what_is_drift_is_put_right_by_a_migration(conn: psycopg.Connection, fresh_database: str) -> None:
    conn.execute(SEEN.encode())
    assert migrate(conn) == []
    assert found(fresh_database) == []


SETTINGS = {
    "default_transaction_isolation = serializable": "sessions begin with serializable",
    "default_transaction_read_only = on": "sessions begin read-only",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_applications_begin_with(conn: psycopg.Connection, fresh_database: str, setting: str) -> None:
    conn.execute(f"alter database {conn.info.dbname} set {setting}".encode())
    assert next(one.what for one in found(fresh_database) if one.subject == "isolation").startswith(SETTINGS[setting])


@pytest.mark.usefixtures("conn")
def test_a_transaction_that_is_open_for_long(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SNAPSHOT_SECONDS_MAX", 0)
    with psycopg.connect(fresh_database, application_name="report") as report:
        report.execute("select 1")
        [one] = [one for one in found(fresh_database) if one.subject == "snapshot"]
        assert f"pid {report.info.backend_pid} (report, idle in transaction)" in one.what
        assert f"pg_terminate_backend({report.info.backend_pid})" in one.remedy


def test_rows_that_nobody_removes(
    conn: psycopg.Connection, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEAD_ROWS_MIN", 10)
    conn.execute("alter table striped.dedup set (autovacuum_enabled = off)")
    conn.execute("insert into striped.dedup select 1, n::text, n, now() from generate_series(1, 100) n")
    conn.execute("delete from striped.dedup")
    conn.execute("select pg_stat_force_next_flush()")
    assert any(one.subject == "bloat" and "table dedup has 100 dead rows" in one.what for one in found(fresh_database))


def test_who_may_not_look_is_told_so(conn: psycopg.Connection, fresh_database: str) -> None:
    name = f"nobody_{conn.info.dbname}"
    conn.execute(f"create role {name} login".encode())
    try:
        theirs = psycopg.conninfo.make_conninfo(fresh_database, user=name)
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(theirs, autocommit=True) as other:
            notes = [one.what for one in doctor.examine(other, "striped") if one.level == "note"]
            assert any("may not look: permission denied" in words for words in notes)
    finally:
        conn.execute(f"drop role {name}".encode())


JOB = """
apiVersion: striped.dev/v1alpha1
kind: StripedJob
metadata: {name: job}
spec:
  scheduleLimit: 1
  handler: {exec: ["true"]}
  lock: {backend: Redis}
"""


def test_the_command(conn: psycopg.Connection, fresh_database: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    arguments = ["doctor", str(file), "--postgres", fresh_database, "--redis", "redis://127.0.0.1:1/0"]
    said = CliRunner().invoke(cli, [*arguments, "--json"])
    assert said.exit_code == 1
    assert [one["subject"] for one in json.loads(said.stdout)] == ["locks"]
    conn.execute("drop index striped.unit_ready")
    shown = CliRunner().invoke(cli, arguments).stdout
    assert "✗ drift: index striped.unit_ready is gone\n  make it again" in shown


def test_what_a_role_of_the_pool_lacks_is_named(conn: psycopg.Connection, fresh_database: str) -> None:
    with new_role(conn, "enqueuer", "delegator") as role:
        assert [one for one in found(as_role(fresh_database, role)) if one.subject == "rights"] == []
        name = psycopg.sql.Identifier(role)
        conn.execute(psycopg.sql.SQL("revoke execute on function striped.resign from {}").format(name))
        (lacks,) = [one for one in found(as_role(fresh_database, role)) if one.subject == "rights"]
    what = f'{role} is delegator in part, and lacks execute on function "striped".resign(int, bigint)'
    assert (lacks.level, lacks.what) == ("problem", what)
    assert f"stripedjob grant delegator {role}" in lacks.remedy
