"""What is there before anybody works: many units, many resources, many units of one resource, busy resources in front.

Two pools, each with its crew, are worked in turn: the small case and the grown one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from strategies import HOLDER, LEASE_BUSY

from growth.scene import Row, Scene, Site, beside, load, scene

Fill = Callable[[Scene], None]


def in_turn(site: Site, what: str, units: int, rounds: int, *, fill_small: Fill, fill_grown: Fill) -> Row:
    """Work so many units a round: of the small pool, which is filled before each, and of the grown one, filled once.

    Both hold more than a round takes: how a crew shares the last ones is not measured.
    """
    small, grown = [], []
    with ExitStack() as stack:
        of_small, of_grown = (stack.enter_context(scene(site)) for _ in range(2))
        site.say("loads")
        fill_grown(of_grown)
        for turn in range(1, rounds + 1):
            site.say(f"round {turn} of {rounds}")
            fill_small(of_small)
            small.append(of_small.work(units))
            of_small.empty()
            grown.append(of_grown.work(units))
    return beside(what, small, grown)


def waiting(site: Site) -> Iterator[Row]:
    """Measure ten million units of a million resources, against 100,000 of 10,000: folded before, 70,000 a round.

    So many come together in hours: autovacuum and a checkpoint are through with them.
    """
    units, small = site.size(10_000_000), 100_000

    def fill_grown(there: Scene) -> None:
        load(there, units, units // 10, folded=True)
        there.pool.conn.execute("vacuum (analyze) striped.unit, striped.stripe, striped.wake")
        there.pool.conn.execute("checkpoint")

    yield in_turn(
        site,
        f"{units:,} units wait, against {small:,}",
        small * 7 // 10,
        9,
        fill_small=lambda there: load(there, small, small // 10, folded=True),
        fill_grown=fill_grown,
    )


def resources(site: Site) -> Iterator[Row]:
    """Measure a million resources with a unit each, against 100,000: folded while they are worked, 70,000 a round."""
    units, small = site.size(1_000_000), site.size(100_000)
    yield in_turn(
        site,
        f"{units:,} resources of one unit, against {small:,}",
        small * 7 // 10,
        9,
        fill_small=lambda there: load(there, small, small),
        fill_grown=lambda there: load(there, units, units),
    )


def one(site: Site) -> Iterator[Row]:
    """Measure a million units of one resource, against 50,000 of one, 35,000 a round."""
    units, small = site.size(1_000_000), 50_000
    yield in_turn(
        site,
        f"one resource with {units:,} units, against {small:,}",
        small * 7 // 10,
        2 if site.quick else 5,
        fill_small=lambda there: load(there, small, 1),
        fill_grown=lambda there: load(there, units, 1),
    )


def blocked(site: Site) -> Iterator[Row]:
    """Measure free resources behind 10,000 busy ones with ten units each, against free ones alone; of one unit each."""
    busy, free, rounds = 10_000, 100_000, 3 if site.quick else 5

    def block(there: Scene) -> None:
        load(there, busy * 10, busy, prefix="busy", folded=True)
        there.value(HOLDER)
        there.pool.conn.execute(LEASE_BUSY, {"job": there.job_id})
        load(there, free * rounds, free * rounds)  # more than all rounds take

    yield in_turn(
        site,
        f"{busy:,} busy resources in front",
        free // 2,
        rounds,
        fill_small=lambda there: load(there, free, free),
        fill_grown=block,
    )
