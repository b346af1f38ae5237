"""Prepares the listing table, and checks it against a sequential run of the same events.

python check.py setup                    makes the table
python check.py compare events.jsonl     exits 0 if every row is what one worker, one event after the other, would give

Both take --postgres URL, or --data DIR for the embedded Postgres of `stripedjob run` (default: .stripedjob).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from listings import NEW, TABLE, Row, fold

from stripedjob.local.engines import embedded_engine


def sequential(lines: Iterator[str]) -> dict[str, Row]:
    """Fold all events in the order of the file."""
    rows: dict[str, Row] = {}
    for line in lines:
        unit = json.loads(line)
        rows[unit["resource"]] = fold(rows.get(unit["resource"], NEW), unit["payload"])
    return rows


def compare(conn: psycopg.Connection, path: Path) -> int:
    """Print the differences; returns how many there are."""
    with path.open() as file:
        expected = sequential(iter(file))
    found = {row[0]: row[1:] for row in conn.execute("select id, price_cents, withdrawn, events, history from listing")}
    different = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    for name in sorted(different)[:10]:
        print(f"{name}: expected {expected.get(name)}, found {found.get(name)}")
    events = sum(row[2] for row in expected.values())
    print(f"{len(expected)} listings, {events} events: {len(different)} listings differ from the sequential run")
    return len(different)


@contextmanager
def connected(options: argparse.Namespace) -> Iterator[psycopg.Connection]:
    """Connect to the pool's database."""
    if options.postgres:
        with psycopg.connect(options.postgres, autocommit=True) as conn:
            yield conn
    else:
        with embedded_engine("postgres", options.data) as url, psycopg.connect(url, autocommit=True) as conn:
            yield conn


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["setup", "compare"])
    parser.add_argument("events", nargs="?", type=Path)
    parser.add_argument("--postgres")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / ".stripedjob")
    options = parser.parse_args()
    with connected(options) as conn:
        if options.what == "setup":
            conn.execute(TABLE)
        elif options.events is None:
            parser.error("compare needs the file of events")
        else:
            sys.exit(1 if compare(conn, options.events) else 0)


if __name__ == "__main__":
    main()
