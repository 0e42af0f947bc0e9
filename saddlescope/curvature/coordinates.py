"""What a Lanczos run from random starts in Rⁿ works on: Rⁿ itself, or the few coordinates that the run can reach.

Where H = decay·I on the complement of a subspace S, the Krylov space of a start x lies in S and one direction e beside it, that of
x's part outside S. In the coordinates of S and e the run has the same α, β and norms as in Rⁿ, so that bounds and quadrature,
which speak of a uniform start in Rⁿ, hold as they are.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.row_space import RowSpace


class Coordinates(Protocol):
    """Where the vectors of a run live; isometric to a subspace of Rⁿ that H leaves invariant."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def matvec(self, vector: Tensor) -> Tensor:
        """H in these coordinates."""
        ...

    def start(self, generator: torch.Generator) -> Tensor:
        """A uniform unit vector of Rⁿ, in the coordinates of its own Krylov space."""
        ...

    def lift(self, vector: Tensor) -> Tensor:
        """The vector (n,) with these coordinates, in the run whose start was drawn first."""
        ...


class AllCoordinates:
    """Rⁿ itself."""

    def __init__(self, operator: HessianOperator) -> None:
        self._operator, self.size, self.matvec = operator, operator.size, operator.matvec

    def start(self, generator: torch.Generator) -> Tensor:
        """Drawn as it is."""
        return _uniform(self._operator, generator)

    def lift(self, vector: Tensor) -> Tensor:
        """It is one already."""
        return vector


class RowSpaceCoordinates:
    """Those of a row space, and the length along e last. Keeps e of the first start, one vector (n,)."""

    def __init__(self, operator: HessianOperator, space: RowSpace) -> None:
        self._operator, self._space = operator, space
        self.size = space.rank + 1
        self._outside: Tensor | None = None

    def matvec(self, vector: Tensor) -> Tensor:
        """H is decay times the identity on e."""
        return self._operator.matvec_within(self._space, vector)

    def start(self, generator: torch.Generator) -> Tensor:
        """Two matrix products with each Q."""
        vector = _uniform(self._operator, generator)
        inside = self._space.reduce(vector)
        outside = vector.sub_(self._space.expand(inside))
        length = outside.norm()
        if self._outside is None:
            self._outside = outside.div_(length)
        return torch.cat([inside, length[None]])

    def lift(self, vector: Tensor) -> Tensor:
        """As long as it was."""
        assert self._outside is not None  # noqa: S101 - a run has a start
        return self._space.expand(vector[:-1]).add_(self._outside * vector[-1])


def coordinates_of(operator: HessianOperator) -> Coordinates:
    """The fewest that are known, for the vectors of one run."""
    space = operator.row_space()
    return AllCoordinates(operator) if space is None else RowSpaceCoordinates(operator, space)


def _uniform(operator: HessianOperator, generator: torch.Generator) -> Tensor:
    objective = operator.objective
    return sphere_vector(operator.size, generator=generator, dtype=objective.dtype, device=objective.device)
