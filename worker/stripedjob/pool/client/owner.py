"""What the owner of a pool does: all that others do, and make it, drop it, examine it, and say who may use it how.

Called by the command line. Errors are the pool's own (errors.py).
"""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from stripedjob.pool.client.operator import OperatorPool
from stripedjob.pool.client.person import PersonPool
from stripedjob.pool.connection import foreign_errors
from stripedjob.pool.install import roles
from stripedjob.pool.install.doctor import Finding, examine
from stripedjob.pool.install.teardown import Torn, teardown
from stripedjob.pool.names import in_query

ENDS_SESSIONS = """
select c.relowner::regrole::text, pg_has_role(c.relowner, %(to)s, 'usage')
    or pg_has_role(c.relowner, 'pg_signal_backend', 'usage') and pg_has_role(c.relowner, 'pg_read_all_stats', 'usage')
from pg_class c where c.oid = to_regclass(%(table)s)"""


class OwnerPool(OperatorPool, PersonPool):
    """The calls of the pool's owner."""

    def teardown(self) -> Torn | None:
        """Drop what is the pool's; None where there was none. Raises PoolRefusedError where others depend on it."""
        with foreign_errors():
            return teardown(self.conn, self.schema)

    def examine(self) -> list[Finding]:
        """Look for what is wrong with the schema and its server; changes nothing."""
        with foreign_errors():
            return examine(self.conn, self.schema)

    def grant(self, role: str, to: str, *, job: roles.Job | None = None, payloads: bool = False) -> list[str]:
        """Let a database role be one of the pool's; returns what a person should know of it."""
        parts = roles.parts_of(role, payloads=payloads)
        with foreign_errors():
            self._run(roles.grant(self.schema, role, to, job=job, payloads=payloads))
            notes = []
            if job is None and self._is_limited(to, parts):
                notes.append(f"{to} was granted some jobs alone, and stays limited to them until the role is revoked")
            owner, ends = self._one(ENDS_SESSIONS, {"to": to, "table": self._name("permission")})
            if "worker" in parts and not ends:
                notes.append(
                    f"the pool's owner {owner} cannot end the transactions of handlers whose worker has died: grant"
                    f" pg_signal_backend and pg_read_all_stats to {owner}"
                )
        return notes

    def revoke(self, role: str, to: str, *, job: roles.Job | None = None, payloads: bool = False) -> None:
        """Take one of the pool's roles from a database role, but for what it has by another as well."""
        with foreign_errors():
            keep = roles.kept(self.conn, self.schema, role, to)
            self._run(roles.revoke(self.schema, role, to, job=job, payloads=payloads, keep=keep))

    def _is_limited(self, to: str, parts: Sequence[str]) -> bool:
        table = in_query(self.schema, "permission")
        query = sql.SQL("select exists (select from {} where role = to_regrole(%s) and part = any(%s))").format(table)
        return bool(self._one(query, [sql.Identifier(to).as_string(), list(parts)])[0])

    def _run(self, statements: Sequence[str]) -> None:
        with self.conn.transaction():
            for statement in statements:
                self.conn.execute(statement.encode())

    def _one(self, query: Any, values: Any) -> tuple[Any, ...]:
        row = self.conn.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - each of these has a row
        return row

    def _name(self, table: str) -> str:
        return sql.Identifier(self.schema, table).as_string()
