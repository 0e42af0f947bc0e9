"""Averages over blocks of an image as a product with a fixed matrix: on a CPU several times faster than the pooling loops.

Windows of h × w that neither overlap nor leave anything over: h rows of W numbers lie one after another in memory, so that
y = x.view(…, h·W) P with P (h·W, W/w), P_ij = 1/(h·w) where number i falls into block j. The backward pass is its transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

aten = torch.ops.aten

WIDEST = 64
"""Multiplications a number, W/w: beyond it the loops are as fast."""

DEFAULTS: tuple[object, ...] = (None, [], 0, False, True, None)
"""Of kernel size, stride, padding, ceil_mode, count_include_pad, divisor_override."""


def pool_by_products(graph: fx.Graph, add_constant: Callable[[Tensor], fx.Node]) -> None:
    """Rewrite such poolings in `graph`, whose nodes carry shape, dtype and device of their value; others stay."""
    for node in list(graph.nodes):
        if node.target not in (aten.avg_pool2d.default, aten.avg_pool2d_backward.default) or "kind" not in node.meta:
            continue
        source = node.args[0]
        is_backward = node.target is aten.avg_pool2d_backward.default
        if not isinstance(source, fx.Node) or "kind" not in source.meta:
            continue
        shape, dtype, device = node.meta["kind"]
        image = shape if is_backward else source.meta["kind"][0]
        window = _window(image, node.args[2 if is_backward else 1 :])
        if window is None or device.type != "cpu":
            continue
        matrix = _averaging(*window, image[-1]).to(dtype)
        with graph.inserting_before(node):
            factor = add_constant(matrix.T.contiguous() if is_backward else matrix)
            width = matrix.shape[1 if is_backward else 0]
            rows = graph.call_function(aten.reshape.default, (source, [-1, width]))
            product = graph.call_function(aten.mm.default, (rows, factor))
            pooled = graph.call_function(aten.view.default, (product, list(shape)))
        pooled.meta["kind"] = node.meta["kind"]
        node.replace_all_uses_with(pooled)
        graph.erase_node(node)


def _window(image: Sequence[int], settings: Sequence[object]) -> tuple[int, int] | None:
    """(h, w) if the windows tile the image (…, H, W); `settings` are the pooling's, from its kernel size on."""
    given = list(settings) + list(DEFAULTS[len(settings) :])
    kernel, stride, padding, ceil_mode, _, divisor = given
    if not isinstance(kernel, list) or divisor is not None or ceil_mode or padding not in (0, [0], [0, 0]):
        return None
    height, width = kernel if len(kernel) == 2 else (kernel[0], kernel[0])
    if stride not in ([], kernel, [height, width]) or image[-2] % height or image[-1] % width:
        return None
    return (height, width) if image[-1] // width <= WIDEST else None


def _averaging(height: int, width: int, columns: int) -> Tensor:
    """P (height·columns, columns/width)."""
    blocks = torch.eye(columns // width, dtype=torch.float64).repeat_interleave(width, dim=0)
    return blocks.repeat(height, 1) / (height * width)
