"""Pure: the names of a pool's things in SQL, whatever its schema is called; lib/notify.sql makes the same channels."""

import hashlib

from psycopg import sql

SCHEMA_BYTES_SHOWN = 32  # of a schema's name in a channel's, which has 63; a longer one stands there by its digest


def in_query(*names: str) -> sql.Identifier:
    """Return a name for a statement that takes parameters, where psycopg reads %% as %."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def channel(schema: str, of: object) -> str:
    """Name the channel on which a pool calls: `of` is a job's id, that and `_delegator`, or `operator`."""
    name = schema.encode()
    shown = schema if len(name) <= SCHEMA_BYTES_SHOWN else hashlib.sha256(name).hexdigest()[:SCHEMA_BYTES_SHOWN]
    return f"striped_{shown}_{of}"
