"""One pgmq consumer."""

import psycopg

from peers.gate import CONFIG, act, repeat

VISIBLE_AGAIN_SECONDS = 300
READ = f"select msg_id, message from pgmq.{CONFIG['read']}('bench', %s, %s)"

with psycopg.connect(CONFIG["postgres"], autocommit=True) as conn:

    def step() -> bool:
        """Read a batch, work it and delete it."""
        rows = conn.execute(READ, [VISIBLE_AGAIN_SECONDS, CONFIG["batch"]]).fetchall()
        for _, message in rows:
            act(message)
        if rows:
            conn.execute("select count(*) from pgmq.delete('bench', %s::bigint[])", [[one for one, _ in rows]])
        return bool(rows)

    repeat(step)
