"""Pure: which promises a history breaks. Each rule is a function from a History to its violations."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.faults.history import History, Outcome, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.faults.history import Change, Effect, Enqueued, Pause

CLOCK_SECONDS = 0.1  # by which two clocks of one machine may differ, and a process may be late to look at one
RESUME_SECONDS = 1.0  # within which a process that was stopped has looked at its deadline
NEVER = float("inf")


def check(history: History) -> list[Violation]:
    """Return every violation of every rule."""
    return [found for rule in RULES for found in rule(history)]


def recovered(effects: Sequence[Effect], healed_at: float, *, settled: int, until: int) -> int:
    """Return the seconds from the last fault to full speed, `until` where it never came.

    Full speed: in one second, half as many effects as in the median second from `settled` to `until`.
    """
    rates = Counter(int(one.at - healed_at) for one in effects if one.at >= healed_at)
    full = statistics.median(rates[second] for second in range(settled, until))
    return next((second for second in range(until) if full and rates[second] >= full / 2), until)


def lost(history: History) -> Iterator[Violation]:
    """Every unit of a committed transaction is recorded in the end, and none of one that failed."""
    done = {one.unit for one in history.recorded}
    outcomes = {one.unit: one for one in history.enqueued}
    for unit, one in outcomes.items():
        if one.outcome is Outcome.OK and unit not in done:
            yield Violation("lost", f"unit {unit} of {one.resource} was committed and never recorded")
        if one.outcome is Outcome.FAIL and unit in done:
            yield Violation("unborn", f"unit {unit} of {one.resource} was rolled back and recorded")
    for unit in done - outcomes.keys():
        yield Violation("unborn", f"unit {unit} was recorded and nobody put it in")


def recorded_once(history: History) -> Iterator[Violation]:
    """A unit is recorded once, and counted once; it has as many effects where these are in the same database."""
    for unit, times in Counter(one.unit for one in history.recorded).items():
        if times > 1:
            yield Violation("twice", f"unit {unit} was recorded {times} times")
    if history.total_done != len(history.recorded):
        yield Violation("miscounted", f"{len(history.recorded)} units were recorded, {history.total_done} counted")
    if not history.promises.transactional:
        return
    done = {one.unit for one in history.recorded}
    effects = Counter(one.unit for one in history.effects)
    for unit, times in effects.items():
        if times > 1:
            yield Violation("twice", f"unit {unit} has {times} effects")
    for unit in done ^ effects.keys():
        side = "recorded without an effect" if unit in done else "not recorded, and has an effect"
        yield Violation("torn", f"unit {unit} was {side}")


def handled(history: History) -> Iterator[Violation]:
    """Nothing is recorded that no handler has brought to its end."""
    ended = {one.unit for one in history.executions if one.ended is not None}
    for one in history.recorded:
        if one.unit not in ended:
            yield Violation("unhandled", f"unit {one.unit} was recorded and never handled to its end")


def leases_exclude(history: History) -> Iterator[Violation]:
    """A resource has one lease at a time, and fences grow."""
    newest: dict[str, int] = {}
    for one in history.changes:
        if one.after != "leased":
            continue
        if one.before == "leased" and one.fence_before != one.fence_after:
            yield Violation("two leases", f"{one.resource} was leased under {one.fence_after} over {one.fence_before}")
        if one.fence_after < newest.get(one.resource, 0):
            yield Violation("fence back", f"{one.resource}: {one.fence_after} after {newest[one.resource]}")
        newest[one.resource] = max(newest.get(one.resource, 0), one.fence_after)


def effects_under_leases(history: History) -> Iterator[Violation]:
    """An effect was committed while its fence was the newest of its resource and its lease had not ended."""
    spans = _spans(history.changes)
    for one in history.effects:
        granted, ended = spans.get((one.resource, one.fence), (NEVER, NEVER))
        if not granted <= one.at <= ended:
            yield Violation("stale effect", f"unit {one.unit} of {one.resource} under {one.fence}: {_when(one, ended)}")


def executions_under_leases(history: History) -> Iterator[Violation]:
    """No execution begins after its lease has ended, and none goes on beside the next one's lease.

    A process that was stopped meanwhile could not know; what it does in its first second is forgiven.
    """
    spans = _spans(history.changes)
    fences: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for (resource, fence), (granted, _) in spans.items():
        fences[resource].append((granted, fence))
    following: dict[tuple[str, int], float] = {}
    for resource, grants in fences.items():
        grants.sort()
        following |= {(resource, fence): at for (_, fence), (at, _) in pairwise(grants)}
    pauses: dict[int, list[Pause]] = defaultdict(list)
    for pause in history.pauses:
        pauses[pause.pid].append(pause)
    for one in history.executions:
        key = one.resource, one.fence
        over = spans.get(key, (NEVER, -NEVER))[1] + CLOCK_SECONDS
        beside = following.get(key, NEVER) + CLOCK_SECONDS
        if one.began > over and not _was_stopped(pauses[one.pid], one.began):
            yield Violation("late", f"unit {one.unit} began {one.began - over:.2f} s after {key} had ended")
        elif one.ended is not None and one.ended > beside and not _was_stopped(pauses[one.pid], one.ended):
            yield Violation("overlap", f"unit {one.unit} under {key} ran {one.ended - beside:.2f} s beside the next")


def order(history: History) -> Iterator[Violation]:
    """Where order is strict: a unit enqueued after another's commit has its effect after it."""
    if not history.promises.strict_order:
        return
    known = {one.unit: one for one in history.enqueued}
    by_resource: dict[str, list[Effect]] = defaultdict(list)
    for effect in sorted(history.effects, key=lambda one: one.at):
        by_resource[effect.resource].append(effect)
    for effects in by_resource.values():
        first: Enqueued | None = None  # of those that come after: the one that was committed first
        for effect in reversed(effects):
            one = known.get(effect.unit)
            if one is None:
                continue
            if first is not None and first.ended < one.began:
                yield Violation("order", f"{one.resource}: unit {one.unit} before {first.unit}, committed before it")
            if one.outcome is Outcome.OK and (first is None or one.ended < first.ended):
                first = one


