"""The gradient's derivative as a straight-line program: v to Hv without the forward pass that found it.

The gradient is evaluated once with a tangent beside θ (forward over reverse). Of the operations that run, those on tangents are
recorded and those on values alone are folded into constants; the record, replayed on another v, is Hv. It is linear in v,
so neighbouring factors are multiplied beforehand, zero terms are dropped and sums of matrix products become one call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.fx.node import Argument
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from saddlescope.curvature.in_place import reuse_memory
from saddlescope.curvature.simplify import simplify

aten = torch.ops.aten
Gradient: TypeAlias = Callable[[Tensor], Tensor]


class NotRecordable(RuntimeError):
    """An operation changes a constant in place where others may see it: the record could not be replayed."""


class LinearMap:
    """v (n,) to Hv (n,) at one θ and one batch, by replay; `num_bytes` is what its constants hold.

    Attributes:
        graph: what is replayed, as operations that write nothing in place; not to be changed.
        constants: its tensors by name.
    """

    def __init__(self, graph: fx.Graph, constants: Mapping[str, Tensor]) -> None:
        self.graph, self.constants = copied(graph), constants
        reuse_memory(graph)
        self._product = _program(graph, constants)
        seen = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in constants.values()}
        self.num_bytes = sum(seen.values())

    def __call__(self, vector: Tensor) -> Tensor:
        with torch.no_grad():
            # Not through the module's call, which costs as much as a small operation.
            product: Tensor = self._product.forward(vector)
        return product

    @cached_property
    def _rows(self) -> fx.GraphModule:
        # Nothing is written in place, for which vmap lacks rules; what could be viewed singly may have to be copied in a block.
        for node in self.graph.nodes:
            node.target = aten.reshape.default if node.target is aten.view.default else node.target
        return _program(self.graph, self.constants)

    def rows(self, block: Tensor) -> Tensor:
        """Rows H·block[i] (k, n), batched by vmap."""
        with torch.no_grad():
            products: Tensor = torch.func.vmap(self._rows)(block)
        return products


def linearize(gradient: Gradient, theta: Tensor) -> LinearMap | None:
    """The derivative of `gradient` at θ (n,); None where the gradient is constant. Costs three to five gradients, once.

    Raises:
        NotRecordable: if what ran cannot be replayed.
        RuntimeError, NotImplementedError: if an operation has no forward derivative.
    """
    with torch.autograd.set_multithreading_enabled(False), forward_ad.dual_level():
        # Not a zero tangent: operations may take shortcuts there.
        tangent = torch.ones_like(theta)
        recorder = _Recorder(tangent)
        leaf = forward_ad.make_dual(theta.detach(), tangent).requires_grad_()  # type: ignore[no-untyped-call]
        with recorder:
            result = gradient(leaf)
            moved: Tensor | None = forward_ad.unpack_dual(result).tangent  # type: ignore[no-untyped-call]
        if moved is None:
            return None
        graph, constants = recorder.finish(moved)
    simplify(graph, constants)
    return LinearMap(graph, constants)


def _program(graph: fx.Graph, constants: Mapping[str, Tensor]) -> fx.GraphModule:
    """The graph as it is now, as a function; its constants are plain attributes: buffers take ten times as long to look up."""
    program = fx.GraphModule(nn.Module(), fx.Graph())
    vars(program).update(constants)
    program.graph = graph
    return program


def copied(graph: fx.Graph) -> fx.Graph:
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    return copied


def _with_memory(value: Argument) -> Argument:
    """The argument, with zeros in the place of autograd's zero tensors.

    These have no memory; torch's own dispatch never hands them to a kernel, but below a dispatch mode it does.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(_with_memory(part) for part in value)
    if isinstance(value, Tensor) and torch._is_zerotensor(value):
        return torch.zeros(value.shape, dtype=value.dtype, device=value.device)
    return value


class _Recorder(TorchDispatchMode):
    """Runs every operation, and writes down those that take a tangent."""

    def __init__(self, tangent: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        self._nodes = WeakIdKeyDictionary()
        self._named = WeakIdKeyDictionary()
        self._nodes[tangent] = self.graph.placeholder("vector")

    def _moves(self, values: Sequence[object]) -> bool:
        """Whether a tangent is among the arguments, which hold tensors in lists at most."""
        return any(
            self._moves(value)
            if isinstance(value, (list, tuple))
            else isinstance(value, Tensor) and value in self._nodes
            for value in values
        )

    def _node(self, value: Argument) -> Argument:
        if isinstance(value, (list, tuple)):
            return [self._node(part) for part in value]
        if not isinstance(value, Tensor):
            return value
        if value in self._nodes:
            moving: fx.Node = self._nodes[value]
            return moving
        if value not in self._named:
            name = f"constant{len(self.constants)}"
            self.constants[name] = value.detach()
            self._named[value] = self.graph.get_attr(name)
        named: fx.Node = self._named[value]
        return named

    def __torch_dispatch__(
        self,
        function: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Argument, ...] = (),
        kwargs: dict[str, Argument] | None = None,
    ) -> object:
        args = tuple(_with_memory(value) for value in args)
        kwargs = {name: _with_memory(value) for name, value in (kwargs or {}).items()}
        if not self._moves((*args, *kwargs.values())):
            return function(*args, **kwargs)
        if function._schema.is_mutable:
            self._free_target(args[0])
        node = self.graph.call_function(
            function,
            tuple(self._node(value) for value in args),
            {name: self._node(value) for name, value in kwargs.items()},
        )
        result = function(*args, **kwargs)
        self._track(result, node)
        return result

    def _free_target(self, target: object) -> None:
        """A constant that is written to is written anew at every replay, from its value before."""
        if not isinstance(target, Tensor) or target in self._nodes:
            return
        if target._is_view() or target in self._named:
            raise NotRecordable("a constant that others may see is changed in place")
        fresh = self._node(target.clone())
        self._nodes[target] = self.graph.call_function(aten.clone.default, (fresh,))

    def _track(self, result: object, node: fx.Node) -> None:
        if isinstance(result, Tensor):
            node.meta["kind"] = (result.shape, result.dtype, result.device)
            self._nodes[result] = node
        elif isinstance(result, (tuple, list)):
            for index, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._nodes[part] = getitem = self.graph.call_function(operator.getitem, (node, index))
                    getitem.meta["kind"] = (part.shape, part.dtype, part.device)

    def finish(self, result: Tensor) -> tuple[fx.Graph, dict[str, Tensor]]:
        self.graph.output(self._node(result))
        self.graph.eliminate_dead_code()
        return self.graph, self.constants
