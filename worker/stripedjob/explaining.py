"""Pure: the facts about a resource → what a person wants to hear. The facts are those of explain() in SQL.

Its times are texts as Postgres writes them in JSON: also `infinity`, and years that Python has no date for.
"""

import datetime as dt
from typing import Any

from stripedjob.text import all_printable, counted, printable

HALF_A_DAY_SECONDS = 43_200.0


def sentences(facts: dict[str, Any], *, suspended: bool) -> list[str]:
    """Say how the resource stands, why, and what to do about it: lines without control characters."""
    safe = _safe(facts)
    return [_standing(safe, suspended=suspended), *_units(safe), *_set_aside(facts)]


def standing(facts: dict[str, Any], *, suspended: bool) -> str:
    """Say the first of these sentences alone: how the resource stands and why."""
    return _standing(_safe(facts), suspended=suspended)


def why_waiting(facts: dict[str, Any]) -> str:
    """Say why a resource waits that goes on by itself; of the facts it needs next_at, head, barrier and ready."""
    return _why_waiting(_safe(facts))


def why_not_yet(facts: dict[str, Any], *, suspended: bool) -> str:
    """Say why a ready resource is not leased yet."""
    return _why_not_yet(_safe(facts), suspended=suspended)


def _safe(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: all_printable(value) for name, value in facts.items() if name != "set_aside"}


def _standing(facts: dict[str, Any], *, suspended: bool) -> str:
    match facts["state"]:
        case "leased" | "assigned":
            return _owned(facts)
        case "waiting":
            return _waiting(facts)
        case "ready":
            return f"{facts['resource']} is ready; {_why_not_yet(facts, suspended=suspended)}"
    return _without_stripe(facts, suspended=suspended)


def _owned(facts: dict[str, Any]) -> str:
    resource, state = facts["resource"], facts["state"]
    if facts["worker"] is None:
        return f"{resource} is {state} to a worker that is gone; another worker takes it back within seconds."
    if state == "assigned":
        return (
            f"{resource} is assigned to worker {facts['worker_id']} ({facts['worker']}) since "
            f"{_when(facts, 'assigned_at')}, which leases it next."
        )
    return (
        f"{resource} is being worked on by worker {facts['worker_id']} ({facts['worker']}) since "
        f"{_when(facts, 'leased_at')}, under fence {facts['fence']}; the lease ends "
        f"{_when(facts, 'lease_ends_at')} unless it is renewed.{_then_paused(facts)}"
    )


def _then_paused(facts: dict[str, Any]) -> str:
    return f" It is {_paused(facts['paused'])}: it is not leased again." if facts["paused"] else ""


def _waiting(facts: dict[str, Any]) -> str:
    resource, by = facts["resource"], facts["paused"]
    if by:
        return f"{resource} is {_paused(by)}; `stripedjob resume --resource` lets it go on."
    if not facts["waits_for_person"]:
        return f"{resource} {_until(facts)}: {_why_waiting(facts)}"
    if facts["barrier"] and not facts["held"]:
        return f"{resource} waits for unit {facts['barrier']['id']}, which is due never."
    return f"{resource} waits until a person releases or purges its held unit (stripedjob release, purge)."


def _until(facts: dict[str, Any]) -> str:
    """Say until when it waits; where that is over, that nobody has looked since."""
    if _seconds(facts, "next_at", 1.0) > 0:
        return f"waits until {_when(facts, 'next_at')}"
    nobody = "" if facts["workers"] else ", and no worker is there to go on with it"
    return f"has waited until {_when(facts, 'next_at')}{nobody}"


def _without_stripe(facts: dict[str, Any], *, suspended: bool) -> str:
    resource = facts["resource"]
    if facts["arriving"]:
        if suspended or facts["limit"] == 0 or not facts["workers"]:
            return f"{resource} has new units; {_why_not_yet(facts, suspended=suspended)}"
        return f"{resource} has new units, which a worker takes up within seconds."
    if facts["delayed"]:
        if facts["next_due_at"] == "infinity":
            return f"{resource} has nothing to do: its delayed units are due never."
        return f"{resource} has nothing to do before {_when(facts, 'next_due_at')}."
    if facts["held"] or facts["dead"]:
        return f"{resource} has nothing to do but what is set aside."
    return f"{resource} has nothing to do: all its units are done, or it never had any under exactly this name."


def _why_waiting(facts: dict[str, Any]) -> str:
    head, barrier = facts["head"], facts["barrier"]
    if barrier and barrier["due_at"] == facts["next_at"]:
        return f"unit {barrier['id']} is due then, and the {facts['ready']} after it keep their order."
    if head and head["reason"]:
        return f"unit {head['id']} is to be tried again (attempts: {head['attempts']}): {head['reason']}"
    return _why_refused(facts.get("lock"))


def may_be_locked(facts: dict[str, Any]) -> bool:
    """Return whether a resource may wait for its lock: what explains it then is in the lock backend."""
    if facts["state"] != "waiting" or facts["waits_for_person"]:
        return False
    head, barrier = facts["head"], facts["barrier"]
    return not (head and head["reason"]) and not (barrier and barrier["due_at"] == facts["next_at"])


