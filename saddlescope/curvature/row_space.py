"""Where the Hessian of a batch lives when the batch has fewer rows than its first layer has inputs.

A weight W (h, d) that meets constant inputs X (m, d) alone, as XWᵀ, moves the loss only by what W does to the rows of X. With
Xᵀ = QR, Q (d, r) orthonormal and r = min(m, d), V and VQQᵀ have the same product, whose rows lie in the span of Q as well. So H
is zero on the complement of {VQᵀ}, and V ↦ VQ is an isometry of all else: the recorded product, with XQ in the place of X,
is H in coordinates that are fewer, at fewer flops.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from saddlescope.curvature.linear_map import LinearMap, copied

aten = torch.ops.aten

WORTHWHILE = 0.9
"""The coordinates are taken where they are at most this share of the parameters."""


@dataclass(frozen=True)
class Block:
    """One weight: entries [start, start + shape[0]·shape[1]) of v, and Q of the inputs that it meets.

    Attributes:
        is_transposed: the weight is (d, h) and meets the inputs as XW.
    """

    start: int
    shape: tuple[int, int]
    is_transposed: bool
    span: Tensor

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def reduced_shape(self) -> tuple[int, int]:
        rank = self.span.shape[1]
        return (rank, self.shape[1]) if self.is_transposed else (self.shape[0], rank)

    @property
    def reduced_size(self) -> int:
        return math.prod(self.reduced_shape)

    def reduce(self, entries: Tensor) -> Tensor:
        """V (h·d,) to VQ (h·r,)."""
        weight = entries.view(self.shape)
        return (self.span.T @ weight if self.is_transposed else weight @ self.span).reshape(-1)

    def expand(self, entries: Tensor) -> Tensor:
        """Z (h·r,) to ZQᵀ (h·d,)."""
        weight = entries.view(self.reduced_shape)
        return (self.span @ weight if self.is_transposed else weight @ self.span.T).reshape(-1)


@dataclass
class RowSpace:
    """A subspace of Rⁿ, invariant under the Hessian of one batch, on whose complement that Hessian is zero.

    Attributes:
        size: n.
        blocks: the weights that have fewer coordinates, by their place in v.
        weight: of the batch in L.
        product: the Hessian in coordinates, and one entry more that it takes to zero: (rank + 1,) to (rank + 1,). None where it
            had to be let go for want of memory.
    """

    size: int
    blocks: tuple[Block, ...]
    weight: float
    product: LinearMap | None

    @property
    def rank(self) -> int:
        """How many coordinates there are."""
        return self.size - sum(block.size - block.reduced_size for block in self.blocks)

    def reduce(self, vector: Tensor) -> Tensor:
        """The coordinates (rank,) of v's part in the subspace, v (n,)."""
        return torch.cat([block.reduce(part) if block else part for block, part in self._parts(vector)])

    def expand(self, coordinates: Tensor) -> Tensor:
        """The vector (n,) with these coordinates (rank,), as long as they are."""
        parts, start = list[Tensor](), 0
        for block, length in self._lengths():
            count = block.reduced_size if block else length
            part = coordinates[start : start + count]
            parts.append(block.expand(part) if block else part)
            start += count
        return torch.cat(parts)

    def _parts(self, vector: Tensor) -> Iterator[tuple[Block | None, Tensor]]:
        blocks, lengths = zip(*self._lengths(), strict=True)
        yield from zip(blocks, torch.split(vector, list(lengths)), strict=True)

    def _lengths(self) -> Iterator[tuple[Block | None, int]]:
        """The blocks, and None for what lies between them, with their numbers of entries in v."""
        end = 0
        for block in self.blocks:
            if block.start > end:
                yield None, block.start - end
            yield block, block.size
            end = block.start + block.size
        if end < self.size:
            yield None, self.size - end


def find_row_space(linear: LinearMap, *, weight: float, num_matvecs: int) -> RowSpace | None:
    """The row space of a recorded product, None where it does not show, or would not pay within so many products.

    Costs a QR factorization of the inputs, 4dm² flops, of which the products save more.
    """
    layout = _layout(linear.graph)
    if layout is None:
        return None
    spans = dict[int, Tensor]()
    blocks, uses = list[Block](), list[_Use]()
    starts = [0, *torch.tensor(layout.sizes).cumsum(0).tolist()]
    for use in layout.weights(linear.constants):
        num_rows, width = use.inputs.shape
        height = math.prod(use.shape) // width
        if num_rows >= width or num_matvecs * height * (width - num_rows) < width * num_rows:
            continue
        if use.inputs.data_ptr() not in spans:
            spans[use.inputs.data_ptr()] = torch.linalg.qr(use.inputs.double().T).Q.to(use.inputs)
        blocks.append(Block(starts[use.index], use.shape, use.is_transposed, spans[use.inputs.data_ptr()]))
        uses.append(use)
    size = sum(layout.sizes)
    rank = size - sum(block.size - block.reduced_size for block in blocks)
    if rank > WORTHWHILE * size:
        return None
    return RowSpace(size, tuple(blocks), weight, _reduced(linear, layout, uses, blocks))


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
        for index in self.pieces:
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


def _reduced(linear: LinearMap, layout: _Layout, uses: Sequence[_Use], blocks: Sequence[Block]) -> LinearMap:
    """The record with the inputs' coordinates in the place of the inputs, and one entry more."""
    graph, constants = fx.Graph(), dict(linear.constants)
    new = dict[fx.Node, fx.Node]()
    graph.output(graph.graph_copy(linear.graph, new))
    sizes = list(layout.sizes)
    for number, (use, block) in enumerate(zip(uses, blocks, strict=True)):
        sizes[use.index] = block.reduced_size
        short = (use.inputs.double() @ block.span.double()).to(use.inputs)
        for name, value in (("read", short), ("written", short.T if use.is_transposed else short)):
            constants[f"{name}{number}"] = value.contiguous()
        new[use.view].args = (new[use.view].args[0], list(block.reduced_shape))
        for reader in use.readers:
            _replace_constant(graph, new[reader], -2, f"read{number}")
        _replace_constant(graph, new[use.written], -2 if use.is_transposed else -1, f"written{number}")
        new[use.flat].args = (new[use.flat].args[0], [block.reduced_size])
        for node in (layout.pieces[use.index], use.view, *use.view.users, use.written, use.flat, layout.cat):
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


def _replace_constant(graph: fx.Graph, node: fx.Node, position: int, name: str) -> None:
    args = list(node.args)
    with graph.inserting_before(node):
        args[position] = graph.get_attr(name)
    node.args = tuple(args)


def _only_user(node: fx.Node, target: object) -> fx.Node | None:
    (user,) = node.users if len(node.users) == 1 else (None,)
    return user if user is not None and user.target is target else None


def _reads(reader: fx.Node, weight: fx.Node) -> bool:
    """Whether a node is a constant times the weight, plus what does not hold the weight."""
    is_product = reader.target in (aten.mm.default, aten.addmm.default)
    return is_product and reader.args[-1] is weight and not any(value is weight for value in reader.args[:-1])


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
