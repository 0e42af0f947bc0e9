"""The whole Hessian and all its eigenvalues, for n up to a few thousand."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from saddlescope.curvature.operator import HessianOperator

BLOCK = 16
FEW = 4
INVERSE_STEPS = 3
OFFSET = 8
APART = 1000
SMALL = 256
EPS64 = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class DenseSpectrum:
    """All eigenvalues of a symmetrized Hessian, and its eigenvectors.

    Attributes:
        hessian: (n, n) float64, symmetric.
        eigenvalues: (n,) float64, ascending.
        asymmetry: estimate of ‖(H − Hᵀ)/2‖₂ before symmetrizing.
    """

    hessian: Tensor
    eigenvalues: Tensor
    asymmetry: float

    @cached_property
    def eigenvectors(self) -> Tensor:
        """(n, n) float64, columns. Costs four times what the eigenvalues did, once: ask `invariant_basis` for a few."""
        vectors: Tensor = torch.linalg.eigh(self.hessian).eigenvectors
        return vectors

    def invariant_basis(self, start: int, stop: int) -> Tensor:
        """Orthonormal columns (n, stop − start) that span the eigenvectors of these eigenvalues, in no order within them.

        By inverse iteration where they are few and apart from the others, if its residual is that of an eigensolver; else
        from all. Orthogonal to another such basis up to rounding over the gap between their eigenvalues.
        """
        values = self.eigenvalues
        outside = [values[start] - values[start - 1]] if start else []
        outside += [values[stop] - values[stop - 1]] if stop < values.numel() else []
        is_apart = all(gap.item() > APART * self.rounding for gap in outside)
        is_cheaper = values.numel() >= SMALL and stop - start <= FEW and "eigenvectors" not in vars(self)
        if is_apart and is_cheaper:
            found = self._by_inverse_iteration(start, stop)
            if found is not None:
                return found
        return self.eigenvectors[:, start:stop]

    def _by_inverse_iteration(self, start: int, stop: int) -> Tensor | None:
        """V ← orth((H − σI)⁻¹V), σ beside the eigenvalues asked; None where their span is not found to rounding."""
        n, device = self.eigenvalues.numel(), self.eigenvalues.device
        wanted = self.eigenvalues[start:stop]
        solve = self._shifted_solve(start, stop)
        generator = torch.Generator().manual_seed(0)
        vectors = torch.randn(n, stop - start, generator=generator, dtype=torch.float64).to(device)
        for _ in range(INVERSE_STEPS):
            vectors = torch.linalg.qr(solve(vectors)).Q
        products = self.hessian @ vectors
        projected = vectors.T @ products
        residual = (products - vectors @ projected).norm().item()
        missed = (torch.linalg.eigvalsh((projected + projected.T) / 2) - wanted).abs().max().item()
        return vectors if residual <= OFFSET * self.rounding and missed <= self.rounding else None

    def _shifted_solve(self, start: int, stop: int) -> Callable[[Tensor], Tensor]:
        """V to ±(H − σI)⁻¹V. At an end of the spectrum σ lies outside it, so that Cholesky's factors do, for half the time."""
        n, nudge = self.eigenvalues.numel(), OFFSET * self.rounding
        wanted = self.eigenvalues[start:stop]
        is_end = start == 0 or stop == n
        sign = -1.0 if stop == n and start > 0 else 1.0
        shift = (wanted[0 if sign > 0 else -1] if is_end else wanted.mean()).item() - sign * nudge
        shifted = self.hessian * sign
        shifted.diagonal().sub_(sign * shift)
        if is_end:
            factor, failed = torch.linalg.cholesky_ex(shifted)
            if not failed:
                return lambda vectors: torch.cholesky_solve(vectors, factor)
        factors, pivots = torch.linalg.lu_factor(shifted)
        return lambda vectors: torch.linalg.lu_solve(factors, pivots, vectors)

    @property
    def scale(self) -> float:
        """max|λ|."""
        return self.eigenvalues.abs().max().item()

    @property
    def rounding(self) -> float:
        """A bound on what the eigensolver adds to an eigenvalue's error: a small multiple of √n·ε·max|λ|."""
        return max(8.0, math.sqrt(self.eigenvalues.numel())) * EPS64 * self.scale


