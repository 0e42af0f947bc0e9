"""Two-pass Lanczos: the outermost Ritz vectors in the memory of five vectors, for twice the products.

The first pass keeps only the coefficients of the three-term recurrence; the second repeats it and sums the Ritz vectors up
(Cullum, Willoughby 1985). Without reorthogonalization no certificate and no quadrature may rest on these coefficients; the
vectors' own Rayleigh quotients prove what they prove.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import Matvec, tridiagonal
from saddlescope.curvature.orthogonal import accurate_dot, accurate_norm, breakdown_tol


def outermost_vectors(matvec: Matvec, start: Tensor, *, num_matvecs: int) -> tuple[Tensor, Tensor]:
    """Unit Ritz vectors (n,) of the lowest and the highest Ritz value.

    Costs at most `num_matvecs` products, half of them in each pass, or two where fewer are allowed.
    """
    alpha: list[float] = []
    beta: list[float] = []
    steps = max(1, min(num_matvecs // 2, start.numel()))
    for _, a, b in _recurrence(matvec, start, steps):
        alpha.append(a)
        beta.append(b)
        if b <= breakdown_tol(alpha, beta, start.dtype):
            break
    diagonal = torch.tensor(alpha, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(tridiagonal(diagonal, torch.tensor(beta[:-1], dtype=torch.float64)))
    reach = torch.finfo(start.dtype).eps ** 0.5 * values.abs().max()
    # Lost orthogonality repeats a converged Ritz value; the start vector's part in its eigenspace is well defined still.
    ends = [(values - end).abs() <= reach for end in (values[0], values[-1])]
    low, high = ((vectors[:, same] @ vectors[0, same]).tolist() for same in ends)
    lowest, highest = torch.zeros_like(start), torch.zeros_like(start)
    for step, (vector, _, _) in enumerate(_recurrence(matvec, start, len(alpha))):
        lowest.add_(vector, alpha=low[step])
        highest.add_(vector, alpha=high[step])
    return lowest.div_(accurate_norm(lowest)), highest.div_(accurate_norm(highest))


def _recurrence(matvec: Matvec, start: Tensor, steps: int) -> Iterator[tuple[Tensor, float, float]]:
    """(q_j, α_j, β_j) for j = 1…steps; the same bits every time."""
    previous, vector, coupling = torch.zeros_like(start), start / accurate_norm(start), 0.0
    for _ in range(steps):
        following = matvec(vector) - coupling * previous
        alpha = accurate_dot(following, vector)
        following.sub_(vector, alpha=alpha)
        coupling = accurate_norm(following)
        yield vector, alpha, coupling
        if coupling == 0.0:
            return
        previous, vector = vector, following.div_(coupling)
