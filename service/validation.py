"""What pydantic cannot see: artifacts that are not there, tensors that do not fit the loss, expressions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, islice

from saddlescope.contract import expressions, limits
from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.layers import Layers, Residual, tensor_shapes
from saddlescope.contract.losses import ExpressionLoss, NetworkLoss, ProgramLoss
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.sources import ArtifactSource, InlineSource, shape_of
from service.destinations import Allowance, DestinationRefused, parse_destination
from service.problems import RequestInvalid
from service.references import AllowedReferences
from service.strict_json import pointer_token

Shape = tuple[int, ...]
MAX_PLACES = 50


def validate(
    request: JobRequest,
    *,
    missing: Callable[[Collection[str]], frozenset[str]],
    references: AllowedReferences,
    allowance: Allowance,
) -> None:
    """Refuse what is certain to fail; what needs the tensors themselves is found by the runner.

    `missing` tells which of some artifacts the project does not have, `references` what else may be named, `allowance`
    where a callback may lead.

    Raises:
        RequestInvalid: with every place that was found.
    """
    found = chain(
        _missing_artifacts(request, missing),
        references.problems(request.checkpoint),
        _loss_problems(request),
        _callback_problems(request, allowance),
    )
    places = list(islice(found, MAX_PLACES))
    if places:
        raise RequestInvalid(f"{places[0].pointer}: {places[0].detail}", errors=places)


def artifact_ids(request: JobRequest) -> dict[str, str]:
    """The artifacts that a request names, by the pointer of each."""
    named = {"/checkpoint": request.checkpoint, "/data": request.data}
    if isinstance(request.loss, ProgramLoss):
        named["/loss/program"] = request.loss.program
    return {f"{at}/artifact": source.artifact for at, source in named.items() if isinstance(source, ArtifactSource)}


def inline_shapes(source: InlineSource) -> dict[str, Shape]:
    return {name: shape_of(value) for name, value in source.inline.items()}


def _missing_artifacts(
    request: JobRequest, missing: Callable[[Collection[str]], frozenset[str]]
) -> Iterator[FieldProblem]:
    named = artifact_ids(request)
    unknown = missing(set(named.values())) if named else frozenset()
    for pointer, artifact in named.items():
        if artifact in unknown:
            yield FieldProblem(
                pointer=pointer,
                detail="this project has no such artifact; upload the bytes first",
                code="artifact_not_found",
            )


def _loss_problems(request: JobRequest) -> Iterator[FieldProblem]:
    loss = request.loss
    if isinstance(loss, NetworkLoss):
        if _nesting(loss.layers) > limits.MAX_LAYER_NESTING:
            detail = f"residual layers are nested deeper than {limits.MAX_LAYER_NESTING}"
            yield FieldProblem(pointer="/loss/layers", detail=detail, code="loss_invalid")
        if isinstance(request.checkpoint, InlineSource):
            yield from _parameter_problems(loss.layers, inline_shapes(request.checkpoint))
        yield from _network_data_problems(request)
    elif isinstance(loss, ExpressionLoss):
        try:
            expressions.parse(loss.expression)
        except expressions.ExpressionError as wrong:
            yield FieldProblem(pointer="/loss/expression", detail=str(wrong), code="loss_invalid")


def _nesting(layers: Layers) -> int:
    return max((1 + _nesting(layer.layers) for layer in layers if isinstance(layer, Residual)), default=0)


def _parameter_problems(layers: Layers, given: Mapping[str, Shape]) -> Iterator[FieldProblem]:
    shapes = tensor_shapes(layers)
    for name, shape in (shapes.parameters | shapes.buffers).items():
        if name not in given:
            detail = f"the loss reads the tensor {name!r} of shape {list(shape)}, which the checkpoint lacks"
            yield FieldProblem(pointer="/checkpoint/inline", detail=detail, code="parameter_mismatch")
        elif given[name] != shape:
            detail = f"the loss reads {name!r} with the shape {list(shape)}; the checkpoint's has {list(given[name])}"
            pointer = f"/checkpoint/inline/{pointer_token(name)}"
            yield FieldProblem(pointer=pointer, detail=detail, code="parameter_mismatch")


def _network_data_problems(request: JobRequest) -> Iterator[FieldProblem]:
    if request.data is None:
        detail = "a network loss needs the data tensors `inputs` and `targets`"
        yield FieldProblem(pointer="/data", detail=detail, code="data_invalid")
        return
    if not isinstance(request.data, InlineSource):
        return
    shapes = inline_shapes(request.data)
    for name in ("inputs", "targets"):
        if name not in shapes:
            detail = f"the tensor {name!r} is missing; a network loss reads `inputs` and `targets`"
            yield FieldProblem(pointer="/data/inline", detail=detail, code="data_invalid")
        elif not shapes[name] or 0 in shapes[name]:
            detail = "a data tensor has at least one row: its first dimension counts the examples"
            yield FieldProblem(pointer=f"/data/inline/{name}", detail=detail, code="data_invalid")
    rows = {shapes[name][0] for name in ("inputs", "targets") if shapes.get(name)}
    if len(rows) > 1:
        detail = (
            f"`inputs` and `targets` have different numbers of rows: {shapes['inputs'][0]} and {shapes['targets'][0]}"
        )
        yield FieldProblem(pointer="/data/inline/targets", detail=detail, code="data_invalid")


def _callback_problems(request: JobRequest, allowance: Allowance) -> Iterator[FieldProblem]:
    if request.callback_url is not None:
        yield from destination_problems(request.callback_url, "/callback_url", allowance)


def destination_problems(url: str, pointer: str, allowance: Allowance) -> Iterator[FieldProblem]:
    """Why no message would ever be sent to a URL, as far as the URL itself tells."""
    try:
        allowance.check_url(parse_destination(url))
    except DestinationRefused as refused:
        yield FieldProblem(pointer=pointer, detail=str(refused), code="destination_refused")
