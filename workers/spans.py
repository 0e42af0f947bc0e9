"""The trace of one job, told when it has ended: the job, its runner, and the stages that the runner went through.

The runner itself sends nothing: it has no network and no address. Its stages are known from its progress lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from store.queue import Claim
from workers.metrics import outcome_label
from workers.outcome import Fault, Judgement
from workers.settlement import Watched

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def tell_job(provider: TracerProvider, claim: Claim, judgement: Judgement, watched: Watched | None) -> None:
    """Spans `job` ⊃ `runner` ⊃ one for each stage; the job is a child of the request that submitted it."""
    from opentelemetry import trace  # noqa: PLC0415 - only where traces are wanted
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    tracer, ended = provider.get_tracer("saddlescope"), time.time_ns()
    carrier = {} if claim.traceparent is None else {"traceparent": claim.traceparent}
    started = ended if watched is None else watched.started_ns
    attributes: Mapping[str, str | int] = {
        "saddlescope.job": claim.job_id,
        "saddlescope.project": claim.project,
        "saddlescope.attempt": claim.attempt,
        "saddlescope.fence": claim.fence,
        "saddlescope.outcome": outcome_label(judgement),
    }
    job = tracer.start_span(
        "job",
        context=TraceContextTextMapPropagator().extract(carrier),
        kind=trace.SpanKind.CONSUMER,
        start_time=started,
        attributes=attributes,
    )
    if isinstance(judgement, Fault):
        job.set_attribute("error.type", judgement.code.value)
        job.set_status(trace.StatusCode.ERROR)
    if watched is not None:
        inside = trace.set_span_in_context(job)
        runner = tracer.start_span("runner", context=inside, start_time=started)
        left = started + int(watched.seconds * 1e9)
        ends = [mark.at_ns for mark in watched.marks[1:]] + [left]
        for mark, end in zip(watched.marks, ends, strict=False):
            stage = tracer.start_span(
                mark.stage.value, context=trace.set_span_in_context(runner), start_time=mark.at_ns
            )
            stage.end(max(mark.at_ns, end))
        runner.end(left)
        tracer.start_span("settle", context=inside, start_time=left).end(max(left, ended))
    job.end(max(started, ended))
