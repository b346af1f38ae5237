"""Graphile Worker with queue names: a local queue of 500 jobs, completions in batches, 24 jobs at once a process."""

from pathlib import Path

from peers.peer import NodeWorkers, SqlPeer


class Graphile(NodeWorkers, SqlPeer):
    """Jobs whose queue name is their resource: one job of a queue at once."""

    name = "graphile"
    version = "0.18.0"
    folder = Path(__file__).parent
    concurrency = 24
    batch = 500
    load_sql = """
select count(*) from graphile_worker.add_jobs((select array_agg(row('unit',
    json_build_object('n', n, 'r', 'r' || n %% %(resources)s, 's', %(seconds)s::float8), 'r' || n %% %(resources)s,
    null, null, null, null, null)::graphile_worker.job_spec order by n) from generate_series(1, %(units)s) n))"""
    enqueue_sql = "select graphile_worker.add_job('unit', %(payload)s::json, queue_name => %(resource)s)"
    empty_sql = "select not exists (select from graphile_worker._private_jobs)"

    def make_schema(self) -> None:
        """Let Graphile Worker install itself."""
        self.run("schema.mjs")
