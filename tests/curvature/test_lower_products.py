"""Products with a lower triangular matrix from its parts are those with the matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from saddlescope.curvature.lower_products import lower_transposed_times, plus_lower, times_lower


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_parts_of_a_triangle_multiply_like_the_whole(size: int) -> None:
    generator = torch.Generator().manual_seed(size)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lower, half = torch.tril(drawn(size, size)), size // 2
    rows, columns, bias = drawn(5, size), drawn(size, 5), drawn(5)
    top, bottom, left, corner = lower[:half, :half], lower[half:], lower[:, :half], lower[half:, half:]
    for total in (None, bias, drawn(size, 5)):
        expected = lower @ columns + (0 if total is None else total)
        assert torch.allclose(plus_lower(total, top, bottom, columns), expected, rtol=0, atol=1e-12)
    assert torch.allclose(times_lower(rows, left, corner), rows @ lower, rtol=0, atol=1e-12)
    assert torch.allclose(lower_transposed_times(left, corner, columns), lower.T @ columns, rtol=0, atol=1e-12)
