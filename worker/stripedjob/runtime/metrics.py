"""What Prometheus gets of a worker or a delegator: made of what the observer has counted, at each scrape."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stripedjob.runtime.observe import Observer
from stripedjob.times import cumulated

OUTCOMES = ("done", "ready", "delayed", "held", "dead")
COUNTS = {
    "leases": "Leases taken.",
    "lock_tries": "Locks asked for.",
    "lock_refusals": "Locks refused or unavailable.",
    "stale": "Leases whose settlement was refused.",
    "batches": "Batches recorded.",
    "losses": "Times that the worker was considered dead.",
}


class _Metrics(Collector):
    """The counts, gauges and histograms of one observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Called in the thread of a scrape."""
        seen = self._observer
        units = CounterMetricFamily("stripedjob_units", "Units by how their try ended.", labels=["job_type", "outcome"])
        for outcome in OUTCOMES:
            units.add_metric([seen.job, outcome], seen.units[outcome])
        yield units
        for name, help_ in COUNTS.items():
            counter = CounterMetricFamily(f"stripedjob_{name}", help_, labels=["job_type"])
            counter.add_metric([seen.job], seen.counts[name])
            yield counter
        up = GaugeMetricFamily("stripedjob_up", "Whether an engine can be reached.", labels=["job_type", "engine"])
        for engine, is_up in (("pool", seen.is_pool_up), ("lock", seen.is_lock_up)):
            up.add_metric([seen.job, engine], is_up)
        yield up
        for name, help_, histogram in (
            ("wait", "How long units wait for their handler, from when they could first be claimed.", seen.wait),
            ("run", "How long the handler's call of a unit takes.", seen.run),
        ):
            family = HistogramMetricFamily(f"stripedjob_unit_{name}_seconds", help_, labels=["job_type"])
            family.add_metric([seen.job], cumulated(list(histogram.counts)), histogram.seconds)
            yield family


def registry_of(observer: Observer) -> CollectorRegistry:
    """Return a registry that holds these metrics and nothing else."""
    registry = CollectorRegistry()
    registry.register(_Metrics(observer))
    return registry
