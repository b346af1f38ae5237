"""Pure: what happened to a unit, a resource or a job → words; events are those of resource_history() in SQL."""

from typing import Any

from stripedjob.text import all_printable

WORDS = {
    "enqueued": "put in{later}",
    "leased": "leased to {who}{under}, for try {attempt}",
    "done": "done by {who}{under}, at try {attempt}",
    "failed": "try {attempt} failed at {who}{under}, {since}{why}",
    "crashed": "worker {who} died with it, crash {attempt}, {since}",
    "lost": "the lease of {who}{under} ran out",
    "returned": "given back by {who}{under}",
    "cancelled": "{by}{why}{leased}",
    "retried": "was dead, made ready again by {who}",
    "released": "was held, made ready again by {who}",
    "hurried": "told by {who} not to wait any longer",
    "purged": "removed for good by {who}{why}",
    "paused": "paused by {who}{why}",
    "resumed": "no longer paused, by {who}",
}
OF_THE_JOB = {"paused": "the job was paused by {who}{why}", "resumed": "the job was resumed by {who}"}
SINCE = {
    "ready": "it is tried again",
    "delayed": "it is tried again later",
    "held": "it is held",
    "dead": "it is dead",
}


def told(event: dict[str, Any]) -> str:
    """Say what happened, without when and to what: one line without control characters."""
    safe = all_printable(event)
    parts = {
        "later": ", due later" if safe["state"] == "delayed" else "",
        "under": "" if safe["fence"] is None else f" under fence {safe['fence']}",
        "since": SINCE.get(safe["state"], ""),
        "why": f": {safe['reason']}" if safe["reason"] else "",
        "by": "dead" if safe["who"] is None else f"cancelled by {safe['who']}",  # the reason says who
        "leased": "" if safe["state"] else "; its lease ends first",
    }
    known = OF_THE_JOB if event["resource"] is None else WORDS
    words = known.get(event["event"], "{event}")
    return words.format(**safe, **parts)
