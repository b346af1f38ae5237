"""The handler of the seed workload: writes down which units it had, from when to when, under which fence."""

import psycopg

import stripedjob

TABLE = """
create table if not exists seed_effect (
    unit bigint not null,
    resource text not null,
    fence bigint not null,
    began timestamptz not null,
    ended timestamptz not null
)"""


def record(units: list[stripedjob.Unit], conn: psycopg.Connection) -> None:
    """Handle the units that one lease brought, in the transaction that completes them."""
    conn.execute(
        "insert into seed_effect select unit, %s, %s, statement_timestamp(), clock_timestamp() from unnest(%s) unit",
        [units[0].resource, units[0].fence, [unit.id for unit in units]],
    )
