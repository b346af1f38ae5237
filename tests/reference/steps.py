"""Interleaves workers by a seed, one step at a time: the same seed, the same interleaving."""

import random
from collections.abc import Callable, Generator

# A worker stops wherever another process could come in between; it returns how many successors it schedules.
Steps = Generator[None, None, int]


def interleave(start: Callable[[], Steps], workers: int, seed: int, steps_max: int) -> bool:
    """Start one worker, and let it and its successors go on in turns; False: they did not end within `steps_max` steps.

    There are at most `workers` at a time: a successor whom there is no slot for is not started.
    """
    rng = random.Random(seed)
    at_work = [start()]
    for _ in range(steps_max):
        if not at_work:
            return True
        one = rng.choice(at_work)
        try:
            next(one)
        except StopIteration as end:
            at_work.remove(one)
            at_work += [start() for _ in range(min(int(end.value), workers - len(at_work)))]
    return not at_work
