"""`expression` losses: the syntax tree of the contract, evaluated on tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from saddlescope.contract.expressions import (
    Call,
    Chain,
    Expression,
    ExpressionError,
    Function,
    Name,
    Negate,
    Number,
    Power,
    Subscript,
    names,
    operands,
    parse,
)
from saddlescope.contract.losses import ExpressionLoss
from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.objective import Problem
from workers.faults import quoted
from workers.losses import BuiltProblem
from workers.losses.bounds import lower_bound
from workers.losses.evaluation import as_tensor, evaluate, invalid_expression


def expression_problem(loss: ExpressionLoss, checkpoint: dict[str, Tensor], data: dict[str, Tensor]) -> BuiltProblem:
    """The closed form over the tensors of checkpoint and data; floating checkpoint tensors vary, all else is constant.

    Integer data count as real numbers. Every floating tensor of the checkpoint is a parameter, used or not.

    Raises:
        JobFault: `loss_invalid` if the expression does not parse, names no parameter or an unknown tensor, or does
            not give one number.
    """
    try:
        tree = parse(loss.expression)
    except ExpressionError as wrong:
        raise invalid_expression(f"the expression cannot be read: {wrong}") from wrong
    params = {name: tensor for name, tensor in checkpoint.items() if tensor.is_floating_point()}
    constants = {name: tensor.double() for name, tensor in checkpoint.items() if name not in params}
    _check_names(tree, params, constants, data)
    numbers = {name: tensor if tensor.is_floating_point() else tensor.double() for name, tensor in data.items()}
    tree = _simplified(tree)

    def batch_loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return as_tensor(evaluate(tree, {**tensors, **batch}))

    _dry_run(batch_loss, {**constants, **params}, numbers)
    bound = lower_bound(tree)
    if loss.reduction is Reduction.SUM and numbers and bound is not None:
        # The bound of one batch holds for a sum of batches only if it is not negative; above 0 their number matters.
        bound = 0.0 if bound >= 0 else None
    return BuiltProblem(
        Problem(
            loss=batch_loss,
            params=params,
            constants=constants,
            data=numbers,
            reduction=loss.reduction,
            weight_decay=loss.weight_decay,
            lower_bound=bound,
            is_additive=False,
        )
    )


def _check_names(
    tree: Expression, params: Mapping[str, Tensor], constants: Mapping[str, Tensor], data: Mapping[str, Tensor]
) -> None:
    both = sorted((params.keys() | constants.keys()) & data.keys())
    if both:
        raise invalid_expression(
            f"{quoted(both[0])} names a tensor of the checkpoint and one of the data; rename one of them"
        )
    used = names(tree)
    unknown = [name for name in used if name not in params and name not in constants and name not in data]
    if unknown:
        known = [*params, *constants, *data]
        shown = ", ".join(quoted(name, 60) for name in known[:20]) + (", …" if len(known) > 20 else "")
        raise invalid_expression(
            f"the expression names {quoted(unknown[0])} (at character {used[unknown[0]] + 1}), "
            f"but checkpoint and data hold only: {shown or 'nothing'}"
        )
    if not any(name in params for name in used):
        raise invalid_expression(
            "the expression uses no floating-point tensor of the checkpoint, so there is nothing to vary"
        )


def _dry_run(
    batch_loss: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
    tensors: Mapping[str, Tensor],
    data: Mapping[str, Tensor],
) -> None:
    """Find wrong shapes on tensors without storage, before anything is computed."""
    value = batch_loss(
        {name: torch.empty_like(tensor, dtype=torch.float64, device="meta") for name, tensor in tensors.items()},
        {name: torch.empty_like(tensor, dtype=torch.float64, device="meta") for name, tensor in data.items()},
    )
    if value.numel() != 1:
        raise invalid_expression(
            f"the expression gives a tensor of shape {tuple(value.shape)}; reduce it with sum or mean"
        )


def _simplified(tree: Expression) -> Expression:
    """The tree with constant parts computed in float64 and norms under even powers freed of their root.

    ‖x‖² is smooth at x = 0 while ‖x‖ is not, and automatic differentiation cannot see that; so are |x|² and (√x)².
    """
    match tree:
        case Number() | Name():
            return tree
        case Negate(operand):
            result: Expression = Negate(_simplified(operand))
        case Subscript(operand, items):
            result = Subscript(_simplified(operand), items)
        case Chain(first, rest):
            result = Chain(_simplified(first), tuple((operator, _simplified(operand)) for operator, operand in rest))
        case Power(base, exponent):
            result = _simplified_power(_simplified(base), _simplified(exponent))
        case Call():
            result = Call(tree.function, tuple(map(_simplified, tree.arguments)), tree.axis, tree.position)
    if all(isinstance(operand, Number) for operand in operands(result)):
        value = as_tensor(evaluate(result, {}))
        if value.dim() or not torch.isfinite(value):
            raise invalid_expression("a constant part of the expression is not a finite float64 number")
        return Number(value.item())
    return result


def _simplified_power(base: Expression, exponent: Expression) -> Expression:
    if not isinstance(base, Call) or not isinstance(exponent, Number) or exponent.value <= 0 or exponent.value % 2:
        return Power(base, exponent)
    match base.function:
        case Function.ABS:
            return Power(base.arguments[0], exponent)
        case Function.NORM:
            squares = Call(Function.SUM, (Power(base.arguments[0], Number(2.0)),), base.axis, base.position)
            return squares if exponent.value == 2 else Power(squares, Number(exponent.value / 2))
        case _:
            return Power(base, exponent)
