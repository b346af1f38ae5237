"""Pure: what is in a job's way, as outlook() in SQL gives it → lines for a person, without control characters."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from stripedjob.text import all_printable, counted, duration


def lines(outlook: dict[str, Any]) -> Iterator[str]:
    """Yield the lines; none where nothing is in the way."""
    safe = all_printable(outlook)
    if safe["oldest_at"]:
        yield f"{'oldest':<10} a unit has waited for a worker for {_ago(safe, safe['oldest_at'])}"
    for state in ("dead", "held"):
        by = safe[state]
        few = f" of {by['most']:,} looked at" if by["looked"] == by["most"] else ""
        for one in by["reasons"]:
            yield f"{state:<10} {counted(one['units'], 'unit')}{few}: {one['reason']}"
    for one in safe["ready"]:
        yield f"{'ready':<10} {one['resource']} for {_ago(safe, one['since'])}, {counted(one['ready'], 'unit')}"
    for one in (*safe["waiting"], *safe["for_person"]):
        yield f"{'waiting':<10} {one['resource']} {_why(safe, one)}"


def _why(safe: dict[str, Any], one: dict[str, Any]) -> str:
    if one["paused"]:
        why = f": {one['paused']['why']}" if one["paused"]["why"] else ""
        return f"is paused by {one['paused']['who']}{why}"
    if one["held"]:
        return f"waits for a person: unit {one['held']} is held: {one['reason']}"
    if one["next_at"] == "infinity":
        return "waits for a unit that is due never"
    left = _seconds(safe, one["next_at"])
    until = "now" if left is None or left <= 0 else f"for {duration(left)} more"
    if one["barrier"] and one["barrier"]["due_at"] == one["next_at"]:
        return f"waits {until}: unit {one['barrier']['id']} is due then"
    if one["head"] and one["head"]["reason"]:
        return f"waits {until}: unit {one['head']['id']} is to be tried again: {one['head']['reason']}"
    return f"waits {until} for its lock (stripedjob explain says who has it)"


def _ago(safe: dict[str, Any], moment: str) -> str:
    left = _seconds(safe, moment)
    return moment if left is None else duration(-left)


def _seconds(safe: dict[str, Any], moment: str) -> float | None:
    """Return how far a time is from the database's now; None for what Python cannot reckon with."""
    try:
        there, now = (dt.datetime.fromisoformat(text).astimezone(dt.UTC) for text in (moment, safe["now"]))
    except (ValueError, OverflowError):
        return None
    return (there - now).total_seconds()
