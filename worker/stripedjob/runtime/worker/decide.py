"""Pure: outcome of a lease → its settlement. The runtime calls it with every outcome; the pool records what it returns.

Source of the rules: the retry section of the StripedJob resource.
"""

import random
import re
from dataclasses import dataclass

from stripedjob.pool.types import Failure, Fate, Lease, Settlement, Then
from stripedjob.runtime.executor.faults import storable
from stripedjob.runtime.outcome import Fault, Outcome, Verdict
from stripedjob.strategies import OnFailure

AWAY_SECONDS = 1.0  # before units are leased again that went back since their handler's connection was lost
KIND_CHARACTERS_MAX = 200
JITTER = 0.2  # a backoff is drawn from ±20 % of its nominal length, so that units that failed together part


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a unit that failed is tried again, and when it is given up."""

    attempts_max: int = 5
    backoff_seconds: float = 5.0
    backoff_seconds_max: float = 600.0
    crash_threshold: int = 5
    on_failure: OnFailure = "Skip"
    per_resource: bool = False  # a call of the handler tries all units of a lease

    def backoff(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after the given attempt (from 1): doubled each time, with jitter, never above the maximum."""
        nominal = self.backoff_seconds * 2.0 ** min(attempt - 1, 32)
        return min(self.backoff_seconds_max, nominal * rng.uniform(1 - JITTER, 1 + JITTER))


def kind_of(reason: str) -> str:
    """Say what a failure has in common with those alike: the head of its reason, before the words of this one.

    That is the exception's class, the status of an HTTP endpoint, the exit code or the signal of a command. What a
    handler says with stripedjob.Retry counts as it is up to its first colon or bracket.
    """
    head = re.split(r":\s| \(|\n", reason, maxsplit=1)[0]
    return (head or reason)[:KIND_CHARACTERS_MAX]


def settle(lease: Lease, outcome: Outcome, policy: RetryPolicy, rng: random.Random) -> Settlement:
    """Say what becomes of each unit and of the resource. Units that were not started go back as they were."""
    is_plain = outcome.final and not (outcome.faults or outcome.recorded or outcome.suspect or outcome.away)
    if is_plain and outcome.first == 0 and outcome.tried == len(lease.ids):  # most end so
        return Settlement(lease, Then.READY if lease.more else Then.IDLE, lease.ids)
    first = next((fault.index for fault in outcome.faults if fault.verdict is Verdict.RETRY), None)
    failures = tuple(
        _failure(lease, fault, policy, rng, again=policy.per_resource and fault.index != first)
        for fault in outcome.faults
    )
    faulty = {fault.index for fault in outcome.faults}
    tried = range(outcome.first, outcome.tried)
    done = () if outcome.recorded else tuple(lease.ids[i] for i in tried if i not in faulty)
    if not outcome.final:
        return Settlement(lease, Then.KEEP, done, failures)
    left = lease.more or outcome.tried < len(lease.ids) or any(f.to is Fate.READY for f in failures)
    then, wait_seconds = (Then.READY if left else Then.IDLE), None
    if outcome.suspect:
        then = Then.SUSPECT
    if outcome.away:
        then, wait_seconds = Then.WAIT, AWAY_SECONDS
    if policy.on_failure == "Block":
        held = any(f.to is Fate.HELD for f in failures)
        waits = [f.after_seconds for f in failures if f.to is Fate.READY]
        if held or waits:
            then, wait_seconds = Then.WAIT, float("inf") if held else max(waits)
    return Settlement(lease, then, done, failures, wait_seconds)


def _failure(lease: Lease, fault: Fault, policy: RetryPolicy, rng: random.Random, *, again: bool) -> Failure:
    attempts = lease.attempts[fault.index]
    crashes = lease.crashes[fault.index]
    reason = storable(fault.reason) or "no reason was given"
    after_seconds = 0.0
    kind = ""
    match fault.verdict:
        case Verdict.CRASH:
            crashes += 1
            to = Fate.HELD if crashes >= policy.crash_threshold else Fate.READY
        case Verdict.HOLD:
            to = Fate.HELD
        case Verdict.DEAD:
            to = Fate.DEAD
        case Verdict.RETRY:
            attempts += 1
            kind = kind_of(reason)
            if attempts >= policy.attempts_max or policy.on_failure == "Dead":
                to = Fate.DEAD
            else:
                # A blocked resource waits as a whole, and the unit stays at its head.
                to = Fate.READY if policy.on_failure == "Block" else Fate.DELAYED
                asked = fault.after_seconds
                after_seconds = policy.backoff(attempts, rng) if asked is None else asked
    return Failure(lease.ids[fault.index], to, attempts, crashes, reason, after_seconds, fault.trace, kind, again)
