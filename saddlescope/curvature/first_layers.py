"""Weights that meet constant inputs alone, found in the record of a product, and the record in coordinates of what they do.

Where the entries of a weight are read by products with one constant matrix and written by one product with the same matrix, XQ in
the place of X makes the recorded product that of H in fewer coordinates, at fewer flops; nothing else in the record changes. With
Xᵀ = QR, XQ is Rᵀ, a lower triangular matrix.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from saddlescope.curvature.linear_map import LinearMap, copied
from saddlescope.curvature.lower_products import lower_transposed_times, plus_lower, times_lower
from saddlescope.curvature.row_space import Block, RowSpace

aten = torch.ops.aten

WORTHWHILE = 0.9
"""The coordinates are taken where they are at most this share of the parameters."""
QR_IN_PRODUCTS = 2
"""A flop of the factorization in flops of a product: float64 takes twice as long as float32."""
FACTOR_BYTES = 40
"""An entry of the inputs in float64 as it is, as it is factored, and twice as Q, and once more in float32 with its coordinates."""


def find_row_space(linear: LinearMap, *, weight: float, num_matvecs: int, budget_bytes: int) -> RowSpace | None:
    """The row space of a recorded product, None where it does not show, or would not pay within so many products.

    Costs a QR factorization of the inputs in float64, 4dm² flops, of which the products save more, and the memory of some copies.
    """
    layout = _layout(linear.graph)
    if layout is None:
        return None
    factors = dict[object, tuple[Tensor, Tensor]]()
    blocks, uses, shorts = list[Block](), list[_Use](), list[Tensor]()
    starts = [0, *torch.tensor(layout.sizes).cumsum(0).tolist()]
    for use in layout.weights(linear.constants):
        num_rows, width = use.inputs.shape
        height = math.prod(use.shape) // width
        saved, price = num_matvecs * height * (width - num_rows), QR_IN_PRODUCTS * width * num_rows
        if num_rows >= width or saved < price or FACTOR_BYTES * use.inputs.numel() > budget_bytes:
            continue
        place = (use.inputs.data_ptr(), use.inputs.shape, use.inputs.stride())
        if place not in factors:
            q, r = torch.linalg.qr(use.inputs.double().T)
            factors[place] = q.to(use.inputs), r.T.to(use.inputs)
        span, short = factors[place]
        blocks.append(Block(starts[use.index], use.shape, use.is_transposed, span))
        uses.append(use)
        shorts.append(short)
    size = sum(layout.sizes)
    rank = size - sum(block.size - block.reduced_size for block in blocks)
    if rank > WORTHWHILE * size:
        return None
    return RowSpace(size, tuple(blocks), weight, _reduced(linear, layout, uses, blocks, shorts))


@dataclass(frozen=True)
class _Use:
    """A weight that only meets constant inputs X (m, d): its place among the parts of v, its shape, and the nodes to change."""

    index: int
    shape: tuple[int, int]
    is_transposed: bool
    inputs: Tensor
    view: fx.Node
    readers: tuple[fx.Node, ...]
    written: fx.Node
    flat: fx.Node


@dataclass(frozen=True)
class _Layout:
    """How a record takes v apart and puts Hv together: parts of these sizes, in this order, at both ends."""

    split: fx.Node
    sizes: Sequence[int]
    pieces: Mapping[int, fx.Node]
    cat: fx.Node

    def weights(self, constants: Mapping[str, Tensor]) -> Iterator[_Use]:
        for index in sorted(self.pieces):
            use = self._use(index, constants)
            if use is not None:
                yield use

    def _use(self, index: int, constants: Mapping[str, Tensor]) -> _Use | None:
        view = _only_user(self.pieces[index], aten.view.default)
        if view is None or not _is_matrix(view.args[1]):
            return None
        turned = _only_user(view, aten.t.default)
        source = turned or view
        inputs = [_constant(reader, -2, constants) for reader in source.users if _reads(reader, source)]
        if not inputs or len(inputs) < len(source.users):
            return None
        flat = _list_of(self.cat)[index]
        written = flat.args[0] if flat.target is aten.view.default and len(flat.users) == 1 else None
        if not isinstance(written, fx.Node) or written.target is not aten.mm.default or len(written.users) != 1:
            return None
        known = _constant(written, -1 if turned else -2, constants)
        first = inputs[0]
        if known is None or first is None or not all(value is not None and _is_same(first, value) for value in inputs):
            return None
        if not _is_same(known if turned else known.T, first):
            return None
        rows, columns = (int(length) for length in _list(view.args[1]))
        return _Use(index, (rows, columns), turned is None, first, view, tuple(source.users), written, flat)


def _layout(graph: fx.Graph) -> _Layout | None:
    nodes = list(graph.nodes)
    (vector,) = (node for node in nodes if node.op == "placeholder")
    split = _only_user(vector, aten.split_with_sizes.default)
    cat = nodes[-1].args[0]
    if split is None or len(split.args) != 2 or not isinstance(cat, fx.Node) or cat.target is not aten.cat.default:
        return None
    sizes = [int(length) for length in _list(split.args[1])]
    if len(cat.args) != 1 or len(_list_of(cat)) != len(sizes) or len(cat.users) != 1:
        return None
    pieces = {int(str(node.args[1])): node for node in split.users if node.target is operator.getitem}
    if len(pieces) != len(split.users):
        return None
    return _Layout(split, sizes, pieces, cat)


def _reduced(
    linear: LinearMap, layout: _Layout, uses: Sequence[_Use], blocks: Sequence[Block], shorts: Sequence[Tensor]
) -> LinearMap:
    """The record with the inputs' coordinates Rᵀ in the place of the inputs, and one entry more."""
    graph, constants = fx.Graph(), dict(linear.constants)
    new = dict[fx.Node, fx.Node]()
    graph.output(graph.graph_copy(linear.graph, new))
    sizes = list(layout.sizes)
    for number, (use, block, short) in enumerate(zip(uses, blocks, shorts, strict=True)):
        sizes[use.index] = block.reduced_size
        half = short.shape[0] // 2
        parts = {
            "top": short[:half, :half],
            "bottom": short[half:],
            "left": short[:, :half],
            "corner": short[half:, half:],
        }
        constants |= {f"{name}{number}": part.contiguous() for name, part in parts.items()}
        new[use.view].args = (new[use.view].args[0], list(block.reduced_shape))
        for reader in (new[node] for node in use.readers):
            total = reader.args[0] if reader.target is aten.addmm.default else None
            with graph.inserting_before(reader):
                halves = [graph.get_attr(f"{name}{number}") for name in ("top", "bottom")]
            reader.target, reader.args = plus_lower, (total, *halves, reader.args[-1])
        written = new[use.written]
        with graph.inserting_before(written):
            halves = [graph.get_attr(f"{name}{number}") for name in ("left", "corner")]
        if use.is_transposed:
            written.target, written.args = lower_transposed_times, (*halves, written.args[1])
        else:
            written.target, written.args = times_lower, (written.args[0], *halves)
        new[use.flat].args = (new[use.flat].args[0], [block.reduced_size])
        for node in (
            layout.pieces[use.index],
            use.view,
            *use.view.users,
            *use.readers,
            use.written,
            use.flat,
            layout.cat,
        ):
            new[node].meta.pop("kind", None)
    split, cat = new[layout.split], new[layout.cat]
    split.args = (split.args[0], [*sizes, 1])
    with graph.inserting_after(split):
        rest = graph.call_function(operator.getitem, (split, len(sizes)))
    with graph.inserting_after(rest):
        nothing = graph.call_function(aten.mul.Scalar, (rest, 0.0))
    cat.args = ([*_list_of(cat), nothing],)
    graph.eliminate_dead_code()
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    return LinearMap(copied(graph), {name: value for name, value in constants.items() if name in used})


