"""Who brings the pool's schema up to date, where the job's own role may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.cluster_kit.fixtures import await_
from tests.cluster_kit.home import ROOT

from stripedjob.pool.client.admin import PoolAdmin

if TYPE_CHECKING:
    from tests.support.operators import Jobs

ROLE = "without_create"
GRANTS = re.search(r"grant usage on schema(.|\n)*?(?=```)", (ROOT / "docs" / "operator.md").read_text())


@pytest.mark.usefixtures("operator")
def test_a_role_that_may_not_create_waits_for_one_that_may(jobs: Jobs, fresh_database: str, fresh_valkey: str) -> None:
    assert GRANTS, "docs/operator.md says what to grant"
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
            with PoolAdmin.open(fresh_database) as admin:
                admin.migrate()
            conn.execute(GRANTS[0].replace(" to app;", f" to {ROLE};").encode())
            jobs.until("PoolReachable", "Reachable")
            await_("a worker", lambda: jobs.replicas() == 1, 15)
        finally:
            jobs.kubectl("delete", "stripedjob", "job")
            conn.execute(sql.SQL("drop owned by {}").format(role))
            conn.execute(sql.SQL("drop role {}").format(role))
