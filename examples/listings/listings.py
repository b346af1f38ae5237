"""The handler: folds one event into its listing's row, in the transaction that completes the unit.

`fold` depends on the order of the events (a discount rounds, a withdrawal forgets), so a row comes out right only if
its events were applied once each, in their order.
"""

import hashlib
from typing import Any

import psycopg

import stripedjob

TABLE = """
create table if not exists listing (
    id text primary key,
    price_cents bigint not null,
    withdrawn boolean not null,
    events int not null,
    history text not null
)"""

Row = tuple[int, bool, int, str]
NEW: Row = (0, False, 0, "")


def fold(row: Row, event: dict[str, Any]) -> Row:
    """Apply one event to a listing: (price in cents, withdrawn, number of events, digest of all of them in order)."""
    price_cents, withdrawn, events, history = row
    match event["kind"]:
        case "price":
            price_cents, withdrawn = event["cents"], False
        case "discount":
            price_cents = price_cents * (100 - event["percent"]) // 100
        case "withdraw":
            price_cents, withdrawn = 0, True
    digest = hashlib.sha256(f"{history}{event['number']}".encode()).hexdigest()[:16]
    return price_cents, withdrawn, events + 1, digest


def apply(unit: stripedjob.Unit, conn: psycopg.Connection) -> None:
    """Handle one unit; `conn` is in the transaction that also completes it."""
    query = "select price_cents, withdrawn, events, history from listing where id = %s"
    row = conn.execute(query, [unit.resource]).fetchone() or NEW
    conn.execute(
        "insert into listing (id, price_cents, withdrawn, events, history) values (%s, %s, %s, %s, %s)"
        " on conflict (id) do update set price_cents = excluded.price_cents, withdrawn = excluded.withdrawn,"
        " events = excluded.events, history = excluded.history",
        [unit.resource, *fold(row, unit.payload)],
    )
