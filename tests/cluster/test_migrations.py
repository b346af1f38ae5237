"""Who brings the pool's schema up to date, where the job's own role may not."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.cluster_kit.fixtures import await_
from tests.support.rights import as_role, granted, new_role

from stripedjob.pool.client.owner import OwnerPool
from stripedjob.pool.install.migrate import migrate

if TYPE_CHECKING:
    from tests.support.operators import Jobs

ROLE = "without_create"


@pytest.mark.usefixtures("operator")
def test_a_role_that_may_not_create_waits_for_one_that_may(jobs: Jobs, fresh_database: str, fresh_valkey: str) -> None:
    role = sql.Identifier(ROLE)
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        conn.execute(sql.SQL("drop role if exists {}").format(role))
        conn.execute(sql.SQL("create role {} login").format(role))
        theirs = psycopg.conninfo.make_conninfo(fresh_database, user=ROLE)
        try:
            jobs.secret_of(postgres=theirs, redis=fresh_valkey)
            jobs.apply(minWorkers=1)
            message = jobs.until("PoolReachable", "PoolRefused")["message"]
            assert "permission denied for database" in message
            assert jobs.replicas() == 0
            with OwnerPool.open(fresh_database) as admin:
                admin.migrate()
            await_("what is missing is named", lambda: "grant" in jobs.condition("PoolReachable")["message"], 30)
            granted(conn, "operator", ROLE)
            granted(conn, "worker", ROLE)
            jobs.until("PoolReachable", "Reachable")
            await_("a worker", lambda: jobs.replicas() == 1)
        finally:
            jobs.kubectl("delete", "stripedjob", "job")
            conn.execute(sql.SQL("drop owned by {}").format(role))
            conn.execute(sql.SQL("drop role {}").format(role))


@pytest.mark.usefixtures("operator")
def test_the_operator_and_the_workers_have_roles_of_their_own(
    jobs: Jobs, fresh_database: str, fresh_valkey: str
) -> None:
    pool = jobs.make()["spec"]["pool"]
    own = pool["secretRef"] | {"key": "operator"}
    query = "select usename from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    with psycopg.connect(fresh_database, autocommit=True) as conn, ExitStack() as stack:
        migrate(conn)
        operator, worker = (stack.enter_context(new_role(conn, role)) for role in ("operator", "worker"))
        theirs = {"postgres": as_role(fresh_database, worker), "operator": as_role(fresh_database, operator)}
        try:
            jobs.secret_of(**theirs, redis=fresh_valkey)
            jobs.apply(minWorkers=1, pool=pool)
            assert "stripedjob grant" in jobs.until("PoolReachable", "PoolRefused")["message"]  # a worker's alone
            assert jobs.replicas() == 0
            jobs.apply(minWorkers=1, pool=pool | {"operatorSecretRef": own})
            jobs.until("PoolReachable", "Reachable")
            await_("a worker", lambda: jobs.replicas() == 1)
            (container,) = (jobs.deployment() or {})["spec"]["template"]["spec"]["containers"]
            (url,) = [one["valueFrom"] for one in container["env"] if one["name"] == "STRIPEDJOB_POSTGRES_URL"]
            assert url["secretKeyRef"]["key"] == "postgres"
            assert {name for (name,) in conn.execute(query)} == {operator}
        finally:
            jobs.kubectl("delete", "stripedjob", "job")
            await_("it lets go", lambda: conn.execute(f"{query} limit 1").fetchone() is None, 30)
