"""What the operator shows in /metrics: what it counts of itself, and, read at each scrape, the numbers of its jobs.

Labels have bounded values: namespaces, StripedJobs, and words that stand here.
"""

import json
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stripedjob.pool.client.operator import Measures
from stripedjob.times import cumulated
from stripedjob_operator.databases import Backlog, Databases
from stripedjob_operator.observed import Key, Observed
from stripedjob_operator.queue import WorkQueue

OWN = "stripedjob_operator"
JOB = "stripedjob_job"
LABELS = ("namespace", "stripedjob")  # a target's own labels are job and instance
UNITS = {"pending": "pending", "in_flight": "in_flight", "delayed": "delayed", "held": "held", "dead": "dead"}
RESOURCES = {"ready": "ready_resources", "leased": "leased_resources", "waiting": "waiting_resources"}
WORKERS = {"registered": "workers", "working": "working", "limit": "schedule_limit"}
TOTALS = {
    "done": ("total_done", "Units done."),
    "retried": ("total_retried", "Tries that failed and are made again."),
    "crashed": ("total_crashed", "Units that a worker died with."),
    "stale": ("total_stale", "Leases whose settlement came too late and was refused."),
    "leases": ("total_claimed", "Leases taken."),
    "lock_tries": ("total_lock_tries", "Locks asked for."),
    "lock_refusals": ("total_lock_refusals", "Locks that somebody else had."),
}


class OperatorMetrics:
    """What the operator counts of itself."""

    def __init__(self, registry: CollectorRegistry, queue: WorkQueue[Key], observed: Observed) -> None:
        """Register them."""
        self.reconciles = Counter(f"{OWN}_reconciles", "Reconciles of a StripedJob.", ["result"], registry=registry)
        self.seconds = Histogram(f"{OWN}_reconcile_seconds", "How long a reconcile takes.", registry=registry)
        waiting = Gauge(f"{OWN}_queue", "StripedJobs that wait for a reconcile.", registry=registry)
        waiting.set_function(lambda: len(queue))
        known = Gauge(f"{OWN}_stripedjobs", "StripedJobs that are known.", registry=registry)
        known.set_function(lambda: len(observed.jobs))


class JobMetrics(Collector):
    """The numbers of all jobs, as they were last read, and their conditions, while this operator leads."""

    def __init__(self, observed: Observed, databases: Databases) -> None:
        """Take where they are read."""
        self._observed, self._databases = observed, databases

    def describe(self) -> Iterable[Metric]:
        """Say nothing of it at registration: what there is follows from the jobs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all of them. Called in the thread of a scrape: what is walked through is copied first."""
        backlogs = {key: backlog for one in self._databases.things() for key, backlog in list(one.jobs.items())}
        yield _gauge("units", "Units by where they stand.", "state", UNITS, backlogs)
        yield _gauge("resources", "Resources by where they stand; counted up to 10,000.", "state", RESOURCES, backlogs)
        yield _gauge("workers", "Registered workers, those at work, and how many may be.", "state", WORKERS, backlogs)
        for name, (field, help_) in TOTALS.items():
            total = CounterMetricFamily(f"{JOB}_{name}", help_, labels=LABELS)
            for key, backlog in backlogs.items():
                total.add_metric(key, getattr(backlog.status, field))
            yield total
        yield _breakers(backlogs)
        rate = GaugeMetricFamily(f"{JOB}_units_per_second", "Units done a second, over 10 seconds.", labels=LABELS)
        for key, backlog in backlogs.items():
            rate.add_metric(key, backlog.rate)
        yield rate
        yield from _times({key: one.measures for key, one in backlogs.items() if one.measures is not None})
        yield self._conditions()

    def _conditions(self) -> Metric:
        family = GaugeMetricFamily(
            f"{JOB}_condition", "Whether a condition is True (1), or not (0).", labels=(*LABELS, "condition")
        )
        for key, raw in list(self._observed.jobs.items()):
            for condition in json.loads(raw["status"]).get("conditions", []):
                family.add_metric((*key, condition["type"]), condition["status"] == "True")
        return family


def _breakers(backlogs: dict[Key, Backlog]) -> Metric:
    help_ = "Whether the circuit breaker keeps work back (1), open or half open, or not (0)."
    family = GaugeMetricFamily(f"{JOB}_breaker_open", help_, labels=LABELS)
    for key, backlog in backlogs.items():
        family.add_metric(key, backlog.status.breaker_until is not None)
    return family


def _times(measures: dict[Key, Measures]) -> Iterator[Metric]:
    """Yield what is measured of jobs; the age is 0 where nothing waits for a worker."""
    age = GaugeMetricFamily(
        f"{JOB}_oldest_unit_age_seconds", "How long the oldest unit in line could have been claimed.", labels=LABELS
    )
    wait = HistogramMetricFamily(
        f"{JOB}_unit_wait_seconds", "How long units wait for their handler, as workers say.", labels=LABELS
    )
    run = HistogramMetricFamily(
        f"{JOB}_unit_run_seconds", "How long the handler's call of a unit takes, as workers say.", labels=LABELS
    )
    for key, one in measures.items():
        age.add_metric(key, one.oldest_seconds or 0.0)
        wait.add_metric(key, cumulated(one.waits), one.wait_seconds)
        run.add_metric(key, cumulated(one.runs), one.run_seconds)
    yield from (age, wait, run)


def _gauge(name: str, help_: str, label: str, fields: dict[str, str], backlogs: dict[Key, Backlog]) -> Metric:
    family = GaugeMetricFamily(f"{JOB}_{name}", help_, labels=(*LABELS, label))
    for key, backlog in backlogs.items():
        for word, field in fields.items():
            family.add_metric((*key, word), getattr(backlog.status, field))
    return family
