"""A straight-line program that writes into what it no longer needs: a pass over memory and an allocation less a call.

c + a·b for matrices copies c and adds to the copy; where nobody reads c again, it adds to c. The same for elementwise operations.
"""

from __future__ import annotations

import torch
from torch import fx

aten = torch.ops.aten

WRITING: dict[object, torch._ops.OpOverload] = {
    aten.addmm.default: aten.addmm_.default,
    aten.baddbmm.default: aten.baddbmm_.default,
    aten.addcmul.default: aten.addcmul_.default,
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.mul.Scalar: aten.mul_.Scalar,
    aten.div.Scalar: aten.div_.Scalar,
}
# These give memory that nothing else refers to, whatever their arguments are.
FRESH = {*WRITING, *WRITING.values(), aten.mm.default, aten.bmm.default, aten.convolution.default}


def reuse_memory(graph: fx.Graph) -> None:
    """Let operations of `graph` overwrite their first argument where it is fresh, of their own kind and read by them alone."""
    for node in graph.nodes:
        if node.target not in WRITING or not node.args:
            continue
        target = node.args[0]
        if (
            isinstance(target, fx.Node)
            and target.target in FRESH
            and len(target.users) == 1
            and target not in _nodes(node.args[1:])
            and target.meta.get("kind") is not None
            and target.meta.get("kind") == node.meta.get("kind")
        ):
            node.target = WRITING[node.target]


def _nodes(values: tuple[object, ...]) -> set[fx.Node]:
    return {value for value in values if isinstance(value, fx.Node)}