def cap(history: History) -> Iterator[Violation]:
    """At every claim, no more workers hold leases than the limit says."""
    owners: dict[str, int] = {}
    for one in history.changes:
        if one.after == "leased":
            owners[one.resource] = one.worker
            working = len(set(owners.values()))
            if working > history.promises.limit:
                yield Violation("cap", f"{working} workers at work when {one.resource} was leased")
        else:
            owners.pop(one.resource, None)


def throttled(history: History) -> Iterator[Violation]:
    """In each area, at most so many resources are out, and no more starts in any span of time than its bucket gives.

    A span is measured from the beginning of the first statement to the writing of the last, which is longer than the
    span between the two looks at the bucket: so what is reported is a violation for certain.
    """
    throttle = history.promises.throttle
    if throttle is None:
        return
    out: dict[str, set[str]] = defaultdict(set)
    starts: dict[str, int] = defaultdict(int)
    most: dict[str, float] = defaultdict(lambda: -NEVER)  # of all starts so far: its rate x time - its number
    rate = throttle.rate / throttle.period_seconds
    for one in history.changes:
        area = one.area
        if one.after not in {"assigned", "leased"}:
            out[area].discard(one.resource)
            continue
        out[area].add(one.resource)
        if len(out[area]) > throttle.outstanding_max:
            yield Violation("outstanding", f"{len(out[area])} resources of area {area!r} were out")
        if one.after == "assigned" and one.before != "assigned":
            starts[area] += 1
            most[area] = max(most[area], rate * one.began - starts[area])
            if starts[area] + 1 - rate * one.at + most[area] > throttle.burst + 1e-6:
                yield Violation("rate", f"area {area!r} was quicker than its bucket at start {starts[area]}")


def ended(history: History) -> Iterator[Violation]:
    """Nothing ends by itself, something was done, and nothing is left."""
    if not history.recorded:
        yield Violation("idle", "nothing was recorded")
    for one in history.exits:
        yield Violation("ended by itself", f"{one.who}: {one.words}")
    for name, count in history.left.items():
        if count:
            yield Violation("left", f"{count} {name}")
    for words in history.stuck:
        yield Violation("left", words)


RULES = (
    *(lost, recorded_once, handled, leases_exclude, effects_under_leases, executions_under_leases),
    *(order, cap, throttled, ended),
)


def _spans(changes: list[Change]) -> dict[tuple[str, int], tuple[float, float]]:
    """Return for each lease when it was granted and when it ended; NEVER: not yet."""
    spans: dict[tuple[str, int], tuple[float, float]] = {}
    for one in changes:
        if one.after == "leased" and (one.before != "leased" or one.fence_before != one.fence_after):
            spans[one.resource, one.fence_after] = one.at, NEVER
        elif one.before == "leased" and one.after != "leased":
            granted = spans.get((one.resource, one.fence_before), (NEVER, NEVER))[0]
            spans[one.resource, one.fence_before] = granted, one.at
    return spans


def _when(effect: Effect, ended_at: float) -> str:
    return "there was no such lease" if ended_at == NEVER else f"committed {effect.at - ended_at:.3f} s after its end"


def _was_stopped(pauses: list[Pause], at: float) -> bool:
    return any(one.began <= at <= one.ended + RESUME_SECONDS for one in pauses)