def _why_refused(lock: dict[str, Any] | None) -> str:
    """Say who has the lock: None, nobody was asked."""
    refused = "its lock was refused, or its handler could not reach Postgres"
    if lock is None:
        return f"{refused}; the key is in the lock backend, see docs/locks.md."
    if lock["error"]:
        return f"{refused}; the lock backend cannot say who has it: {lock['error']}"
    if lock["token"] is None:
        return f"{refused}; nobody has the lock any more, so that it goes on then."
    left = "for ever: it has no expiry" if lock["seconds_left"] is None else f"for {lock['seconds_left']:.0f} s more"
    return f"its lock is held by {lock['token']!r}, somebody outside of this pool, {left}, unless it is given back."


def _why_not_yet(facts: dict[str, Any], *, suspended: bool) -> str:
    if facts["job_paused"]:
        return f"the job is {_paused(facts['job_paused'])}; `stripedjob resume` lets it go on."
    if suspended or facts["limit"] == 0:
        return "the job is suspended or its scheduleLimit is 0, so nothing is claimed."
    if facts["breaker"]:
        return f"the job has its {_breaker(facts)}."
    if not facts["workers"]:
        return "no worker is there to claim it."
    if facts["delegated"] and not facts["delegator"]:
        return "no delegator is there to assign it to a worker."
    return _throttled(facts) or _in_line(facts)


def _paused(by: dict[str, Any]) -> str:
    why = f" ({by['why']})" if by["why"] else ""
    return f"paused by {by['who']} since {by['at']}{why}"


def breaker_words(failures: int, kind: str, until: str, seconds: float, probe: str = "") -> str:
    """Say why a job's circuit breaker is not closed. `seconds`: until it is half open; `probe`: what is tried then."""
    after = f"after {counted(failures, 'failure')}{' alike' if failures > 1 else ''}: {kind}"
    if seconds > 0:
        return f"circuit breaker open until {_clock(until, seconds)} {after}; then one unit is tried"
    tried = f"a unit of {probe} is tried now" if probe else "one unit is tried next"
    return f"circuit breaker half open {after}; {tried}"


def _clock(text: str, seconds: float) -> str:
    """Return a time of the day, with the day where that is not soon; what Python cannot reckon with, as it is."""
    try:
        moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return text
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if seconds > HALF_A_DAY_SECONDS else f"{moment:%H:%M:%S} UTC"


def _breaker(facts: dict[str, Any]) -> str:
    found = facts["breaker"]
    seconds = seconds_until(found["until"], facts["now"]) or 0.0
    return breaker_words(found["failures"], found["kind"], found["until"], seconds, found["probe"] or "")


def _throttled(facts: dict[str, Any]) -> str:
    """Say what the throttle of its area has against it; nothing where there is none."""
    if facts["area"] is None:
        return ""
    area = f"its area {facts['area']!r}" if facts["area"] else "the job"
    if facts["outstanding"] >= facts["outstanding_max"]:
        return f"{area} has as many resources at work as throttle.maxOutstanding allows: {facts['outstanding_max']}."
    if facts["token_at"] and facts["token_at"] > facts["now"]:
        return f"{area} may start the next resource {_when(facts, 'token_at')}, by throttle.rate."
    return ""


def _in_line(facts: dict[str, Any]) -> str:
    if facts["working"] >= facts["limit"]:
        return f"all {facts['limit']} slots of scheduleLimit are taken, and {facts['ahead']} resources come before it."
    if facts["crashes"]:
        return f"{facts['crashes']} workers died with it, so it is leased alone, one unit at a time."
    return f"{facts['ahead']} resources come before it."


def _units(facts: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{facts[name]} {name}" for name in ("ready", "delayed", "held", "dead") if facts[name])
    due = f"; the next delayed one is due {_when(facts, 'next_due_at')}" if facts["delayed"] else ""
    return [f"Its units: {counts}{due}."] if counts else []


def _set_aside(facts: dict[str, Any]) -> list[str]:
    lines = []
    for one in facts["set_aside"] or []:
        lines.append(f"Unit {one['id']} is {one['state']}: {printable(one['reason'])}")
        lines += [f"    {printable(line)}" for line in (one.get("trace") or "").splitlines()]
    return lines


def _when(facts: dict[str, Any], name: str) -> str:
    """Return a time and how far it is from the database's now; what Python cannot reckon with, as it is."""
    text = facts[name]
    if text == "infinity":
        return "never"
    seconds = seconds_until(text, facts["now"])
    if seconds is None:
        return str(text)
    moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    distance = f"in {seconds:.0f} s" if seconds >= 0 else f"{-seconds:.0f} s ago"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({distance})"


def _seconds(facts: dict[str, Any], name: str, otherwise: float) -> float:
    seconds = seconds_until(facts[name], facts["now"])
    return otherwise if seconds is None else seconds


def seconds_until(text: str, now: str) -> float | None:
    """Return how far one of the database's times is from its now; None for what Python cannot reckon with."""
    try:
        moment, this = (dt.datetime.fromisoformat(one).astimezone(dt.UTC) for one in (text, now))
    except (ValueError, OverflowError):
        return None
    return (moment - this).total_seconds()
