"""Prepares the table of effects, and looks for what must not be: `python check.py setup|verify UNITS [--data DIR]`.

Exits 0 if UNITS units were recorded, each once, no two intervals of a resource overlap, and fences only grow.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from seed import TABLE

from stripedjob.local.engines import embedded_engine

COUNTS = """
select count(*), count(distinct unit), count(distinct resource),
    (select count(*) from leases a join leases b on a.resource = b.resource and a.fence < b.fence and a.ended > b.began)
from seed_effect"""
LEASES = "with leases as (select resource, fence, min(began) began, max(ended) ended from seed_effect group by 1, 2)"


def verify(conn: psycopg.Connection, units: int) -> bool:
    """Print what was found; true if all is as it must be."""
    row = conn.execute((LEASES + COUNTS).encode()).fetchone()
    assert row is not None  # noqa: S101 - a count has a row
    recorded, distinct, resources, overlaps = row
    print(f"{recorded} units of {resources} resources recorded, {recorded - distinct} twice, {overlaps} overlaps found")
    return (recorded, distinct, overlaps) == (units, units, 0)


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["setup", "verify"])
    parser.add_argument("units", nargs="?", type=int, default=0)
    parser.add_argument("--postgres")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / ".stripedjob")
    options = parser.parse_args()
    with connected(options) as conn:
        if options.what == "setup":
            conn.execute(TABLE)
        else:
            sys.exit(0 if verify(conn, options.units) else 1)


if __name__ == "__main__":
    main()