def dense_hessian(operator: HessianOperator, *, on_progress: Callable[[float], None] | None = None) -> Tensor:
    """H (n, n) in float64, rows as computed: not symmetrized.

    Costs n products, in blocks where a first block shows that batching them is faster than one by one. What it shows is left
    in the operator's `row_block`; where that is known, nothing is measured.
    """
    size, dtype, device = operator.size, operator.objective.dtype, operator.theta.device
    hessian = torch.empty(size, size, dtype=torch.float64, device=device)

    unit = torch.zeros(size, dtype=dtype, device=device)

    def unit_rows(start: int, count: int) -> Tensor:
        rows = torch.zeros(count, size, dtype=dtype, device=device)
        rows[torch.arange(count), torch.arange(start, start + count)] = 1.0
        return rows

    def fill_row(index: int) -> None:
        unit[index] = 1.0
        hessian[index] = operator.matvec(unit)
        unit[index] = 0.0

    fill_row(0)
    began = time.perf_counter()
    single = min(4, size - 1)
    for index in range(1, 1 + single):
        fill_row(index)
    per_product = (time.perf_counter() - began) / max(single, 1)
    position = 1 + single
    if position < size and operator.row_block is None:
        counted = operator.num_matvecs
        block = min(BLOCK, size - position)
        if _batches_rightly(operator, unit_rows(position - 1, 2), hessian[position - 1]):
            began = time.perf_counter()
            with _quiet_vmap():
                together = operator.matmat(unit_rows(position, block))
            block = 1 if time.perf_counter() - began > per_product * block else block
        else:
            block = 1
        if block > 1:
            hessian[position : position + block] = together
            position += block
        else:
            operator.num_matvecs = counted  # a measurement, not rows of H
        operator.row_block = block
    while position < size:
        count = min(operator.row_block or 1, size - position)
        if count == 1:
            fill_row(position)
        else:
            with _quiet_vmap():
                hessian[position : position + count] = operator.matmat(unit_rows(position, count))
        position += count
        if on_progress is not None:
            on_progress(position / size)
    return hessian


def _batches_rightly(operator: HessianOperator, rows: Tensor, known: Tensor) -> bool:
    """Whether batched products work for every operation of L, and give `known` for the first row.

    Some operations have no batching rule and a few have a wrong one (torch 2.13's `group_norm` fails).
    """
    counted = operator.num_matvecs
    with _quiet_vmap():
        try:
            product = operator.matmat(rows)[0].double()
        except RuntimeError:
            return False
        finally:
            operator.num_matvecs = counted  # a check, not a row of H
    tolerance = 1e4 * torch.finfo(rows.dtype).eps * known.norm()
    return bool((product - known).norm() <= tolerance)


@contextmanager
def _quiet_vmap() -> Iterator[None]:
    # An operation without a batching rule is looped over by torch, correctly; its advice is for torch's developers.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def antisymmetric_norm(matrix: Tensor) -> float:
    """‖(A − Aᵀ)/2‖₂ (n, n) by twelve power steps, raised by half so that it seldom falls short."""
    skew = (matrix - matrix.T) / 2
    if not skew.any():
        return 0.0
    generator = torch.Generator(device="cpu").manual_seed(0)
    vector = torch.randn(matrix.shape[0], generator=generator, dtype=torch.float64).to(matrix.device)
    norm = 0.0
    for _ in range(12):
        vector = skew @ (vector / vector.norm())
        norm = max(norm, vector.norm().item())
        if norm == 0.0:
            break
    return 1.5 * max(norm, skew.abs().max().item())


def dense_spectrum(operator: HessianOperator, *, on_progress: Callable[[float], None] | None = None) -> DenseSpectrum:
    """All eigenvalues of H through n products and O(n³) flops in float64; eigenvectors when they are asked for."""
    hessian = dense_hessian(operator, on_progress=on_progress)
    asymmetry = antisymmetric_norm(hessian)
    hessian = (hessian + hessian.T) / 2
    return DenseSpectrum(hessian, torch.linalg.eigvalsh(hessian), asymmetry)
