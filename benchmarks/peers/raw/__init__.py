"""A plain dequeue: DELETE … FOR UPDATE SKIP LOCKED, one statement a batch. It keeps nothing apart and no order."""

from pathlib import Path

from peers.peer import PythonWorkers, SqlPeer


class Raw(PythonWorkers, SqlPeer):
    """Clients that delete 1,000 rows at a time, in the order of their ids."""

    name = "raw-1000"
    version = "SQL"
    worker = Path(__file__).parent / "worker.py"
    batch = 1000
    schema = """
create table unit (id bigint primary key generated always as identity, resource text not null, payload json not null)"""
    load_sql = """
insert into unit (resource, payload)
select 'r' || n %% %(resources)s, json_build_object('n', n, 'r', 'r' || n %% %(resources)s, 's', %(seconds)s::float8)
from generate_series(1, %(units)s) n"""
    enqueue_sql = "insert into unit (resource, payload) values (%(resource)s, %(payload)s)"
    empty_sql = "select not exists (select from unit)"


class RawOne(Raw):
    """Clients that delete one row at a time."""

    name = "raw-1"
    batch = 1
    units_max = 10_000
