"""Where the vectors of a Krylov basis are kept, and all that the iterations ask of them there.

On one device the basis is one tensor; over several processes each keeps n/p entries of every vector (`remote_basis.RemoteBasis`).
Vectors come and go whole, so that α, β and every decision are made in one place.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

COLUMNS = 2**16


class Basis(Protocol):
    """Vectors q_0, q_1, … (n,), wherever they are: each is worked out in its `place`, and kept by `keep`."""

    @property
    def num_rows(self) -> int:
        """How many vectors there is room for."""
        ...

    @property
    def size(self) -> int:
        """n."""
        ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device:
        """Where vectors come and go."""
        ...

    def place(self, index: int) -> Tensor:
        """Room (n,) in which q_index is worked out; it holds until the vector is kept."""
        ...

    def keep(self, index: int) -> None:
        """What stands in the place of q_index is q_index."""
        ...

    def row(self, index: int) -> Tensor:
        """q_index (n,), not to be written."""
        ...

    def rows(self, count: int) -> Tensor:
        """The first vectors (count, n), not to be written; all of them in one place."""
        ...

    def project_out(self, vector: Tensor, count: int) -> Tensor:
        """v − QᵀQv for the first `count` vectors, in place and in one pass; Qv (count,) as it was before."""
        ...

    def project_out_newest(self, index: int) -> Tensor:
        """`project_out` of q_index, which is kept, and of what stands in the place after it, over the vectors before q_index.

        The answer is Qv (2, index) of both. Reads those vectors no more often than for one.
        """
        ...

    def combine(self, coefficients: Tensor) -> Tensor:
        """Σ_j c_j q_j (n,) over the first k vectors, c (k,)."""
        ...

    def rotate(self, rotation: Tensor) -> None:
        """R (p, k), p < k: the first p vectors become R times the first k, and q_p becomes what q_k was."""
        ...


class Bases(Protocol):
    """Where bases are made.

    Attributes:
        num_parts: over how many devices the entries of a vector are spread.
    """

    @property
    def num_parts(self) -> int: ...

    def reserve(self, num_rows: int, like: Tensor) -> Basis:
        """Room for vectors like this one (n,)."""
        ...


class WholeBasis:
    """A basis in one tensor (rows, n) of which the system commits what is written."""

    def __init__(self, storage: Tensor) -> None:
        self.storage = storage
        self.num_rows, self.size = storage.shape
        self.dtype, self.device = storage.dtype, storage.device

    def place(self, index: int) -> Tensor:
        """The row itself."""
        return self.storage[index]

    def keep(self, index: int) -> None:
        """It is there already."""

    def row(self, index: int) -> Tensor:
        """A view."""
        return self.storage[index]

    def rows(self, count: int) -> Tensor:
        """A view."""
        return self.storage[:count]

    def project_out(self, vector: Tensor, count: int) -> Tensor:
        """Reads the vectors twice."""
        known = self.storage[:count]
        coefficients = known @ vector
        vector.addmv_(known.T, coefficients, alpha=-1)
        return coefficients

    def project_out_newest(self, index: int) -> Tensor:
        """Reads the vectors twice."""
        known, pair = self.storage[:index], self.storage[index : index + 2]
        coefficients = pair @ known.T
        pair.addmm_(coefficients, known, alpha=-1)
        return coefficients

    def combine(self, coefficients: Tensor) -> Tensor:
        """One pass."""
        combined: Tensor = coefficients.to(self.storage) @ self.storage[: coefficients.numel()]
        return combined

    def rotate(self, rotation: Tensor) -> None:
        """In place."""
        rotate_rows(self.storage, rotation)


class OneDevice:
    """Bases are kept whole, where their vectors are."""

    num_parts = 1

    def reserve(self, num_rows: int, like: Tensor) -> WholeBasis:
        """One tensor, of ordinary pages: huge ones cost up to a tenth of a second where memory has no such pieces at hand."""
        return WholeBasis(like.new_empty(num_rows, like.numel()))


ONE_DEVICE = OneDevice()


def rotate_rows(storage: Tensor, rotation: Tensor) -> None:
    """`Basis.rotate` of the rows of a tensor, by columns, since they are replaced in place."""
    p, k = rotation.shape
    rotation = rotation.to(storage)
    for start in range(0, storage.shape[1], COLUMNS):
        columns = storage[: k + 1, start : start + COLUMNS]
        columns[:p] = rotation @ columns[:k]
        columns[p] = columns[k]
