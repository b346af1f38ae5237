"""The W3C Trace Context of what puts a unit in, which goes with the unit to its handler. See docs/tracing.md.

Called where units are put in, and for what a handler calls. OpenTelemetry is not imported here: where nothing else has
imported it, nothing is traced.
"""

import sys


def current_traceparent() -> str | None:
    """Return the context of the span that is current in this thread or task; None where there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
