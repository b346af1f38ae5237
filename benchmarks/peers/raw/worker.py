"""One client of the plain dequeue."""

import psycopg

from peers.gate import CONFIG, act, repeat

TAKE = """
delete from unit where id = any(array(select id from unit order by id limit %s for update skip locked))
returning payload"""

with psycopg.connect(CONFIG["postgres"], autocommit=True) as conn:

    def step() -> bool:
        """Take a batch and work it."""
        rows = conn.execute(TAKE, [CONFIG["batch"]]).fetchall()
        for (payload,) in rows:
            act(payload)
        return bool(rows)

    repeat(step)
