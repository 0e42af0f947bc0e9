"""A recorded linear program made shorter without changing what it computes.

Everything recorded is linear in the tangent, so f(t, c) of an elementwise operation is t times a constant, factors that
follow each other are multiplied beforehand, a constant term is zero and is dropped, and a sum with a product is one call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from saddlescope.curvature.pooling import pool_by_products

aten = torch.ops.aten

# Elementwise and linear in the argument at the position given, for fixed other arguments.
ELEMENTWISE: dict[object, tuple[int, ...]] = {
    aten.mul.Tensor: (0, 1),
    aten.mul.Scalar: (0,),
    aten.div.Tensor: (0,),
    aten.div.Scalar: (0,),
    aten.neg.default: (0,),
    aten.masked_fill.Scalar: (0,),
    aten.where.self: (1, 2),
    aten.gelu_backward.default: (0,),
    aten.tanh_backward.default: (0,),
    aten.sigmoid_backward.default: (0,),
    aten.silu_backward.default: (0,),
    aten.threshold_backward.default: (0,),
    aten.elu_backward.default: (0,),
    aten.softplus_backward.default: (0,),
    aten.leaky_relu_backward.default: (0,),
    aten.hardtanh_backward.default: (0,),
}
FUNCTIONAL: dict[object, Callable[..., object]] = {
    aten.div_.Tensor: aten.div.Tensor,
    aten.div_.Scalar: aten.div.Scalar,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.mul_.Scalar: aten.mul.Scalar,
    aten.neg_.default: aten.neg.default,
    aten.masked_fill_.Scalar: aten.masked_fill.Scalar,
}


def simplify(graph: fx.Graph, constants: dict[str, Tensor]) -> None:
    """Rewrite `graph` and `constants` in place; nothing is touched where a write in place might be seen elsewhere."""
    for node in graph.nodes:
        if node.target in FUNCTIONAL and _is_private(node.args[0]):
            node.target = FUNCTIONAL[node.target]
    if any(_is_mutable(node) for node in graph.nodes):
        return
    rewriting = _Rewriting(graph, constants)
    for node in list(graph.nodes):
        if node.op == "call_function":
            rewriting.visit(node)
    pool_by_products(graph, rewriting.add)
    graph.eliminate_dead_code()
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    for name in set(constants) - used:
        del constants[name]


def _is_mutable(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_private(target: object) -> bool:
    """Whether a write to this node is seen by the writing node alone."""
    if (
        not isinstance(target, fx.Node)
        or len(target.users) != 1
        or not isinstance(target.target, torch._ops.OpOverload)
    ):
        return False
    return all(result.alias_info is None for result in target.target._schema.returns)


class _Rewriting:
    """Peephole rules over a graph whose nodes carry the shape and dtype of their value."""

    def __init__(self, graph: fx.Graph, constants: dict[str, Tensor]) -> None:
        self.graph, self.constants = graph, constants

    def constant(self, value: object) -> Tensor | None:
        if isinstance(value, fx.Node) and value.op == "get_attr":
            return self.constants[str(value.target)]
        return None

    def visit(self, node: fx.Node) -> None:
        if (same := self._same_as(node)) is not None:
            self._replace(node, same)
        elif node.target in ELEMENTWISE:
            self._fold_factor(node)
        elif node.target is aten.add.Tensor and len(node.args) == 2 and not node.kwargs:
            self._fuse_sum(node)

    def _same_as(self, node: fx.Node) -> fx.Node | None:
        """A node with the value of this one, where this one does nothing."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            return None
        if node.target is aten.t.default and source.target is aten.t.default:
            inner = source.args[0]
            return inner if isinstance(inner, fx.Node) else None
        if node.target in (aten._to_copy.default, aten.expand.default, aten.view.default, aten.detach.default):
            return source if _kind(source) == _kind(node) and _kind(node) is not None else None
        if node.target is aten.add.Tensor and len(node.args) == 2:
            for term, other in (node.args, node.args[::-1]):
                value = self.constant(term)
                if value is not None and isinstance(other, fx.Node) and _kind(other) == _kind(node) and not value.any():
                    return other
        return None

    def _fold_factor(self, node: fx.Node) -> None:
        """f(t, c) = t·f(1, c), one multiplication, and one only for a chain of them."""
        tangents = [index for index, value in enumerate(node.args) if self._is_tangent(value)]
        if len(tangents) != 1 or tangents[0] not in ELEMENTWISE[node.target]:
            return
        source = node.args[tangents[0]]
        if not isinstance(source, fx.Node) or _kind(source) != _kind(node) or _kind(node) is None:
            return
        factor = self._factor(node, tangents[0])
        inner = source.meta.get("factor") if len(source.users) == 1 else None
        if inner is not None and factor is not None:
            factor, source = inner * factor, source.args[0]
        if not isinstance(factor, Tensor):
            return  # a number: as cheap as it is
        with self.graph.inserting_before(node):
            product = self.graph.call_function(aten.mul.Tensor, (source, self.add(factor)))
        product.meta.update(kind=_kind(node), factor=factor)
        self._replace(node, product)

    def _replace(self, node: fx.Node, new: fx.Node) -> None:
        """The old node goes at once: it would count among the users of its arguments."""
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)

    def add(self, value: Tensor) -> fx.Node:
        name = f"factor{len(self.constants)}"
        self.constants[name] = value
        return self.graph.get_attr(name)

    def _is_tangent(self, value: object) -> bool:
        return isinstance(value, fx.Node) and value.op != "get_attr"

    def _factor(self, node: fx.Node, index: int) -> Tensor | float | None:
        """c with f(t) = t·c: what f gives at 1, or the number that it multiplies by."""
        values = [self.constant(value) if isinstance(value, fx.Node) else value for value in node.args]
        if node.target is aten.neg.default:
            return -1.0
        other = values[1 - index] if len(values) == 2 else None
        if node.target in (aten.mul.Tensor, aten.mul.Scalar):
            return other if isinstance(other, (Tensor, int, float)) else None
        if node.target in (aten.div.Tensor, aten.div.Scalar):
            return 1.0 / other if isinstance(other, (Tensor, int, float)) and not node.kwargs else None
        shape, dtype, device = node.meta["kind"]
        values[index] = torch.ones(shape, dtype=dtype, device=device)
        factor = node.target(*values, **node.kwargs) if callable(node.target) else None
        return factor if isinstance(factor, Tensor) else None

    def _fuse_sum(self, node: fx.Node) -> None:
        """x + a@b and x + t·c, one call each: a pass over memory less."""
        for term, other in (node.args, node.args[::-1]):
            if not isinstance(term, fx.Node) or not isinstance(other, fx.Node) or len(term.users) != 1:
                continue
            fused = None
            if term.target is aten.mm.default and _kind(term) == _kind(node):
                fused = aten.addmm.default
            elif term.meta.get("factor") is not None and _kind(term) == _kind(node) == _kind(other):
                fused = aten.addcmul.default
            elif term.target is aten.bmm.default and _kind(term) == _kind(node) == _kind(other):
                fused = aten.baddbmm.default
            if fused is not None:
                with self.graph.inserting_before(node):
                    total = self.graph.call_function(fused, (other, *term.args))
                total.meta["kind"] = _kind(node)
                self._replace(node, total)
                return


def _kind(node: fx.Node) -> object:
    """Shape, dtype and device of the node's value, None where it has several."""
    return node.meta.get("kind")
