"""The command line of `scripts/faults`: runs each strategy under the nemesis, judges the histories, reports."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.bag import Bag
from tests.faults.checker import check, recovered
from tests.faults.nemesis import KINDS, Nemesis
from tests.faults.proxy import Network
from tests.faults.servers import Servers
from tests.faults.world import LEASE_SECONDS, Plan, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.history import Violation

STRATEGIES = ("Mutex", "FIFO", "Delegator", "Throttled")
RECOVERY_SECONDS_MAX = LEASE_SECONDS + 5  # after the last fault: full speed again
AFTER_SECONDS = 20  # for which the applications go on after the last fault of a run of LONG_MINUTES
LONG_MINUTES = 4.0  # a shorter run does not judge how long it takes to recover
WARM_SECONDS = 3.0
OVERHEAD_SECONDS = 8.0  # of a world: to start and to drain
FAULT_SECONDS = 3.0  # between two faults, unless the run is so short that not every kind would come
SHOWN_MAX = 5  # of each rule


@dataclass
class Result:
    """What one strategy's run came to. `recovered_seconds` None: not measured."""

    strategy: str
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    unsupported: dict[str, str] = field(default_factory=dict)
    units: int = 0
    effects: int = 0
    executions: int = 0
    leases: int = 0
    away_at_start: int = 0
    drain_seconds: float = 0.0
    recovered_seconds: int | None = None
    violations: list[Violation] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything that is promised was kept."""
        return not self.violations and (self.recovered_seconds or 0) <= RECOVERY_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class Course:
    """How a strategy's run goes: so many seconds, and so many faults in them."""

    seconds: float
    faults: int

    @property
    def is_long(self) -> bool:
        """Whether it goes on after the last fault, to see how soon it is at full speed again."""
        return self.seconds >= LONG_MINUTES * 60 / len(STRATEGIES)

    @property
    def every_seconds(self) -> float:
        """How often a fault comes."""
        return (self.seconds - OVERHEAD_SECONDS - (AFTER_SECONDS if self.is_long else 0)) / self.faults


def run(plan: Plan, course: Course, bag: Bag, servers: Servers, network: Network) -> Result:
    """Run one strategy, and judge it."""
    result = Result(plan.strategy, plan.seed)
    with World(plan, servers, network, servers.folder / plan.strategy) as world:
        _wait(world, WARM_SECONDS)
        nemesis = Nemesis(world, bag, random.Random(f"{plan.seed} {plan.strategy}"))
        nemesis.run(course.faults, course.every_seconds)
        if course.is_long:
            _wait(world, AFTER_SECONDS)
        result.drain_seconds = round(world.drain(), 1)
        result.faults, result.unsupported = nemesis.made, world.unsupported
        result.away_at_start = sum(host.away_at_start for host in world.hosts)
        for name, history in world.histories():
            result.units += len(history.recorded)
            result.effects += len(history.effects)
            result.executions += len(history.executions)
            result.leases += sum(one.after == "leased" for one in history.changes)
            result.violations += check(history)
            if history.effects and course.is_long:
                result.recovered_seconds = recovered(
                    history.effects, world.last_healed_at, settled=RECOVERY_SECONDS_MAX, until=AFTER_SECONDS
                )
            _say(f"{plan.strategy} {name}: {len(history.recorded)} units")
    return result


def _wait(world: World, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.tend()
        time.sleep(0.2)


def _show(result: Result) -> None:
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(result.faults.items()))
    print(f"{result.strategy}: {'holds' if result.holds else 'BROKEN'}; seed {result.seed}")
    print(f"  {result.faults.total()} faults: {faults}")
    for kind, why in result.unsupported.items():
        print(f"  not made here: {kind}: {why}")
    print(
        f"  {result.units:,} units recorded, {result.effects:,} effects, {result.executions:,} executions,"
        f" {result.leases:,} leases; drained in {result.drain_seconds} s;"
        f" full speed after {result.recovered_seconds} s; {result.away_at_start} found no server when they started"
    )
    for rule, count in Counter(one.rule for one in result.violations).items():
        print(f"  violated: {rule}: {count}")
        for one in [found for found in result.violations if found.rule == rule][:SHOWN_MAX]:
            print(f"    {one.what}")


def _say(words: str) -> None:
    print(f"==> {words}", file=sys.stderr, flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="for all strategies together")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--strategy", choices=(*STRATEGIES, "all"), default="all")
    parser.add_argument("--workers", type=int, default=4, help="of the two supervisors together")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="leave what was written down in this new folder")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the strategies one after the other; 0 if every promise was kept."""
    options = parsed(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    strategies = STRATEGIES if options.strategy == "all" else (options.strategy,)
    minutes, worlds = options.minutes, len(strategies)
    course = Course(minutes * 60 / worlds, math.ceil(max(len(KINDS), minutes * 60 / FAULT_SECONDS) / worlds))
    bag = Bag(KINDS, random.Random(seed))
    results = []
    with tempfile.TemporaryDirectory(prefix="stripedjob-faults-") as temporary, Network() as network:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        with Servers(folder) as servers:
            for strategy in strategies:
                _say(f"{strategy}, seed {seed}")
                plan = Plan(strategy, options.workers, seed)
                results.append(run(plan, course, bag, servers, network))
    for result in results:
        print(json.dumps(_as_json(result))) if options.json else _show(result)
    return 0 if all(result.holds for result in results) else 1


def _as_json(result: Result) -> dict[str, Any]:
    return asdict(result) | {"holds": result.holds}


if __name__ == "__main__":
    sys.exit(main())
