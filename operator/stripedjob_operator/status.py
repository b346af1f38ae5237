"""Pure: from what is known of a StripedJob to its status, and from two statuses to the Events between them.

Ready is True when nothing keeps the job from doing what its spec says: every part of it can be reached, the Deployment
is as the spec asks, and, where there are to be workers, at least one is ready.
"""

import math
from dataclasses import dataclass
from typing import Any

from stripedjob.pool.client.viewer import JobStatus, breaker, paused
from stripedjob.spec.model import StripedJob
from stripedjob_operator.manifests import selector
from stripedjob_operator.observed import LOCK_PENDING, Pod, Problem, Raw

POOL_PENDING = Problem("PoolPending", "the pool has not been read yet")
RATE_DIGITS = 2
PENDING = {POOL_PENDING.reason, LOCK_PENDING.reason}
UNKNOWN = PENDING | {"WithinLimit", "NoProblem"}  # reasons of conditions that may be otherwise once all is asked
OF_NUMBERS = ("UnitsHeld", "UnitsDead", "CircuitBreaker")  # conditions that there are once the pool was read
STOPPED = ("Suspended", "Paused")  # reasons of Ready under which nothing is claimed


@dataclass(frozen=True, slots=True)
class View:
    """All that a status is made of.

    `invalid`: what keeps the whole StripedJob from running, such as a mistake in it. `pool`, `lock`, `schedule`,
    `apply`: what is wrong with them.
    `replicas`: pods that the Deployment has. `rolled_out`: it is as the spec asks. `delegating`: a delegator is ready.
    """

    job: StripedJob | None
    generation: int
    invalid: Problem | None = None
    pool: Problem | None = None
    lock: Problem | None = None
    schedule: Problem | None = None
    apply: Problem | None = None
    numbers: JobStatus | None = None
    rate: float = 0.0
    desired: int = 0
    replicas: int = 0
    ready: int = 0
    rolled_out: bool = False
    delegating: bool = False
    pods: tuple[Pod, ...] = ()
    scheduled_at: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, without its times."""

    type: str
    status: bool | None  # None: unknown
    reason: str
    message: str


def status(view: View, old: Raw, now: str) -> Raw:
    """Return the status; a condition that stays as it is keeps its lastTransitionTime. `now`: RFC 3339."""
    before = {one["type"]: one for one in old.get("conditions", [])}
    written = [_written(one, before.get(one.type), view.generation, now) for one in conditions(view)]
    made: Raw = {"observedGeneration": view.generation, "conditions": _known(written, before, view)}
    if view.job is None:
        return {**old, **made}
    made["jobType"] = view.job.job_type
    made["replicas"] = view.replicas
    made["selector"] = ",".join(f"{key}={value}" for key, value in selector(view.job).items())
    numbers = view.numbers
    made["workers"] = {
        "desired": view.desired,
        "ready": view.ready,
        "working": numbers.working if numbers else old.get("workers", {}).get("working", 0),
    }
    if numbers:
        made["pool"] = {
            "pending": numbers.pending,
            "delayed": numbers.delayed,
            "inFlight": numbers.in_flight,
            "held": numbers.held,
            "dead": numbers.dead,
            "resources": numbers.ready_resources + numbers.leased_resources + numbers.waiting_resources,
        }
        made["ratePerSecond"] = _rounded(view.rate)
    elif "pool" in old:  # the last that was known; PoolReachable says that it is old
        made["pool"] = old["pool"]
        made["ratePerSecond"] = 0
    scheduled_at = view.scheduled_at or old.get("lastScheduleTime")
    if scheduled_at:
        made["lastScheduleTime"] = scheduled_at
    return made


def _known(found: list[Raw], before: dict[str, Raw], view: View) -> list[Raw]:
    """Let what was said of the same spec before stand where nothing is known yet: a new operator has to ask first."""

    def old(kind: str) -> Raw | None:
        return before[kind] if kind in before and before[kind]["observedGeneration"] == view.generation else None

    if view.invalid or not any(one["reason"] in PENDING for one in found):
        return found
    known = [(one["reason"] in UNKNOWN and old(one["type"])) or one for one in found]
    types = {one["type"] for one in known}
    return known + [one for kind in OF_NUMBERS if kind not in types and (one := old(kind))]


def patch(new: Raw, old: Raw) -> Raw | None:
    """Return the merge patch that makes `new` of `old`; None where nothing has changed."""
    if new == old:
        return None
    return new | {name: None for name in old if name not in new}


def conditions(view: View) -> list[Condition]:
    """Return all conditions, in the order in which a person reads them."""
    if view.job is None or view.invalid:
        problem = view.invalid or Problem("Unknown", "")
        return [Condition("Ready", False, *_words(problem)), Condition("Stalled", True, *_words(problem))]
    found = [_ready(view), _progressing(view), _pool(view), _lock(view), _limited(view), _stalled(view)]
    if view.numbers:
        name = view.job.metadata.name
        found += [
            _set_aside(
                "UnitsHeld", view.numbers.held, f"they wait for a person: stripedjob release, StripedJob {name}"
            ),
            _set_aside("UnitsDead", view.numbers.dead, f"out of attempts: stripedjob retry, StripedJob {name}"),
        ]
        if view.job.spec.retry.circuit_breaker.failures:
            found.append(_breaker(view.numbers))
    if view.job.spec.schedule:
        found.append(_schedule(view, view.job.spec.schedule.cron))
    return found


def events(new: Raw, old: Raw) -> list[tuple[str, str, str]]:
    """Return the Events (kind, reason, message) that a change of status is worth."""
    found: list[tuple[str, str, str]] = []
    before = {one["type"]: one for one in old.get("conditions", [])}
    after = {one["type"]: one for one in new.get("conditions", [])}
    workers = (old.get("workers", {}).get("desired"), new.get("workers", {}).get("desired"))
    if workers[1] is not None and (workers[0] or 0) != workers[1]:
        pending = new.get("pool", {}).get("pending", 0)
        found.append(("Normal", "Scaled", f"{workers[0] or 0} → {workers[1]} workers; {pending} units are pending"))
    was, now = (_reason(one, "Ready") for one in (before, after))
    if before and now != was and now in STOPPED:
        message = "nothing is claimed any more" if now == "Suspended" else after["Ready"]["message"]
        found.append(("Normal", now, message))
    elif was in STOPPED and now not in STOPPED:
        found.append(("Normal", "Resumed", "work goes on"))
    for kind, good in (
        ("PoolReachable", "True"),
        ("LockReachable", "True"),
        ("ScheduleWorks", "True"),
        ("Stalled", "False"),
        ("CircuitBreaker", "False"),
    ):
        was, now_ = before.get(kind, {}).get("status", good), after.get(kind, {}).get("status", good)
        if was in {good, "Unknown"} and now_ not in {good, "Unknown"}:
            found.append(("Warning", after[kind]["reason"], after[kind]["message"]))
        elif was not in {good, "Unknown"} and now_ == good and kind in after and kind in before:
            found.append(("Normal", after[kind]["reason"], after[kind]["message"]))
    for name in ("dead", "held"):
        counts = [one.get("pool", {}).get(name, 0) for one in (old, new)]
        if counts[1] > counts[0]:
            found.append(("Warning", f"Units{name.capitalize()}", f"{counts[1] - counts[0]} more units are {name}"))
    return list(dict.fromkeys(found))  # what makes a part unreachable makes the job stall: once is enough


def _ready(view: View) -> Condition:
    problem = view.apply or view.pool or view.lock
    if view.numbers is None:
        problem = problem or POOL_PENDING
    if not view.rolled_out:
        problem = problem or Problem("RollingOut", "the workers are being replaced")
    if view.desired and not view.ready:
        problem = problem or _pod_problem(view) or Problem("WorkersStarting", "no worker is ready yet")
    if view.desired and view.job and view.job.strategy.delegated and not view.delegating:
        problem = problem or _pod_problem(view) or Problem("DelegatorStarting", "the delegator is not ready yet")
    if problem:
        return Condition("Ready", False, *_words(problem))
    return Condition("Ready", True, *_well(view))


def _well(view: View) -> tuple[str, str]:
    """Say what a StripedJob does that has no problem."""
    assert view.job is not None  # noqa: S101 - conditions() has looked
    if view.job.spec.suspend:
        return "Suspended", "spec.suspend is true: nothing is claimed"
    if view.job.effective_limit == 0:
        return "LimitIsZero", "spec.scheduleLimit is 0: none may work"
    if view.numbers and view.numbers.paused_by is not None:
        return "Paused", f"{paused(view.numbers)}: nothing is claimed until `stripedjob resume`"
    if view.desired == 0:
        return "Idle", "nothing is to be done: no workers are needed"
    return "Working", f"{view.ready} of {view.desired} workers are ready"


def _progressing(view: View) -> Condition:
    if view.rolled_out and view.ready == view.desired == view.replicas:
        return Condition("Progressing", False, "AsDesired", f"{view.desired} workers")
    return Condition("Progressing", True, "Scaling", f"{view.ready} of {view.desired} workers are ready")


def _pool(view: View) -> Condition:
    if view.pool:
        return Condition("PoolReachable", False, *_words(view.pool))
    if view.numbers is None:
        return Condition("PoolReachable", None, *_words(POOL_PENDING))
    return Condition("PoolReachable", True, "Reachable", "Postgres answers")


def _lock(view: View) -> Condition:
    if view.lock:
        return Condition("LockReachable", None if view.lock == LOCK_PENDING else False, *_words(view.lock))
    assert view.job is not None  # noqa: S101 - conditions() has looked
    where = f"{view.job.spec.lock.backend} answers" if view.job.spec.lock.secret_ref else "locks are in the pool"
    return Condition("LockReachable", True, "Reachable", where)


def _schedule(view: View, cron: str) -> Condition:
    if view.schedule:
        return Condition("ScheduleWorks", False, *_words(view.schedule))
    if view.numbers is None:  # units are enqueued in the pool
        return Condition("ScheduleWorks", None, *_words(view.pool or POOL_PENDING))
    return Condition("ScheduleWorks", True, "Scheduled", f"by {cron}")


def _limited(view: View) -> Condition:
    job, numbers = view.job, view.numbers
    assert job is not None  # noqa: S101 - conditions() has looked
    each = job.spec.scaling.resources_per_worker or job.spec.concurrency
    wanted = math.ceil((numbers.ready_resources + numbers.leased_resources) / each) if numbers else 0
    if wanted > job.effective_limit:
        return Condition("Limited", True, "Limit", f"{wanted} workers would have work; {job.effective_limit} may work")
    return Condition("Limited", False, "WithinLimit", "the limit keeps no work waiting")


def _stalled(view: View) -> Condition:
    lock = None if view.lock == LOCK_PENDING else view.lock
    problem = view.apply or view.pool or lock or _pod_problem(view)
    if problem:
        return Condition("Stalled", True, *_words(problem))
    return Condition("Stalled", False, "NoProblem", "nothing is in the way")


def _set_aside(kind: str, units: int, then: str) -> Condition:
    if units:
        return Condition(kind, True, kind, f"{units} units: {then}")
    return Condition(kind, False, "None", "no unit is")


def _breaker(numbers: JobStatus) -> Condition:
    if words := breaker(numbers):
        return Condition("CircuitBreaker", True, "CircuitOpen", f"{words}; `stripedjob resume` closes it")
    return Condition("CircuitBreaker", False, "CircuitClosed", "its last tries did not all fail alike")


def _pod_problem(view: View) -> Problem | None:
    return next((pod.problem for pod in view.pods if pod.problem and not pod.ending), None)


def _words(problem: Problem) -> tuple[str, str]:
    return problem.reason, problem.message


def _reason(found: dict[str, Raw], kind: str) -> str:
    return str(found.get(kind, {}).get("reason", ""))


def _written(condition: Condition, old: Raw | None, generation: int, now: str) -> dict[str, Any]:
    text = {True: "True", False: "False", None: "Unknown"}[condition.status]
    same = old is not None and old["status"] == text
    return {
        "type": condition.type,
        "status": text,
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if old and same else now,
        "reason": condition.reason,
        "message": condition.message,
    }


def _rounded(rate: float) -> float:
    if rate <= 0:
        return 0
    digits = RATE_DIGITS - 1 - math.floor(math.log10(rate))
    rounded = round(rate, digits)
    return int(rounded) if digits <= 0 else rounded
