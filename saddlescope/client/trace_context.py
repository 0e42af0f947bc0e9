"""W3C Trace Context of the caller: a call made inside a span of OpenTelemetry belongs to that span's trace."""

from __future__ import annotations

import sys


def current_traceparent() -> str | None:
    """The span that is current here; None without one. Imports nothing: who has a span has imported OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
