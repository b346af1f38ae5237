"""Pure: what a run's progress and its workers' logs say → lines for a person."""

import json
from collections.abc import Mapping
from typing import Any

from stripedjob.local.outlook import Progress, Wait
from stripedjob.observe.log import TOO_LATE
from stripedjob.text import all_printable, counted, duration, rated

NOT_SHOWN = {"event", "level", "logger", "timestamp", "job"}  # of a log record
QUIET_EVENTS = {"connected to Postgres", "draining", "drained"}
FAILED = {"unit ready", "unit delayed", "unit held", "unit dead", TOO_LATE}


def facts(progress: Progress) -> list[tuple[str, str]]:
    """Return what there is to say of a run, but for what it waits for, by name."""
    status = progress.status
    eta = "-" if progress.eta_seconds is None else duration(progress.eta_seconds)
    found = [
        ("workers", f"{progress.workers} ({status.working} at work, at most {status.schedule_limit})"),
        ("pending", f"{status.pending:,}"),
        ("done", f"{status.total_done:,}"),
        ("rate", rated(progress.rate)),
        ("ETA", eta),
    ]
    return found + [(name, f"{number:,}") for name in ("delayed", "held", "dead") if (number := getattr(status, name))]


def waited(wait: Wait) -> str:
    """Say what is waited for, and how long still."""
    return wait.words if wait.seconds is None else f"{wait.words} ({duration(wait.seconds)} left)"


def is_shown(record: Mapping[str, Any]) -> bool:
    """Return whether a log record is for a person; the last words of a process are reported by who started it."""
    return record.get("event") not in QUIET_EVENTS and "exit_code" not in record


def logged(record: Mapping[str, Any]) -> list[str]:
    """Put a log record in words: a line, and those of a traceback."""
    trace = [f"    {all_printable(line)}" for line in str(record.get("traceback", "")).splitlines()]
    safe = all_printable({name: value for name, value in record.items() if name != "traceback"})
    if record.get("event") in FAILED:
        return [_failed(safe), *trace]
    rest = (f"{name}={_quoted(value)}" for name, value in safe.items() if name not in NOT_SHOWN)
    return [" ".join([str(safe["event"]), *rest]), *trace]


def _failed(record: Mapping[str, Any]) -> str:
    unit = f"unit {record.get('unit')} of {record.get('resource')}"
    seconds, crashes = record.get("after_seconds") or 0, record.get("crashes")
    match record["event"]:
        case "unit held":
            fate = "is held until a person releases it"
        case "unit dead":
            fate = "is dead"
        case _ if record["event"] == TOO_LATE:
            fate = "failed, of which nothing was recorded: its lease had been lost"
        case _:
            fate = f"failed and is tried again in {duration(seconds)}" if seconds else "failed and is tried again"
    attempts = record.get("attempts")
    counts = [counted(attempts, "attempt")] if attempts else []
    counts += [f"crashes: {crashes}"] if crashes else []
    counts += ["spared by the circuit breaker"] if record.get("spared") else []
    tries = f" ({', '.join(counts)})" if counts else ""
    return f"{unit} {fate}{tries}: {record.get('reason')}"


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text and not any(sign in text for sign in ' "=') else json.dumps(text, ensure_ascii=False)
