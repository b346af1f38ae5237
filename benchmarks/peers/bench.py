"""StripedJob beside its neighbours, on one durable Postgres and one Valkey, in turn in one run.

Run by `scripts/bench peers [--only NAME,…] [--work NAME,…] [--rounds N]`. What each adapter does is said at its head,
what each work is in works.py. Every neighbour first has a recorded run, which is judged; its verdict stands in all its
rows. Rates are medians of the rounds, with the lowest and the highest; CPU is in microseconds a unit.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
from servers import durable

from peers.fetch import MissingError
from peers.graphile import Graphile
from peers.groupmq import GroupMq
from peers.peer import Peer
from peers.pgboss import PgBoss
from peers.pgmq import Pgmq, PgmqGrouped, PgmqRoundRobin
from peers.procrastinate import Procrastinate
from peers.raw import Raw, RawOne
from peers.stripedjob import Fifo, FourWorkers, Mutex, PostgresLocks
from peers.works import WORKS, Row, Site, recorded

KINDS: dict[str, type[Peer]] = {
    kind.name: kind
    for kind in (
        Raw, RawOne, Mutex, FourWorkers, PostgresLocks, Fifo, Pgmq, PgmqRoundRobin, PgmqGrouped, Graphile, PgBoss,
        GroupMq, Procrastinate,
    )
}  # fmt: skip
RATE = "units_per_second"
FAILURES = (MissingError, TimeoutError, OSError, psycopg.Error)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which neighbours and which works."""
    parser.add_argument("--only", type=names(KINDS), default=list(KINDS), metavar="NAME,…", help=", ".join(KINDS))
    parser.add_argument("--work", type=names(WORKS), default=list(WORKS), metavar="NAME,…", help=", ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each is measured")


def names(known: dict[str, Any]) -> Any:
    """Make what reads a list of known names."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - known.keys():
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there is {', '.join(known)}")
        return chosen

    return read


def summary(rounds: list[Row]) -> Row:
    """Return one row of the same row in each round: medians, and the range of the rate."""
    row = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    if RATE in row:
        row |= {"lowest": min(one[RATE] for one in rounds), "highest": max(one[RATE] for one in rounds)}
    return {name: _rounded(value) for name, value in row.items()} | {"rounds": len(rounds)}


def _rounded(value: float) -> float:
    return round(value) if value >= 1000 or value == round(value) else round(value, 2)  # noqa: PLR2004


class Table:
    """The rows, as they come; a neighbour that fails is named with the cause, and the others go on."""

    def __init__(self, site: Site, kinds: list[str], rounds: int) -> None:
        """Take who is measured and how often."""
        self.site = site
        self.rounds = rounds
        self.verdicts: dict[str, Row] = {}
        self.kinds = kinds

    def judged(self) -> Iterator[Row]:
        """Judge everybody."""
        for name in self.kinds:
            head = {"peer": name, "version": KINDS[name].version}
            try:
                self.verdicts[name] = asdict(recorded(self.site, KINDS[name]))
            except FAILURES as error:
                yield head | {"missing": str(error)}
            else:
                yield head | {"work": "recorded"} | self.verdicts[name]

    def measured(self, work: str) -> Iterator[Row]:
        """Measure one work, in turn; the rows come in the last round."""
        found: dict[str, list[list[Row]]] = {name: [] for name in self.verdicts}
        for turn in range(1, self.rounds + 1):
            for name in list(found):
                try:
                    found[name].append(WORKS[work](self.site, KINDS[name]))
                except FAILURES as error:
                    del found[name]
                    yield {"peer": name, "work": work, "failed": str(error)}
                else:
                    if turn == self.rounds:
                        yield from self._rows(work, name, found)

    def _rows(self, work: str, name: str, found: dict[str, list[list[Row]]]) -> Iterator[Row]:
        raw = found.get(Raw.name)
        for at, rounds in enumerate(zip(*found[name], strict=True)):
            row = summary(list(rounds))
            if raw and RATE in row:
                row["of_raw"] = round(row[RATE] / statistics.median(turn[at][RATE] for turn in raw), 3)
            yield {"peer": name, "work": work} | row | self.verdicts[name]


def main(_path: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Measure what is asked for."""
    with durable() as servers, tempfile.TemporaryDirectory(prefix="stripedjob-peers-") as folder:
        table = Table(Site(servers, Path(folder)), options.only, options.rounds)
        yield from table.judged()
        for work in options.work:
            yield from table.measured(work)
