"""pgmq, its SQL as PyPI's `pgmq` ships it: grouped reads by psycopg, and one delete for each batch that was worked.

A loop of one's own around the SQL is how pgmq is used, and the quickest way; its Python client makes an object of each
message. Idle workers poll every 10 ms.
"""

from pathlib import Path
from typing import Any

from peers.peer import PythonWorkers, SqlPeer


class Pgmq(PythonWorkers, SqlPeer):
    """`read_grouped_head`: the first message of each group, 1,000 groups a read."""

    name = "pgmq-head"
    version = "1.1.4, SQL 1.13.0"
    read = "read_grouped_head"
    folder = Path(__file__).parent
    worker = folder / "worker.py"
    batch = 1000
    load_sql = """
select count(*) from (select pgmq.send_batch('bench',
    array_agg(jsonb_build_object('n', n, 'r', 'r' || n %% %(resources)s, 's', %(seconds)s::float8) order by n),
    array_agg(jsonb_build_object('x-pgmq-group', 'r' || n %% %(resources)s) order by n))
from generate_series(1, %(units)s) n) sent"""
    enqueue_sql = """
select pgmq.send('bench', %(payload)s::jsonb, jsonb_build_object('x-pgmq-group', %(resource)s::text))"""
    empty_sql = "select not exists (select from pgmq.q_bench)"

    def make_schema(self) -> None:
        """Install the SQL, and the queue with the index for groups that pgmq advises."""
        (script,) = self.fetched().glob("pgmq/sql/pgmq.sql")
        self.conn.execute("create schema if not exists pgmq")
        self.conn.execute(script.read_bytes())
        self.conn.execute("select pgmq.create('bench')")
        self.conn.execute("select pgmq.create_fifo_index('bench')")

    def config(self) -> dict[str, Any]:
        """Add which function reads."""
        return super().config() | {"read": self.read}


class PgmqRoundRobin(Pgmq):
    """`read_grouped_rr`: round and round over the groups, 5,000 messages a read."""

    name = "pgmq-rr"
    read = "read_grouped_rr"
    batch = 5000


class PgmqGrouped(Pgmq):
    """`read_grouped`: as many of one group as there are, 1,000 a read."""

    name = "pgmq-grouped"
    read = "read_grouped"
