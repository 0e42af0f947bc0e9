"""What a job will cost, from the request alone: orders of magnitude for `?dry_run=true`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from saddlescope.contract.jobs import Estimate, JobRequest
from saddlescope.contract.layers import tensor_shapes
from saddlescope.contract.losses import NetworkLoss
from saddlescope.contract.planning import memory_bytes, plan
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.sources import ArtifactSource, InlineSource
from saddlescope.contract.vocabulary import Method, Precision
from service.problems import RequestInvalid
from service.validation import inline_shapes

_FLOAT32_BYTES, _FLOAT64_BYTES = 4, 8


def estimate(request: JobRequest, sizes: Mapping[str, int]) -> Estimate:
    """`sizes` gives the bytes of each artifact that the request names.

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
    return Estimate(
        num_parameters=num_parameters,
        num_examples=_num_examples(request),
        method=chosen.method,
        dtype=chosen.precision,
        matvecs=chosen.max_matvecs,
        seconds=None,
        memory_bytes=memory_bytes(chosen, num_parameters) + sum(sizes.values()),
    )


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
