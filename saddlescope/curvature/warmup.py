"""The first call of a vector function, on one thread, before any that counts.

MKL finds the kernel of an elementwise function at its first call, and 2024.2 loses a race between two threads there: for
that one call, one of them gets a kernel of low accuracy (pytorch issue 188792). Measured: 8 of 108 first evaluations of a
loss with a sine had elements off by 1e-11, and none of 198 after this.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

VECTOR_FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(torch.acos, torch.acosh, torch.asin, torch.asinh, torch.atan, torch.atanh, torch.cos, torch.cosh),
    *(torch.erf, torch.erfc, torch.erfinv, torch.exp, torch.exp2, torch.expm1, torch.lgamma, torch.log, torch.log10),
    *(torch.log1p, torch.log2, torch.reciprocal, torch.rsqrt, torch.sin, torch.sinh, torch.sqrt, torch.tan),
    *(torch.tanh, torch.trunc),
)
TOO_SHORT_TO_SHARE = 64  # elements: torch hands them to one thread


@cache
def settle_vector_functions() -> None:
    """Call each elementwise function that torch hands to MKL's vector library, once a process."""
    for dtype in (torch.float32, torch.float64):
        values = torch.full((TOO_SHORT_TO_SHARE,), 0.5, dtype=dtype)
        for function in VECTOR_FUNCTIONS:
            function(values)
