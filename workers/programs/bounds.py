"""A number that the loss of a program never falls below, by interval arithmetic over its nodes.

The analysis compares what is left to gain with L minus this bound; most losses are sums of squares or cross-entropies, and 0 is
theirs. Intervals hold entry by entry. What is not known here may be anything, so that a bound is never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from workers.programs.signature import Signature
from workers.programs.wire import Argument, Node, TensorMeta

Interval = tuple[float, float]

_ANYTHING: Interval = (-math.inf, math.inf)
_NONNEGATIVE: Interval = (0.0, math.inf)
_NONPOSITIVE: Interval = (-math.inf, 0.0)
_RANGES: Mapping[str, Interval] = {
    "abs square exp exp2 relu cosh sqrt rsqrt erfc var std linalg_vector_norm norm mse_loss l1_loss smooth_l1_loss huber_loss "
    "soft_margin_loss margin_ranking_loss triplet_margin_loss sym_size sym_numel": _NONNEGATIVE,
    "log_softmax _log_softmax log_sigmoid": _NONPOSITIVE,
    "sigmoid softmax _softmax eq ne lt le gt ge logical_and logical_or logical_not one_hot isnan": (0.0, 1.0),
    "tanh sin cos erf sign cosine_similarity": (-1.0, 1.0),
}
_FIXED: Mapping[str, Interval] = {name: interval for names, interval in _RANGES.items() for name in names.split()}
_REARRANGING = """
view _unsafe_view reshape flatten unflatten transpose permute t unsqueeze squeeze expand expand_as broadcast_to repeat clone
contiguous alias detach lift_fresh_copy to _to_copy type_as select slice narrow gather index index_select flip roll diagonal unbind
split split_with_sizes chunk amax amin max min mean
""".split()  # noqa: SIM905  (a table to read)
_ROUNDING = 1e-5  # of a loss evaluated in float32, relative to its bound
_INTEGERS = frozenset((1, 2, 3, 4, 5))


def lower_bound(
    nodes: list[Node], signature: Signature, described: Mapping[str, TensorMeta], tensors: Mapping[str, Tensor]
) -> float | None:
    """The greatest known lower bound of the loss, or None. `tensors` are those that do not vary: constants and data."""
    known: dict[str, Interval] = {}
    for value, name in (signature.tensors | {name: name for name in signature.data}).items():
        if name in tensors and tensors[name].numel():
            known[value] = (float(tensors[name].min()), float(tensors[name].max()))
    for node in nodes:
        interval = _interval(node, known, described)
        known.update((name, interval) for name in _outputs(node))
    low = known.get(signature.loss, _ANYTHING)[0]
    return low - _ROUNDING * abs(low) if math.isfinite(low) else None


def _outputs(node: Node) -> Iterator[str]:
    for output in node.outputs:
        if output.as_tensor is not None:
            yield output.as_tensor.name
        for tensor in output.as_tensors or ():
            yield tensor.name
        for symbolic in (output.as_sym_int, output.as_sym_float):
            if symbolic is not None and symbolic.as_name is not None:
                yield symbolic.as_name


def _interval(node: Node, known: Mapping[str, Interval], described: Mapping[str, TensorMeta]) -> Interval:
    name = (
        node.target.removeprefix("torch.ops.aten.").removeprefix("_operator.").removeprefix("torch.").partition(".")[0]
    )
    inputs = {argument.name: argument.arg for argument in node.inputs}
    operands = [_operand(argument.arg, known) for argument in node.inputs]
    if name in _FIXED:
        return _FIXED[name]
    if name in _REARRANGING and operands and len(node.outputs) == 1 and not node.target.endswith((".other", ".values")):
        return operands[0]
    if name in _ARITHMETIC and len(operands) == 2:
        same = (
            inputs.keys() >= {"self", "other"}
            and inputs["self"] == inputs["other"]
            and inputs["self"].as_tensor is not None
        )
        return _NONNEGATIVE if same and name == "mul" else _ARITHMETIC[name](*operands)
    if name == "softplus" and len(operands) == 1:
        return _NONNEGATIVE
    if name == "neg":
        return (-operands[0][1], -operands[0][0])
    if name == "sum" and operands:
        return _sign(operands[0])
    if name == "pow" and node.target.endswith("Tensor_Scalar"):
        exponent = operands[1]
        is_even = exponent[0] == exponent[1] and exponent[0] % 2 == 0
        return _NONNEGATIVE if is_even or operands[0][0] >= 0 else _ANYTHING
    if name in ("clamp_min", "clamp") and operands:
        floor = _operand(inputs["min"], known)[0] if "min" in inputs else -math.inf
        return (max(floor, operands[0][0]), math.inf) if name == "clamp_min" or "max" not in inputs else _ANYTHING
    return _loss(name, inputs, known, described)


def _loss(
    name: str, inputs: Mapping[str, Argument], known: Mapping[str, Interval], described: Mapping[str, TensorMeta]
) -> Interval:
    """Losses whose sign depends on their targets and weights."""
    weights = [
        _operand(inputs[key], known) for key in ("weight", "pos_weight") if key in inputs and not inputs[key].as_none
    ]
    if any(low < 0 for low, _ in weights):
        return _ANYTHING
    target = inputs.get("target")
    if target is None or target.as_tensor is None:
        return _ANYTHING
    low, high = known.get(target.as_tensor.name, _ANYTHING)
    meta = described.get(target.as_tensor.name)
    is_class = meta is not None and meta.dtype in _INTEGERS
    if name == "cross_entropy_loss" and (is_class or low >= 0):
        return _NONNEGATIVE
    if name.startswith("nll_loss") and "self" in inputs and _operand(inputs["self"], known)[1] <= 0:
        return _NONNEGATIVE
    if name == "binary_cross_entropy_with_logits" and low >= 0 and high <= 1:
        return _NONNEGATIVE
    return _ANYTHING


def _operand(argument: Argument, known: Mapping[str, Interval]) -> Interval:
    for number in (argument.as_int, argument.as_float):
        if number is not None:
            return (float(number), float(number)) if math.isfinite(float(number)) else _ANYTHING
    if argument.as_tensor is not None:
        return known.get(argument.as_tensor.name, _ANYTHING)
    for symbolic in (argument.as_sym_int, argument.as_sym_float):
        if symbolic is not None and symbolic.as_name is not None:
            return known.get(symbolic.as_name, _ANYTHING)
    return _ANYTHING


def _sign(operand: Interval) -> Interval:
    return (0.0 if operand[0] >= 0 else -math.inf, 0.0 if operand[1] <= 0 else math.inf)


def _times(one: Interval, other: Interval) -> Interval:
    corners = [a * b if a and b else 0.0 for a in one for b in other]  # 0 * inf is 0 here: every entry is finite
    return (min(corners), max(corners))


def _over(one: Interval, other: Interval) -> Interval:
    if other[0] < 0 < other[1] or other == (0.0, 0.0):
        return _ANYTHING
    reciprocal = (0.0 if math.isinf(other[1]) or not other[1] else 1 / other[1], 1 / other[0] if other[0] else math.inf)
    return _times(one, reciprocal) if other[0] >= 0 else _ANYTHING


_ARITHMETIC: Mapping[str, Callable[[Interval, Interval], Interval]] = {
    "add": lambda one, other: (one[0] + other[0], one[1] + other[1]),
    "sub": lambda one, other: (one[0] - other[1], one[1] - other[0]),
    "mul": _times,
    "div": _over,
    "truediv": _over,
}
