"""Whether anything grows that history, size or numbers could make grow: each case beside the small one, in turn.

Run by `scripts/bench growth [--only NAME,…] [--minutes M] [--quick]`. Durable Postgres, workers that are processes, a
handler that does nothing. `ratio` is units a second by the small case's, medians of the rounds; `us_ratio` the same of
CPU microseconds a unit, which other load disturbs less; `…_us` are microseconds of Postgres, the workers and Valkey.
The session that looks does not count, what feeds does. Loading is not counted. What a case is, its function says.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from peers.bench import names

from growth.flowing import due, singles, snapshot
from growth.many import jobs, workers
from growth.scene import Row, Say, Site
from growth.standing import blocked, one, resources, waiting
from growth.steady import steady
from stripedjob.pool.errors import PoolError

CASES: dict[str, Callable[[Site], Iterator[Row]]] = {
    "snapshot": snapshot,
    "waiting": waiting,
    "resources": resources,
    "one": one,
    "due": due,
    "singles": singles,
    "workers": workers,
    "jobs": jobs,
    "blocked": blocked,
    "steady": steady,
}
FAILURES = (TimeoutError, OSError, psycopg.Error, PoolError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which cases, and how long and how large they are."""
    parser.add_argument("--only", type=names(CASES), default=list(CASES), metavar="NAME,…", help=", ".join(CASES))
    parser.add_argument("--minutes", type=float, default=10, metavar="M", help="of the steady load")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, a third of the times")


def teller(case: str) -> Say:
    """Make what says on a terminal how far a case is."""

    def say(what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{case}: {what}", end="", file=sys.stderr, flush=True)

    return say


def main(path: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Measure what is asked for; a case that fails is named with the cause, and the others go on."""
    for case in options.only:
        say = teller(case)
        say("starts")
        try:
            for row in CASES[case](Site(path, options.quick, options.minutes, say)):
                say("")
                yield {"case": case} | row
        except FAILURES as error:
            yield {"case": case, "failed": str(error)}
        finally:
            if sys.stderr.isatty():
                print("\r\033[K", end="", file=sys.stderr, flush=True)
