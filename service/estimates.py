"""What a job will cost, from the request alone: orders of magnitude for `?dry_run=true`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from saddlescope.contract.jobs import Estimate, JobRequest
from saddlescope.contract.layers import tensor_shapes
from saddlescope.contract.losses import NetworkLoss
from saddlescope.contract.planning import Plan, memory_bytes, plan
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.sources import ArtifactSource, InlineSource
from saddlescope.contract.vocabulary import Method, Precision
from service.problems import RequestInvalid
from service.validation import inline_shapes
from store.precedents import Precedent

_FLOAT32_BYTES, _FLOAT64_BYTES = 4, 8
_COMPARABLE = 10.0
"""Seconds go with work only between jobs whose work differs by no larger factor."""


def estimate(request: JobRequest, sizes: Mapping[str, int], precedents: Sequence[Precedent] = ()) -> Estimate:
    """`sizes` gives the bytes of each artifact that the request names, `precedents` what finished jobs took.

    Seconds are the median of jobs that differ by checkpoint and seed alone, as those of one training run do. Where there are none,
    they go with products, parameters and examples from jobs of comparable work, and are null where there are none of these either.

    Raises:
        RequestInvalid: for a checkpoint by reference, unless its loss says how large it is.
    """
    num_parameters = _num_parameters(request, sizes)
    if num_parameters is None:
        place = FieldProblem(
            pointer="/checkpoint",
            detail="the size of a checkpoint by reference is not known before a worker reads it",
            code="estimate_unknown",
        )
        raise RequestInvalid("Nothing can be estimated for this checkpoint.", errors=[place])
    options = request.options
    chosen = plan(
        num_parameters,
        method=options.method,
        precision=options.dtype,
        max_matvecs=options.max_matvecs,
        has_float64=isinstance(request.checkpoint, InlineSource),
    )
    num_examples = _num_examples(request)
    return Estimate(
        num_parameters=num_parameters,
        num_examples=num_examples,
        method=chosen.method,
        dtype=chosen.precision,
        matvecs=chosen.max_matvecs,
        seconds=_seconds(request, chosen, num_parameters, num_examples, precedents),
        memory_bytes=memory_bytes(chosen, num_parameters) + sum(sizes.values()),
    )


def _seconds(
    request: JobRequest, chosen: Plan, num_parameters: int, num_examples: int | None, precedents: Sequence[Precedent]
) -> float | None:
    same = [known.usage.seconds for known in precedents if _is_question(known.request, request)]
    if same:
        return median(same)
    rows = {known.report.num_examples for known in precedents if known.request.data == request.data}
    num_rows = num_examples or (rows.pop() if len(rows) == 1 else None)
    if num_rows is None:
        return None
    asked = chosen.max_matvecs * num_parameters * num_rows
    rates = list[float]()
    for known in precedents:
        report = known.report
        work = report.numerics.num_matvecs * report.num_parameters * report.num_examples
        if report.numerics.method is chosen.method and asked <= _COMPARABLE * work and work <= _COMPARABLE * asked:
            rates.append(known.usage.seconds / work)
    return median(rates) * asked if rates else None


def _is_question(known: JobRequest, asked: JobRequest) -> bool:
    """Whether two requests ask the same of different checkpoints."""
    options = (each.options.model_copy(update={"seed": 0}) for each in (known, asked))
    return (known.loss, known.data, next(options)) == (asked.loss, asked.data, next(options))


def least_memory_bytes(request: JobRequest, sizes: Mapping[str, int]) -> int:
    """What no analysis of the request can do without: a job waits for a worker only if this is certainly too much.

    The files, and θ with a gradient and a product; for a dense run the Hessian and its eigenvectors as well. Of a file whose
    names are not known only its size counts, for two thirds of it may be an optimizer's.
    """
    options, files = request.options, sum(sizes.values())
    if isinstance(request.checkpoint, ArtifactSource) and not isinstance(request.loss, NetworkLoss):
        return files + sizes[request.checkpoint.artifact]
    num_parameters = _num_parameters(request, sizes)
    if num_parameters is None:
        return files
    least = _FLOAT64_BYTES if options.dtype is Precision.FLOAT64 else _FLOAT32_BYTES
    columns = 2 * num_parameters if options.method is Method.DENSE else 0
    return files + least * num_parameters * (columns + 3)


def _num_parameters(request: JobRequest, sizes: Mapping[str, int]) -> int | None:
    if isinstance(request.loss, NetworkLoss):
        return sum(math.prod(shape) for shape in tensor_shapes(request.loss.layers).parameters.values())
    if isinstance(request.checkpoint, InlineSource):
        return sum(math.prod(shape) for shape in inline_shapes(request.checkpoint).values())
    # The names of the parameters stand in the file, which the service does not open: float32 is the usual case.
    if isinstance(request.checkpoint, ArtifactSource):
        return sizes[request.checkpoint.artifact] // _FLOAT32_BYTES
    # Of bytes that only the workers can reach the service knows no size.
    return None


def _num_examples(request: JobRequest) -> int | None:
    if not isinstance(request.data, InlineSource):
        return None
    rows = {shape[0] for shape in inline_shapes(request.data).values() if shape}
    return rows.pop() if len(rows) == 1 else None
