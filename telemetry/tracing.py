"""OpenTelemetry traces, where an OTLP endpoint is named and the extra `otel` is installed; otherwise nothing is loaded.

The names of the environment are OpenTelemetry's own: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_SDK_DISABLED.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

LAST_SPANS_SECONDS = 3.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")

log = structlog.get_logger()


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether spans have somewhere to go."""
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not is_disabled and any(environment.get(name) for name in _ENDPOINTS)


def trace_id(traceparent: str | None) -> str | None:
    """The trace of a `traceparent` (W3C Trace Context); None if it is none."""
    match = TRACEPARENT.fullmatch(traceparent or "")
    return None if match is None else match[1]


def current_traceparent() -> str | None:
    """The span that is current in this process; None without one, and then nothing is imported."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def tell_route(route: str) -> None:
    """Let the current span name the route instead of the address, in which a caller may have put anything."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        trace.get_current_span().set_attributes({"url.path": route, "url.query": ""})


@contextmanager
def exported_traces(service_name: str) -> Iterator[TracerProvider | None]:
    """A provider whose spans leave by OTLP over HTTP; None where that is not wanted. Sends what is left at the end."""
    if not is_wanted(os.environ):
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        log.warning("tracing_unavailable", detail="install the extra: pip install 'saddlescope[otel]'")
        yield None
        return
    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or service_name}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield provider
    finally:
        # A collector that hangs must not hold up the stop: what it does not take in time is lost.
        sender = threading.Thread(target=provider.shutdown, daemon=True)
        sender.start()
        sender.join(LAST_SPANS_SECONDS)
