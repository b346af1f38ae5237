"""procrastinate with locks: a fetch for each job, 10 at once a process, done jobs deleted, LISTEN/NOTIFY as always."""

from pathlib import Path

from peers.peer import PythonWorkers, SqlPeer


class Procrastinate(PythonWorkers, SqlPeer):
    """Jobs whose lock is their resource."""

    name = "procrastinate"
    version = "3.10.0"
    folder = Path(__file__).parent
    worker = folder / "worker.py"
    concurrency = 10
    units_max = 1_000
    load_sql = """
select cardinality(procrastinate_defer_jobs_v1(array_agg(('bench', 'unit', 0, 'r' || n %% %(resources)s, null,
    jsonb_build_object('n', n, 'r', 'r' || n %% %(resources)s, 's', %(seconds)s::float8),
    null)::procrastinate_job_to_defer_v1 order by n))) from generate_series(1, %(units)s) n"""
    enqueue_sql = """
select procrastinate_defer_jobs_v1(array[('bench', 'unit', 0, %(resource)s, null, %(payload)s::jsonb,
    null)::procrastinate_job_to_defer_v1])"""
    empty_sql = "select not exists (select from procrastinate_jobs)"

    def make_schema(self) -> None:
        """Install procrastinate's schema."""
        (script,) = self.fetched().glob("procrastinate/sql/schema.sql")
        self.conn.execute(script.read_bytes())
