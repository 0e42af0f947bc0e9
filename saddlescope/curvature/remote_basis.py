"""A Krylov basis that several processes keep together, as the one that drives sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from saddlescope.curvature.member import Command, Op

RECENT = 2  # the three-term recurrence asks for no older one


class Commander(Protocol):
    """Has all ranks carry out a command."""

    def command(self, command: Command, payload: Tensor | None = None, whole: Tensor | None = None) -> Tensor: ...


class RemoteBasis:
    """A `Basis` whose vectors are scattered when they are kept; the last two are at hand whole as well.

    Args:
        driver: of the ranks.
        index: of the basis among the driver's.
        num_rows: how many vectors there is room for.
        like: a vector (n,).
    """

    def __init__(self, driver: Commander, index: int, num_rows: int, like: Tensor) -> None:
        self.num_rows, self.size, self.dtype, self.device = num_rows, like.numel(), like.dtype, like.device
        self._driver, self._command = driver, Command(Op.KEEP, dtype=like.dtype, index=index)
        self._recent: dict[int, Tensor] = {}
        driver.command(self._asking(Op.RESERVE, num_rows, length=self.size))

    def _asking(self, op: Op, count: int = 0, *, length: int = 0) -> Command:
        return replace(self._command, op=op, count=count, length=length)

    def _vector(self) -> Tensor:
        return torch.empty(self.size, dtype=self.dtype, device=self.device)

    def place(self, index: int) -> Tensor:
        """A vector here."""
        self._recent.pop(index, None)
        self._recent[index] = self._vector()
        return self._recent[index]

    def keep(self, index: int) -> None:
        """One scatter."""
        self._driver.command(self._asking(Op.KEEP, index), whole=self._recent[index])
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def row(self, index: int) -> Tensor:
        """One gather, unless it was kept last or before that."""
        if index in self._recent:
            return self._recent[index]
        vector = self._vector()
        self._driver.command(self._asking(Op.ROW, index), whole=vector)
        return vector

    def rows(self, count: int) -> Tensor:
        """A gather of each."""
        return torch.stack([self.row(index) for index in range(count)])

    def project_out(self, vector: Tensor, count: int) -> Tensor:
        """One scatter and one gather."""
        return self._driver.command(self._asking(Op.PROJECT_OUT, count), whole=vector)

    def project_out_newest(self, index: int) -> Tensor:
        """Two scatters and two gathers, and one more scatter to keep q_index as it is now."""
        kept, newest = self._recent[index], self._recent[index + 1]
        coefficients = torch.stack([self.project_out(vector, index) for vector in (kept, newest)])
        self._driver.command(self._asking(Op.KEEP, index), whole=kept)
        return coefficients

    def combine(self, coefficients: Tensor) -> Tensor:
        """One gather."""
        vector = self._vector()
        self._driver.command(self._asking(Op.COMBINE), coefficients.to(vector)[None], vector)
        return vector

    def rotate(self, rotation: Tensor) -> None:
        """Nothing moves but R."""
        p, k = rotation.shape
        newest = self._recent.get(k)
        self._driver.command(self._asking(Op.ROTATE), rotation.to(self.device, self.dtype).contiguous())
        self._recent = {} if newest is None else {p: newest}