def _only_user(node: fx.Node, target: object) -> fx.Node | None:
    (user,) = node.users if len(node.users) == 1 else (None,)
    return user if user is not None and user.target is target else None


def _reads(reader: fx.Node, weight: fx.Node) -> bool:
    """Whether a node is a constant times the weight, plus what does not hold the weight."""
    is_product = reader.target in (aten.mm.default, aten.addmm.default)
    is_plain = is_product and not reader.kwargs
    return is_plain and reader.args[-1] is weight and not any(value is weight for value in reader.args[:-1])


def _constant(node: fx.Node, position: int, constants: Mapping[str, Tensor]) -> Tensor | None:
    value = node.args[position]
    return constants[str(value.target)] if isinstance(value, fx.Node) and value.op == "get_attr" else None


def _is_same(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    is_one = first.data_ptr() == second.data_ptr() and first.stride() == second.stride()
    return is_one or torch.equal(first, second)


def _is_matrix(shape: object) -> bool:
    return isinstance(shape, (list, tuple)) and len(shape) == 2 and all(isinstance(length, int) for length in shape)


def _list(value: object) -> list[int]:
    assert isinstance(value, (list, tuple))  # noqa: S101 - as the operators' schemas have it
    return list(value)


def _list_of(cat: fx.Node) -> list[fx.Node]:
    value = cat.args[0]
    assert isinstance(value, (list, tuple))  # noqa: S101 - as the operator's schema has it
    return [part for part in value if isinstance(part, fx.Node)]
