"""Products with a lower triangular matrix L (m, m), the upper right quarter of which is left out: three quarters of the flops.

L comes in parts that lie in one piece each. Nothing is differentiated or batched here.
"""

from __future__ import annotations

import torch
from torch import Tensor


def plus_lower(total: Tensor | None, top: Tensor, bottom: Tensor, factor: Tensor) -> Tensor:
    """total + L·factor (m, h), where total broadcasts to that or is nothing; L[:k, :k] is `top` and L[k:] is `bottom`."""
    k, m, h = top.shape[0], bottom.shape[1], factor.shape[1]
    result = factor.new_empty(m, h)
    above = None if total is None else total.expand(m, h)
    for rows, part, entries in ((slice(k), top, factor[:k]), (slice(k, m), bottom, factor)):
        if above is None:
            torch.mm(part, entries, out=result[rows])
        else:
            torch.addmm(above[rows], part, entries, out=result[rows])
    return result


def times_lower(factor: Tensor, left: Tensor, corner: Tensor) -> Tensor:
    """factor·L (h, m); L[:, :k] is `left` and L[k:, k:] is `corner`."""
    (m, k), h = left.shape, factor.shape[0]
    result = factor.new_empty(h, m)
    torch.mm(factor, left, out=result[:, :k])
    torch.mm(factor[:, k:], corner, out=result[:, k:])
    return result


def lower_transposed_times(left: Tensor, corner: Tensor, factor: Tensor) -> Tensor:
    """Lᵀ·factor (m, h), the parts of L as for `times_lower`."""
    (m, k), h = left.shape, factor.shape[1]
    result = factor.new_empty(m, h)
    torch.mm(left.T, factor, out=result[:k])
    torch.mm(corner.T, factor[k:], out=result[k:])
    return result
