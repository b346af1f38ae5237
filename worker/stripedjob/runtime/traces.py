"""Spans of OpenTelemetry, of both processes of a worker, where `stripedjob[otel]` is there and a collector is named.

The executor makes one around each call of the handler. The main process makes those of a unit's way there and back, and
only for units that were put in by something that is traced: they are children of that, as the call is.
"""

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stripedjob.observe.log import logger
from stripedjob.unit import Unit

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

    from stripedjob.pool.types import Lease

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SERVICE = "OTEL_SERVICE_NAME"
CLOSE_SECONDS = 2.0
LINKS_MAX = 128  # of the call for a resource: the SDK's own bound


def is_asked_for() -> bool:
    """Return whether the environment names a collector, and does not switch traces off."""
    is_off = (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not is_off and any(os.environ.get(name) for name in ENDPOINTS)


def open_traces(job: str) -> "Traces | None":
    """Begin to trace in this process; None where that is not asked for, or OpenTelemetry is not installed."""
    if not is_asked_for():
        return None
    try:
        from opentelemetry import trace  # noqa: PLC0415 - 15 MB for those who ask for it
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        way = "pip install 'stripedjob[otel]'"
        logger.warning("nothing is traced: OpenTelemetry is not installed", extra={"error": str(error), "way": way})
        return None
    resource = Resource.create({} if os.environ.get(SERVICE) else {"service.name": "stripedjob"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)  # what a handler traces by itself goes the same way
    made = Traces(provider, job)
    atexit.register(made.close)  # of an executor; after the hooks of the handler's modules
    return made


class Traces:
    """Makes spans. `job`: NAMESPACE/TYPE."""

    def __init__(self, provider: "TracerProvider", job: str) -> None:
        """Take where spans go."""
        self._provider, self._job = provider, job
        self._tracer = provider.get_tracer("stripedjob")

    @contextlib.contextmanager
    def around(self, work: Unit | list[Unit]) -> Iterator[None]:
        """Be in the span of a call of the handler: with a unit, or with those of a resource."""
        from opentelemetry.trace import Link, SpanKind, get_current_span  # noqa: PLC0415 - as above

        units = work if isinstance(work, list) else [work]
        traced = [_parent(unit.traceparent) for unit in units[:LINKS_MAX] if unit.traceparent]
        with self._tracer.start_as_current_span(
            f"process {self._job}",
            context=traced[0] if traced else None,
            kind=SpanKind.CONSUMER,
            links=[Link(get_current_span(one).get_span_context()) for one in traced[1:]],
            attributes=self._attributes(units[0].id, units[0].resource, units[0].fence)
            | {"messaging.batch.message_count": len(units), "stripedjob.attempt": units[0].attempt},
        ):
            yield

    def add(
        self, name: str, leases: Sequence["Lease"], times: Callable[["Lease", int], tuple[float, float]], now: float
    ) -> None:
        """Add a span of each traced unit. `times`: its beginning and end, by the clock whose time is `now`."""
        wall = time.time_ns()
        for lease in leases:
            for place, traceparent in enumerate(lease.traceparents):
                if traceparent:
                    began, ended = (wall - round((now - moment) * 1e9) for moment in times(lease, place))
                    span = self._tracer.start_span(
                        f"{name} {self._job}",
                        context=_parent(traceparent),
                        start_time=began,
                        attributes=self._attributes(lease.ids[place], lease.resource, lease.fence),
                    )
                    span.end(end_time=ended)

    def close(self) -> None:
        """Send what has not been sent, for CLOSE_SECONDS at most: a collector that is away holds up no end."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)  # by itself it takes up to 30 s
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _attributes(self, unit: int, resource: str, fence: int) -> dict[str, Any]:
        return {
            "messaging.system": "stripedjob",
            "messaging.destination.name": self._job,
            "messaging.message.id": str(unit),
            "stripedjob.resource": resource,
            "stripedjob.fence": fence,
        }


def _parent(traceparent: str) -> "Context":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - as above

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})
