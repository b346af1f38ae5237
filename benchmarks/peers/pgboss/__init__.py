"""pg-boss with the policy key_strict_fifo: fetch 500, work them, complete them; at rest its own worker with NOTIFY."""

from pathlib import Path

from peers.peer import ClientPeer


class PgBoss(ClientPeer):
    """Jobs whose singleton key is their resource: one job of a key at once."""

    name = "pgboss"
    version = "12.38.0"
    folder = Path(__file__).parent
    batch = 500

    def is_empty(self) -> bool:
        """Ask the table, in two parts that each have an index."""
        return self.answers("""
select not exists (select from pgboss.job where name = 'bench' and state < 'active')
    and not exists (select from pgboss.job where name = 'bench' and state = 'active')""")
